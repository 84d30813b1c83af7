//! `POST /agents/NAME/v1/chat`: one turn of a conversation.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use uuid::Uuid;

/// What a client sends.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatRequest {
    /// The conversation; any text. A new one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
    /// Who speaks; required, kept in the run's metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// What is said; required without `input` and `resume`. On a thread that waits it answers the open interrupt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The graph's input, instead of a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Map<String, Value>>,
    /// Answers the open interrupt: any JSON, or a map by interrupt id.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub resume: Option<Value>,
    /// The run's context, as the graph's context schema has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Map<String, Value>>,
    /// The run's config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ChatConfig>,
    /// Which graph, where the agent has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<String>,
    /// Whether the answer shall hold `messages` and `values`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub full: bool,
}

/// What of LangGraph's config a client may set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatConfig {
    /// What nodes read; keys that say where state lies are not the client's to set.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub configurable: Map<String, Value>,
    /// Tags of the run's traces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Kept with the run's checkpoints and traces.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    /// Super-steps of the run; the agent's own limit is the ceiling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recursion_limit: Option<u32>,
}

/// `null` is a value as well: an interrupt may be answered with it.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// What it gets.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
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
