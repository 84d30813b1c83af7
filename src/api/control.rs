//! The control API under `/v1` on 4120.

use super::access::Scope;
use crate::base::secret::{ExposeSecret as _, SecretString};
use crate::release::state::{AgentState, Phase, RolloutState};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use uuid::Uuid;

/// `GET /healthz`: whether whoever is asked takes requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// `ok` or `unavailable`.
    pub status: String,
}

impl Health {
    /// It takes them.
    pub fn ok() -> Self {
        Self { status: "ok".to_owned() }
    }

    /// It does not.
    pub fn unavailable() -> Self {
        Self { status: "unavailable".to_owned() }
    }
}

/// `GET /v1/whoami`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Whoami {
    /// The token's name.
    pub name: String,
    /// What it may do (`admin`, `deployer`, `viewer`, `invoke`).
    pub role: String,
    /// What it is limited to; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// When it ends (RFC 3339); absent: when it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// The server that knows it.
    pub server: ServerInfo,
}

/// What a server is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ServerInfo {
    /// Random, made at the first start.
    pub id: Uuid,
    /// Of the binary.
    pub version: String,
    /// Where agents answer.
    pub agents_url: String,
    /// The process.
    pub pid: u32,
    /// Name of the Docker Engine it runs replicas on.
    pub engine: Option<EngineInfo>,
    /// Whether it builds images of what is sent to it.
    #[serde(default)]
    pub builds: bool,
}

/// How a server is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ServerHealth {
    /// Lines of its log that could not be written since it began.
    pub dropped_log_lines: u64,
    /// Its tasks that have failed lately, in words.
    pub failing_tasks: Vec<String>,
}

impl ServerHealth {
    /// What is wrong, a sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.failing_tasks.iter().map(|task| format!("its task {task}")).collect();
        if self.dropped_log_lines > 0 {
            problems.push(format!(
                "{} lines of its log could not be written: is the disk full, or has the log's reader ended?",
                self.dropped_log_lines
            ));
        }
        problems
    }
}

/// The engine that runs replicas: a CLI that sees the same `id` shares it and moves no image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EngineInfo {
    /// Docker's own id of the engine.
    pub id: String,
    /// Of the engine.
    pub version: String,
    /// `amd64`, `arm64`.
    pub architecture: String,
}

/// Names and values of secrets on their way to the server: never shown by `Debug`.
#[derive(Clone, Default)]
pub struct SecretMap(pub BTreeMap<String, SecretString>);

impl std::fmt::Debug for SecretMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Serialize for SecretMap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value.expose_secret())))
    }
}

impl<'de> Deserialize<'de> for SecretMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::<String, SecretString>::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for SecretMap {
    fn schema_name() -> Cow<'static, str> {
        "SecretMap".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object", "description": "Names and values of secrets", "writeOnly": true,
            "additionalProperties": { "type": "string" },
        })
    }
}

/// `POST /v1/agents/NAME/deploys`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct DeployRequest {
    /// The manifest as it was read.
    pub manifest: serde_json::Value,
    /// The folder's name, for a manifest that names neither agent nor a single graph.
    pub folder: String,
    /// Digest of the image in the server's engine.
    pub image: String,
    /// Digest of its manifest in the server's registry, where it was brought there: then the server takes it
    /// from there into its engine. Absent: it is in the engine already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed: Option<String>,
    /// Digest of all that the image was made from.
    pub inputs_digest: String,
    /// The values of `.env`; absent: those last deployed stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<SecretMap>,
    /// The commit that was built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_revision: Option<String>,
    /// Seconds that the CLI spent, by phase (`build`, `push`), for the rollout's record.
    #[serde(default)]
    pub client_phases: Vec<PhaseTime>,
    /// The id that the rollout shall have: the same request again, its answer lost, finds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Uuid>,
}

/// How long a phase took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseTime {
    /// Which.
    pub phase: Phase,
    /// Seconds.
    pub seconds: f64,
}

/// What a deploy led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeployOutcome {
    /// A new release is being rolled out.
    Rollout,
    /// Only secrets changed: a new release of the same image replaces the replicas one after the other.
    Secrets,
    /// Nothing changed.
    Unchanged,
}

/// Answer to [`DeployRequest`].
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct DeployResponse {
    /// What it led to.
    pub outcome: DeployOutcome,
    /// The release that is rolled out or serves.
    pub version: i32,
    /// The rollout to watch.
    pub rollout: Option<Uuid>,
    /// The agent's first key, shown this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Where the agent answers.
    pub url: String,
    /// Lines for the user.
    pub notes: Vec<String>,
}

/// Answer to `POST /v1/agents/NAME/deploys/plan`, which takes a [`DeployRequest`] and changes nothing.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct DeployPlan {
    /// What a deploy would lead to.
    pub outcome: DeployOutcome,
    /// The release that serves.
    pub serving: Option<i32>,
    /// What would be another, a line each.
    pub changes: Vec<String>,
    /// Lines for the user.
    pub notes: Vec<String>,
}

/// `POST /v1/agents/NAME/rollbacks`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct RollbackRequest {
    /// The release to go back to; the one that served before when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i32>,
    /// The id that the rollout shall have, as in [`DeployRequest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Uuid>,
    /// Whether today's secrets stay, instead of those of the old release.
    #[serde(default)]
    pub keep_secrets: bool,
}

/// What a rollback led to.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RollbackResponse {
    /// The new release.
    pub version: i32,
    /// The old one that it is made from.
    pub to_version: i32,
    /// What serves until the switch.
    pub from_version: Option<i32>,
    /// The rollout to watch.
    pub rollout: Uuid,
    /// Where the agent answers.
    pub url: String,
    /// Names whose values differ between today's secrets and those of the old release.
    pub secrets_changed: Vec<String>,
    /// Whether today's stay; else those of the old release are back.
    #[serde(default)]
    pub secrets_kept: bool,
}

/// `GET /v1/rollouts/ID`, `?after=SEQ&wait=SECONDS`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RolloutView {
    /// Its id.
    pub id: Uuid,
    /// Whose.
    pub agent: String,
    /// The release that is rolled out.
    pub version: i32,
    /// The release that served before.
    pub from_version: Option<i32>,
    /// Whether it goes on.
    pub state: RolloutState,
    /// Where it stands.
    pub phase: Phase,
    /// Seconds by phase.
    pub phases: Vec<PhaseTime>,
    /// What happened since `after`.
    pub events: Vec<RolloutEvent>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<RolloutFailure>,
    /// The rollout that took its place: newer secrets came before it had ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<Uuid>,
    /// The graphs of the release, in the manifest's order, once it serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub graphs: Vec<GraphView>,
}

/// How a graph is called over `/v1/chat`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GraphView {
    /// Its id, for `graph`.
    pub id: String,
    /// Whether it takes a `message`.
    pub chat: bool,
    /// Where it does not: what its `input` holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub input: Vec<String>,
    /// Whether it is meant where a body names no graph.
    #[serde(default)]
    pub default: bool,
}

/// Something that happened in a rollout.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RolloutEvent {
    /// Counts from 1.
    pub seq: i32,
    /// In which phase.
    pub phase: Phase,
    /// One line.
    pub message: String,
}

/// Why a rollout failed, with the evidence.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RolloutFailure {
    /// Stable (`replica-exited`, `not-ready`).
    pub code: String,
    /// One line.
    pub message: String,
    /// The replica's own last lines.
    #[serde(default)]
    pub log: Vec<String>,
    /// What to do next.
    #[serde(default)]
    pub hints: Vec<String>,
}

/// One line of `status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentStatus {
    /// The agent's name.
    pub name: String,
    /// The release that serves, or that is being rolled out first.
    pub version: i32,
    /// How it is.
    pub state: AgentState,
    /// Ready replicas.
    pub ready: u32,
    /// Wanted replicas.
    pub wanted: u32,
    /// Of the last hour's runs, acceptance to end, in milliseconds.
    pub p95_ms: Option<f64>,
    /// Mean over the last hour's turns, in US dollars; absent when not known.
    pub cost_per_turn: Option<f64>,
    /// Runs that ended in the last hour.
    pub runs: i64,
    /// Those of them that failed or ran out of time.
    #[serde(default)]
    pub failed: i64,
    /// The server's own tasks for this agent that have failed lately, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<String>,
    /// The last run of an hour that held its replica until that was replaced, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// Where it answers.
    pub url: String,
    /// Digest of the inputs of the release that serves.
    pub inputs_digest: Option<String>,
    /// Its image.
    pub image: Option<String>,
    /// Why it is not healthy, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Releases that no longer serve and still have runs, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub draining: Vec<Draining>,
}

/// A release that no longer serves and still has runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Draining {
    /// Which.
    pub version: i32,
    /// Runs in flight on its replicas.
    pub runs: u64,
    /// Since the oldest of them began.
    pub oldest_seconds: f64,
}

/// A key of an agent, without its value.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct KeyView {
    /// Its id, for `keys revoke`.
    pub id: Uuid,
    /// What it was made for.
    pub name: String,
    /// Its first characters.
    pub prefix: String,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339, when it no longer opens anything.
    pub revoked_at: Option<String>,
}

/// A new key, shown this once.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct KeyCreated {
    /// Its id.
    pub id: Uuid,
    /// What it was made for.
    pub name: String,
    /// The key itself.
    pub key: String,
}

/// `POST /v1/agents/NAME/keys`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct KeyRequest {
    /// What it is made for.
    #[serde(default)]
    pub name: String,
}

/// A secret of an agent, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretView {
    /// Its name.
    pub name: String,
    /// When its value last changed (RFC 3339).
    pub updated_at: String,
    /// Whether it was set by hand: a deploy that does not bring it leaves it alone.
    #[serde(default)]
    pub by_hand: bool,
}

/// `PATCH /v1/agents/NAME/secrets`: what is not named stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct SecretsRequest {
    /// New values.
    #[serde(default)]
    pub set: SecretMap,
    /// Names to forget.
    #[serde(default)]
    pub unset: Vec<String>,
    /// Whether the values of `set` replace those of the same names in all kept secret sets, too.
    #[serde(default)]
    pub rotate: bool,
}

/// Answer to [`SecretsRequest`].
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct SecretsResponse {
    /// Names whose values are not what they were.
    pub changed: Vec<String>,
    /// The release that brings them, else the one that serves.
    pub version: Option<i32>,
    /// Its rollout; none when nothing changed or nothing serves.
    pub rollout: Option<Uuid>,
    /// In how many kept sets a rotated value was another.
    #[serde(default)]
    pub rotated: u64,
    /// Lines for the user.
    pub notes: Vec<String>,
}

/// `PUT /v1/agents/NAME/scale`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScaleRequest {
    /// How many replicas; none: the manifest's `min_replicas`.
    pub replicas: Option<u32>,
}

/// Answer to [`ScaleRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScaleResponse {
    /// How many are wanted now.
    pub wanted: u32,
    /// How many were wanted before.
    pub before: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_deploy_shows_names_of_secrets_and_no_values() {
        let mut secrets = SecretMap::default();
        secrets.0.insert("OPENAI_API_KEY".into(), SecretString::from("sk-hidden"));
        let shown = format!("{secrets:?}");
        assert!(shown.contains("OPENAI_API_KEY") && !shown.contains("sk-hidden"));
        let wire = serde_json::to_string(&secrets).unwrap();
        let back: SecretMap = serde_json::from_str(&wire).unwrap();
        assert_eq!(back.0["OPENAI_API_KEY"].expose_secret(), "sk-hidden");
    }
}
