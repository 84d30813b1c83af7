//! `GET /v1/agents/NAME/logs`: newline-delimited JSON, one [`LogLine`] each; an empty line says that the
//! stream lives.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What is asked for, as the query of the request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LogQuery {
    /// Only lines of this thread, as the client named it or by its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// Only lines of this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<Uuid>,
    /// Only lines of this replica: its id, or the end of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    /// How many of the lines that are there, the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lines: Option<usize>,
    /// Only those that were written after this time (RFC 3339); without `lines` all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Whether to go on with the lines that are written from now on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub follow: bool,
}

/// A line that a replica wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// When the engine got it (RFC 3339).
    pub at: String,
    /// Who wrote it.
    pub replica: Uuid,
    /// What it says, without the values of the agent's secrets.
    pub text: String,
}

/// A replica's id as logs and tables show it: its last eight digits.
pub fn short_replica(id: Uuid) -> String {
    let text = id.simple().to_string();
    text[text.len() - 8..].to_owned()
}
