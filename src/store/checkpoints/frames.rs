//! The frames of the runner's contract that ask: reads, and changes of threads as a whole.

use super::manage::{self, Strategy};
use super::read::{Filter, list};
use super::{CheckpointError, Op, Schema};
use crate::runner::protocol::{Checkpoint, Manage, Read, Tuple, Writes};
use serde::Deserialize;
use sqlx::{PgConnection, PgPool};

impl From<Checkpoint> for Op {
    fn from(body: Checkpoint) -> Self {
        Self::Checkpoint(Box::new(body))
    }
}

impl From<Writes> for Op {
    fn from(body: Writes) -> Self {
        Self::Writes(body)
    }
}

impl Op {
    /// The number under which its reply is awaited; 0: none is.
    pub fn id(&self) -> u64 {
        match self {
            Self::Checkpoint(body) => body.id,
            Self::Writes(body) => body.id,
        }
    }
}

/// A change of threads as a whole, as `manage` frames ask for it (`PROTOCOL.md`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "op", content = "args", rename_all = "snake_case")]
pub enum Change {
    /// All of a thread goes.
    DeleteThread { thread_id: String },
    /// A thread's checkpoints, under another name too.
    CopyThread { source_thread_id: String, target_thread_id: String },
    /// What some runs wrote goes.
    DeleteForRuns { run_ids: Vec<String> },
    /// Old checkpoints go.
    Prune { thread_ids: Vec<String>, strategy: String },
}

impl Change {
    /// What a frame asks for.
    pub fn parse(frame: &Manage) -> Option<Self> {
        let args: serde_json::Value = serde_json::from_slice(&frame.args).ok()?;
        serde_json::from_value(serde_json::json!({ "op": frame.op, "args": args })).ok()
    }

    /// Whether it touches this thread alone. Removing what runs wrote is bound to the thread when it is done.
    pub fn is_within(&self, thread: &str) -> bool {
        match self {
            Self::DeleteThread { thread_id } => thread_id == thread,
            Self::CopyThread { source_thread_id, target_thread_id } => {
                source_thread_id == thread && target_thread_id == thread
            }
            Self::DeleteForRuns { .. } => true,
            Self::Prune { thread_ids, .. } => thread_ids.iter().all(|id| id == thread),
        }
    }
}

/// Answers a `read`.
pub async fn read(pool: &PgPool, schema: &Schema, frame: &Read) -> Result<Vec<Tuple>, CheckpointError> {
    let filter = Filter {
        thread_id: frame.thread_id.clone(),
        ns: frame.ns.clone(),
        checkpoint_id: frame.checkpoint_id.clone(),
        before: frame.before.clone(),
        metadata: frame.filter.clone(),
        limit: frame.limit,
    };
    list(pool, schema, &filter).await
}

/// Carries a change out; `only` binds it to one thread. The caller's transaction makes it whole.
pub async fn change(
    connection: &mut PgConnection,
    schema: &Schema,
    change: &Change,
    only: Option<&str>,
) -> Result<(), CheckpointError> {
    match change {
        Change::DeleteThread { thread_id } => manage::delete_thread(connection, schema, thread_id).await,
        Change::CopyThread { source_thread_id, target_thread_id } => {
            manage::copy_thread(connection, schema, source_thread_id, target_thread_id).await
        }
        Change::DeleteForRuns { run_ids } => manage::delete_for_runs(connection, schema, run_ids, only).await,
        Change::Prune { thread_ids, strategy } => {
            let strategy = Strategy::from_name(strategy).unwrap_or(Strategy::KeepLatest);
            manage::prune(connection, schema, thread_ids, strategy).await
        }
    }
}
