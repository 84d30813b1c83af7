//! What a run was asked to do, as its row keeps it.

use crate::api::chat::ChatConfig;
use serde::{Deserialize, Serialize};

/// What a run was asked to do, as it is kept until it is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RunRequest {
    /// A turn of `/v1/chat`.
    Chat {
        /// What the user said; empty where only `more` says what to do.
        message: String,
        /// Whether the answer holds messages and values.
        full: bool,
        /// What else it asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        more: Option<Box<ChatMore>>,
    },
}

/// What a turn may say beside its message. A field of its own, so that a server of before this finds the
/// message where it was.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChatMore {
    /// The thread's name, where the client gave it one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// The graph's input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<serde_json::Map<String, serde_json::Value>>,
    /// What open interrupts are answered with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
    /// The run's context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<serde_json::Map<String, serde_json::Value>>,
    /// The run's config.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<ChatConfig>,
}

/// An answer to interrupts; it may be null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resume {
    /// Any JSON, or a map by interrupt id.
    pub value: serde_json::Value,
}
