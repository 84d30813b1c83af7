//! What happened: releases, rollouts, runs and threads, as lists and as single ones. Times are RFC 3339.

use super::control::{PhaseTime, RolloutFailure};
use crate::release::state::{Phase, RolloutState};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How much of a list is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ListQuery {
    /// How many, the newest first; 20 where it is not given, 1000 at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Which runs are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RunsQuery {
    /// How many, the newest first; 20 where it is not given, 1000 at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only runs of this thread, as the client named it or by its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// Only runs in this state: `pending`, `running`, `success`, `error` or `timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// What a watch of a rollout has seen already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WatchQuery {
    /// Only events after this one.
    pub after: i32,
    /// How long to wait for news, in seconds; 30 at most.
    pub wait: u64,
}

/// One of `GET /v1/agents/NAME/releases`, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReleaseView {
    /// v12 is 12.
    pub version: i32,
    /// Digest of its image.
    pub image: String,
    /// When it was made.
    pub created_at: String,
    /// The commit that was built.
    pub source_revision: Option<String>,
    /// The number of the secret set that it runs with.
    #[serde(default)]
    pub secret_set: Option<i32>,
    /// The release that a rollback made it from.
    #[serde(default)]
    pub copy_of: Option<i32>,
    /// Whether it serves.
    pub serving: bool,
    /// Whether `rollback` goes to it.
    pub previous: bool,
    /// What came of the rollout that was to bring it to serve.
    pub rollout: Option<RolloutState>,
    /// Why that failed.
    pub failure: Option<String>,
}

/// One of `GET /v1/agents/NAME/rollouts`, newest first.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RolloutSummary {
    /// Its id.
    pub id: Uuid,
    /// The release that was rolled out.
    pub version: i32,
    /// The release that served before.
    pub from_version: Option<i32>,
    /// Whether it goes on.
    pub state: RolloutState,
    /// Where it stands, or where it ended.
    pub phase: Phase,
    /// Seconds by phase.
    pub phases: Vec<PhaseTime>,
    /// When it began.
    pub created_at: String,
    /// When it ended.
    pub ended_at: Option<String>,
    /// Why it failed.
    pub failure: Option<RolloutFailure>,
}

/// One of `GET /v1/agents/NAME/runs`, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunView {
    /// Its id.
    pub id: Uuid,
    /// Its thread as the client named it; none: stateless.
    pub thread: Option<String>,
    /// The id under which its checkpoints and its log lines go.
    pub thread_id: Option<Uuid>,
    /// Which graph.
    pub graph: String,
    /// `pending`, `running`, `success`, `error` or `timeout`.
    pub status: String,
    /// The release that executed it last.
    pub version: Option<i32>,
    /// How many attempts were made.
    pub attempt: i32,
    /// When it was accepted.
    pub accepted_at: String,
    /// When its first attempt began.
    pub started_at: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
    /// From acceptance to end, or until now.
    pub seconds: f64,
    /// Tokens in.
    pub input_tokens: i64,
    /// Tokens out.
    pub output_tokens: i64,
    /// US dollars, where they are known.
    pub cost: Option<f64>,
    /// The type of what it failed with.
    pub error: Option<String>,
}

/// `GET /v1/runs/ID`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunDetail {
    /// Whose.
    pub agent: String,
    /// What the list shows of it.
    pub run: RunView,
    /// What was asked.
    pub request: serde_json::Value,
    /// Kept with it (`user_id`).
    pub metadata: serde_json::Value,
    /// What was answered.
    pub answer: Option<serde_json::Value>,
    /// Why it failed.
    pub fault: Option<crate::api::problem::RunFault>,
    /// Where it was executed, oldest first.
    pub attempts: Vec<AttemptView>,
}

/// One attempt at a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptView {
    /// Counts from 1.
    pub number: i32,
    /// Where.
    pub replica: Uuid,
    /// `live`, `ended` or `lost`.
    pub state: String,
    /// When it began.
    pub started_at: String,
    /// When it ended.
    pub ended_at: Option<String>,
    /// Why its replica was replaced, where it was for this attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One of `GET /v1/agents/NAME/threads`, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ThreadView {
    /// As the client named it.
    pub thread: String,
    /// The id under which its checkpoints and its log lines go.
    pub thread_id: Uuid,
    /// `idle`, `busy`, `interrupted` or `error`.
    pub status: String,
    /// How many runs it has had.
    pub runs: i64,
    /// When it was made.
    pub created_at: String,
    /// When its last run began or ended.
    pub updated_at: String,
}

/// `GET /v1/agents/NAME/threads/THREAD`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ThreadDetail {
    /// What the list shows of it.
    pub thread: ThreadView,
    /// Its newest checkpoint, without the values: those only LangGraph can read.
    pub state: Option<ThreadState>,
    /// Its last runs, newest first.
    pub runs: Vec<RunView>,
}

/// A thread's newest checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ThreadState {
    /// Its id.
    pub checkpoint_id: String,
    /// The one before it.
    pub parent_id: Option<String>,
    /// When it was made.
    pub created_at: Option<String>,
    /// The super-step; -1 is the input.
    pub step: Option<i64>,
    /// `input`, `loop`, `update` or `fork`.
    pub source: Option<String>,
    /// The channels that it has versions of.
    pub channels: Vec<String>,
    /// How many checkpoints of the root graph the thread has.
    pub checkpoints: i64,
    /// What LangGraph keeps with it.
    pub metadata: serde_json::Value,
}
