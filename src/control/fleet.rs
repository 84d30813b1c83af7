//! The replicas of one agent, each with its supervisor.

use super::evidence::Fault;
use crate::gateway::replica::Replica;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What `status` shows of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Ready replicas of the release that serves.
    pub ready: u32,
    /// Wanted ones.
    pub wanted: u32,
    /// Whether some of them are beginning, and none has crashed.
    pub is_beginning: bool,
    /// Why some are not ready.
    pub crashes: Option<Crashes>,
}

impl Default for Snapshot {
    /// Nothing is known yet: the server is beginning.
    fn default() -> Self {
        Self { ready: 0, wanted: 0, is_beginning: true, crashes: None }
    }
}

/// Replicas that ended on their own, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crashes {
    /// How the last one did.
    pub how: String,
    /// How many, each soon after its start.
    pub count: u32,
    /// When the next one starts.
    pub next_start: Instant,
}

impl Crashes {
    /// One line for people.
    pub fn in_words(&self, now: Instant) -> String {
        let times = if self.count > 1 { format!(", {} times in a row", self.count) } else { String::new() };
        let next = match self.next_start.saturating_duration_since(now).as_secs_f64().ceil() {
            seconds if seconds > 0.0 => format!("the next starts in {seconds:.0} s"),
            _ => "the next is starting".to_owned(),
        };
        format!("{}{times}; {next}", self.how)
    }
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
    Over {
        /// Why.
        fault: Fault,
        /// Whether runs were on it: one of them may have ended it, and its successors are none the worse for it.
        with_runs: bool,
    },
}

/// One replica.
pub struct Member {
    /// Its id.
    pub id: Uuid,
    /// The release that it was made for.
    pub release: Uuid,
    /// The rollout that made it.
    pub generation: Uuid,
    /// The release that it was made to serve beside, where that rollout replaces replicas one by one.
    pub beside: Option<Uuid>,
    /// How it is.
    pub state: watch::Receiver<MemberState>,
    /// Ends its supervisor.
    pub end: CancellationToken,
    /// When it was started or adopted.
    pub since: Instant,
    /// Whether its runs are being handed over: it is on standby.
    pub draining: bool,
    /// Whether it has been ready during the rollout that made it.
    pub was_ready: bool,
}

impl Member {
    /// How it is now.
    pub fn now(&self) -> MemberState {
        self.state.borrow().clone()
    }

    /// Whether it is not over.
    pub fn is_alive(&self) -> bool {
        !matches!(*self.state.borrow(), MemberState::Over { .. })
    }

    /// Whether it is over because its engine is: no fault of its own.
    pub fn ended_with_engine(&self) -> bool {
        matches!(&*self.state.borrow(), MemberState::Over { fault: Fault::Exited(exit), .. } if exit.with_engine)
    }

    /// Its connection and description, when it is ready.
    pub fn ready(&self) -> Option<(Arc<Replica>, Arc<Vec<u8>>)> {
        match self.now() {
            MemberState::Ready(replica, describe) if replica.is_alive() => Some((replica, describe)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn crashes_are_told_with_the_time_of_the_next_start() {
        let now = Instant::now();
        let how = "a replica ended with code 1".to_owned();
        let crashes = Crashes { how, count: 4, next_start: now + Duration::from_millis(7_200) };
        assert_eq!(crashes.in_words(now), "a replica ended with code 1, 4 times in a row; the next starts in 8 s");
        let once = Crashes { count: 1, ..crashes };
        assert_eq!(once.in_words(now + Duration::from_secs(9)), "a replica ended with code 1; the next is starting");
    }
}
