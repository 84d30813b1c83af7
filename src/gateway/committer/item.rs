//! What can be committed.

use crate::api::problem::RunFault;
use crate::base::telemetry::chain;
use crate::run::cost::Bill;
use crate::run::loss::Loss;
use crate::runner::protocol::{Read, Reply, ToReplica};
use crate::runner::session::{FrameSender, Held};
use crate::store::StoreError;
use crate::store::checkpoints::{Change, Op, Schema};
use crate::store::runs::{Ending, Requeued};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use uuid::Uuid;

/// How soon the database is asked again that was away. However long it is, what replicas sent waits for it:
/// this gateway holds the runs, and nobody else ends them.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// What a replica is told that sends for an attempt that is over.
pub(super) const TAKEN_OVER: &str = "another attempt has taken the run over";

/// Run and number of an attempt.
pub type Key = (Uuid, i32);

/// What can be committed, in the order in which it happened.
pub enum Item {
    /// A checkpoint or a task's writes. Its bytes count as held until it is committed.
    /// `used` is all that its attempt has used until then, where that is news.
    Save { schema: Arc<Schema>, key: Key, op: Op, used: Option<Bill>, sender: FrameSender, held: Held },
    /// A question, answered when what came before it is committed.
    Read { schema: Arc<Schema>, key: Key, read: Box<Read>, sender: FrameSender, held: Held },
    /// A change of threads as a whole.
    Change {
        schema: Arc<Schema>,
        key: Key,
        id: u64,
        change: Change,
        only: Option<String>,
        sender: FrameSender,
        held: Held,
    },
    /// The attempt is over and the run is not: it waits for its next one. `loss` is what is held against it, `used` what
    /// it has used, where that is known.
    Requeue { key: Key, loss: Loss, used: Option<Bill>, done: oneshot::Sender<Requeued> },
    /// The run's end. What its replica sent for it counts as held until it is committed.
    End { schema: Arc<Schema>, ending: Box<Ending>, held: Option<Held>, done: oneshot::Sender<Ended> },
}

/// What became of a run's end.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// It is committed.
    Committed,
    /// The attempt was not live any more: somebody else ends the run.
    Fenced,
    /// The database did not take what the run sent: it ended with this instead.
    Rejected(RunFault),
}

/// Does what may be repeated, and again while the database is away, for as long as the gateway lives: a run
/// does not fail for that. What is of the statement itself is not repeated: it would be the same again.
pub(in crate::gateway) async fn patiently<T, F>(mut work: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    loop {
        match work().await {
            Err(error) if error.is_away() => {
                tracing::warn!(error = %chain(&error), "the database is away; it is tried again");
                tokio::time::sleep(RETRY_EVERY).await;
            }
            other => return other,
        }
    }
}

/// Answers a frame that wanted a reply.
pub(super) fn reply(sender: &FrameSender, reply: Reply) {
    if reply.id != 0 {
        let _ = sender.send(ToReplica::Reply(reply));
    }
}
