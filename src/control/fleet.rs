//! The replicas of one agent, each with its supervisor.

use super::evidence::Fault;
use crate::gateway::replica::Replica;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What `status` shows of an agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Ready replicas of the release that serves.
    pub ready: u32,
    /// Wanted ones.
    pub wanted: u32,
}

/// How a replica is.
#[derive(Clone)]
pub enum MemberState {
    /// Its container is being made.
    Starting,
    /// Its container runs and its graphs are being loaded, or its connection is being made again.
    Loading,
    /// Runs can be given to it.
    Ready(Arc<Replica>, Arc<Vec<u8>>),
    /// It is over.
    Over(Fault),
}

/// One replica.
pub struct Member {
    /// Its id.
    pub id: Uuid,
    /// The rollout that made it.
    pub generation: Uuid,
    /// How it is.
    pub state: watch::Receiver<MemberState>,
    /// Ends its supervisor.
    pub end: CancellationToken,
    /// When it was started or adopted.
    pub since: Instant,
    /// Whether its runs are being handed over: it is on standby.
    pub draining: bool,
}

impl Member {
    /// How it is now.
    pub fn now(&self) -> MemberState {
        self.state.borrow().clone()
    }

    /// Whether it is not over.
    pub fn is_alive(&self) -> bool {
        !matches!(*self.state.borrow(), MemberState::Over(_))
    }

    /// Its connection and description, when it is ready.
    pub fn ready(&self) -> Option<(Arc<Replica>, Arc<Vec<u8>>)> {
        match self.now() {
            MemberState::Ready(replica, describe) if replica.is_alive() => Some((replica, describe)),
            _ => None,
        }
    }
}
