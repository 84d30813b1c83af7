//! A thread's state as one document: what a target keeps that writes no checkpoints.
//!
//! It is a checkpoint of its own kind: one row a thread and target, replaced with each run's end, whose only
//! channel holds the document's text. So it goes with its thread, is in each backup, is fenced as checkpoints
//! are, and LangGraph's own `PostgresSaver` can read it: nothing of the tables is new.

use super::batch::Op;
use super::error::{CheckpointError, failed};
use super::schema::{Frequent, Schema};
use crate::runner::protocol::Checkpoint;
use serde_json::{Value, json};
use sqlx::postgres::PgExecutor;
use uuid::Uuid;

/// The id of the one row.
const ID: &str = "document";
/// Its only channel.
const CHANNEL: &str = "document";

/// The namespace of a target's documents. LangGraph's begin with a node's name, and those of sub-agents' memories
/// with one colon and a name (`sub_agents.py`): this one is neither's.
const NAMESPACE: &str = "::";

fn namespace(target: &str) -> String {
    format!("{NAMESPACE}{target}")
}

/// A run's document, as it is committed with the run's end.
#[derive(Debug, Clone)]
pub struct Document {
    /// The thread that it is the state of.
    pub thread_id: String,
    /// The target that reads and writes it.
    pub target: String,
    /// The run that has written it.
    pub run: Uuid,
    /// Its JSON. Kept as it is, and never read here.
    pub text: String,
}

impl From<Document> for Op {
    fn from(document: Document) -> Self {
        let Document { thread_id, target, run, text } = document;
        // A string of JSON's: jsonb would change numbers and the order of keys, and holds no NUL.
        let value = Value::String(text).to_string();
        let checkpoint = format!(
            r#"{{"v": 4, "id": "{ID}", "ts": "{}", "channel_values": {{"{CHANNEL}": {value}}},
                "channel_versions": {{"{CHANNEL}": "{ID}"}}, "versions_seen": {{}}, "updated_channels": ["{CHANNEL}"]}}"#,
            jiff::Timestamp::now()
        );
        let metadata = json!({ "source": ID, "run_id": run, "graph_id": target });
        Self::Checkpoint(Box::new(Checkpoint {
            run: run.to_string(),
            attempt: 0,
            id: 0,
            thread_id,
            ns: namespace(&target),
            checkpoint_id: ID.to_owned(),
            parent_id: None,
            checkpoint: checkpoint.into_bytes().into(),
            metadata: metadata.to_string().into_bytes().into(),
            blobs: Vec::new(),
            usage: Vec::new(),
        }))
    }
}

/// The statement of [`document`].
fn document_sql() -> String {
    format!(
        "SELECT checkpoint -> 'channel_values' ->> '{CHANNEL}' FROM {{s}}.checkpoints
         WHERE thread_id = $1 AND checkpoint_ns = $2 AND checkpoint_id = '{ID}'"
    )
}

/// The document of a thread that a target has written, as text.
pub async fn document(
    executor: impl PgExecutor<'_>,
    schema: &Schema,
    thread_id: &str,
    target: &str,
) -> Result<Option<String>, CheckpointError> {
    let query =
        sqlx::query_scalar(schema.frequent(Frequent::Document, document_sql)).bind(thread_id).bind(namespace(target));
    let found: Option<Option<String>> = query.fetch_optional(executor).await.map_err(failed("read a document"))?;
    Ok(found.flatten())
}
