//! `POST /agents/NAME/v1/chat`: one turn of a conversation.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

/// What a client sends.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ChatRequest {
    /// The conversation; any text. A new one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
    /// Who speaks; required, kept in the run's metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// What is said; required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Which graph, where the agent has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<String>,
    /// Whether the answer shall hold `messages` and `values`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub full: bool,
}

/// What it gets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChatResponse {
    /// The conversation, as the client named it.
    pub thread_id: String,
    /// The run that answered.
    pub run_id: Uuid,
    /// The text of the last AI message; null when the graph interrupts.
    pub result: Option<String>,
    /// What the graph waits for; the next message on this thread resumes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupts: Option<Box<RawValue>>,
    /// All messages of the thread, with `full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Box<RawValue>>,
    /// All values of the thread's state, with `full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Box<RawValue>>,
}
