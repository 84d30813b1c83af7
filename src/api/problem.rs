//! Problem JSON: errors on the wire (RFC 9457), with a stable `code`, hints and the ids to find them again by.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The media type of [`Problem`].
pub const MEDIA_TYPE: &str = "application/problem+json";

/// The code of a problem that passes: the server's database is away.
pub const DATABASE_AWAY: &str = "database-away";
/// The code of a problem that passes: the server's Docker Engine is away.
pub const ENGINE_AWAY: &str = "engine-away";

/// One error as clients see it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Problem {
    /// `urn:rapidclaw:problem:CODE`: what kind of problem, as a URI.
    #[serde(rename = "type")]
    pub kind: String,
    /// The HTTP status.
    pub status: u16,
    /// Stable, for programs to match on (`no-such-agent`).
    pub code: String,
    /// One short sentence, the same for each problem of this code.
    pub title: String,
    /// What it was this time.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What to do next, one line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// Names the request in the server's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Uuid>,
    /// The thread, where the problem is a run's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
    /// The run, where the problem is a run's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<Uuid>,
    /// What failed in the graph, where the problem is a run's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<RunFault>,
}

/// The failure of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunFault {
    /// The exception's type, or one of ours (`RunTimeout`, `ReplicaLost`).
    #[serde(rename = "type")]
    pub kind: String,
    /// Only for the exception types whose text may leave the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where the request did not fit the thread: the problem's code (`several-interrupts`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The open interrupts' ids, where the request has to name some of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interrupts: Vec<String>,
    /// The message where it may not leave the server, secrets blotted out: for the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What in the replica stopped the code, and what to do about it: for the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl RunFault {
    /// What a caller may see of it.
    #[must_use]
    pub fn told(&self) -> Self {
        Self { reason: None, hint: None, ..self.clone() }
    }
}

impl Problem {
    /// A problem with its status, stable code and title.
    pub fn new(status: u16, code: &str, title: &str) -> Self {
        Self {
            kind: format!("urn:rapidclaw:problem:{code}"),
            status,
            code: code.to_owned(),
            title: title.to_owned(),
            ..Self::default()
        }
    }

    /// Says what it was this time.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}
