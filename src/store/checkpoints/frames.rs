//! The frames of the runner's contract that ask: reads, and changes of threads as a whole.

use super::manage::{self, Strategy};
use super::read::{Filter, list_within};
use super::{CheckpointError, Op, Schema};
use crate::runner::protocol::{Checkpoint, Manage, Read, Tuple, Writes};
use crate::store::postgres::HotConnection;
use serde::Deserialize;
use sqlx::PgConnection;

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

/// Most tuples of one answer.
const PAGE: u64 = 64;
/// An answer ends before it has more bytes than this; a tuple that is larger comes alone.
const PAGE_BYTES: usize = 16 << 20;
/// What a runner that does not know pages gets at most: its answer must be whole.
const WHOLE_BYTES: usize = 48 << 20;

/// A part of what was asked for.
#[derive(Debug, Default)]
pub struct Page {
    /// Newest first.
    pub tuples: Vec<Tuple>,
    /// Whether there may be more behind the last of them.
    pub more: bool,
}

/// Answers a `read`, or the first page of it.
pub async fn read(connection: &mut HotConnection, schema: &Schema, frame: &Read) -> Result<Page, CheckpointError> {
    let limit = if frame.pages { Some(frame.limit.unwrap_or(PAGE).min(PAGE)) } else { frame.limit };
    let filter = Filter {
        thread_id: frame.thread_id.clone(),
        ns: frame.ns.clone(),
        checkpoint_id: frame.checkpoint_id.clone(),
        before: frame.before.clone(),
        metadata: frame.filter.clone(),
        limit,
    };
    let most = if frame.pages { PAGE_BYTES } else { WHOLE_BYTES };
    let (tuples, cut) = list_within(connection, schema, &filter, most).await?;
    if cut && !frame.pages {
        return Err(CheckpointError::TooMuch(WHOLE_BYTES));
    }
    let is_full = frame.pages && frame.limit.is_none_or(|asked| asked > PAGE) && tuples.len() as u64 == PAGE;
    Ok(Page { tuples, more: cut || is_full })
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
