//! What a release's manifest means for its replicas. Pure.

use crate::base::secret::SecretString;
use crate::egress::{Policy, RuleError};
use crate::gateway::route::RunLimits;
pub use crate::manifest::LOG_RETENTION;
use crate::manifest::database::{VARIABLES, was_read};
use crate::manifest::{Checkpointer, Egress, Manifest, OwnDatabase, render};
use std::collections::BTreeMap;
use std::time::Duration;

/// What one release's replicas are to be.
#[derive(Debug, Clone)]
pub struct AgentSettings {
    /// How many.
    pub replicas: u32,
    /// How many at most.
    pub max_replicas: u32,
    /// Runs at the same time in each.
    pub runs_per_replica: u32,
    /// Processors of each.
    pub cpu: f64,
    /// Memory of each.
    pub memory_bytes: u64,
    /// What they may reach.
    pub policy: Policy,
    /// Whether their keys of model providers stay here.
    pub model_gateway: bool,
    /// Whether the agent has a database of its own.
    pub database: Database,
    /// `postgres` or `own`.
    pub checkpointer: &'static str,
    /// LangGraph's `checkpointer.serde`, as it is.
    pub serde: Option<serde_json::Value>,
    /// The runner's log level.
    pub log_level: String,
    /// Ceilings of runs.
    pub limits: RunLimits,
    /// How long a replica may take to become ready.
    pub ready_timeout: Duration,
    /// How long runs of a replaced release may go on.
    pub drain_timeout: Duration,
    /// How long logs of replicas that are gone are kept; zero: not at all.
    pub log_retention: Duration,
    /// The graphs' ids, in the manifest's order.
    pub graphs: Vec<String>,
}

/// Whether an agent has a database of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// It has.
    Own,
    /// Its code asks for one: it has, unless its secrets name another.
    OwnUnlessNamed,
    /// It has not.
    None,
}

impl Database {
    /// Whether an agent with these secrets has one.
    pub fn is_own(self, secrets: &BTreeMap<String, SecretString>) -> bool {
        match self {
            Self::Own => true,
            Self::OwnUnlessNamed => !VARIABLES.iter().any(|name| secrets.contains_key(*name)),
            Self::None => false,
        }
    }
}

/// Why a manifest cannot be deployed here.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It has faults.
    #[error("the manifest has faults:\n{0}")]
    Manifest(String),
    /// Its agent has another name.
    #[error("the manifest's agent is {found:?}, not {asked:?}")]
    Name {
        /// In the manifest.
        found: String,
        /// In the request.
        asked: String,
    },
    /// An allowed host is none.
    #[error("rapidclaw.security.allowed_hosts")]
    Host(#[from] RuleError),
    /// Its graphs are JavaScript.
    #[error("the manifest's graphs are JavaScript, which this version does not run yet")]
    JavaScript,
    /// The agent's secrets do not fit its egress rules.
    #[error(transparent)]
    Models(#[from] crate::models::PlanError),
}

impl AgentSettings {
    /// How many replicas there shall be: as many as were asked for by hand, within the manifest's most.
    pub fn wanted(&self, scale: Option<i32>) -> u32 {
        scale.map_or(self.replicas, |asked| u32::try_from(asked).unwrap_or_default().min(self.max_replicas))
    }

    /// Reads a deployed manifest.
    pub fn of(raw: &serde_json::Value, agent: &str) -> Result<(Manifest, Self), SettingsError> {
        let manifest = Manifest::from_json(raw, agent).map_err(|faults| SettingsError::Manifest(render(&faults)))?;
        if manifest.name != agent {
            return Err(SettingsError::Name { found: manifest.name, asked: agent.to_owned() });
        }
        if manifest.has_javascript() {
            return Err(SettingsError::JavaScript);
        }
        let section = &manifest.section;
        let policy = match section.security.egress {
            Egress::Open => Policy::open(),
            Egress::None => Policy::none(),
            Egress::Allowlist => {
                let hosts: Vec<String> = section.security.allowed_hosts.iter().map(ToString::to_string).collect();
                Policy::allowlist(hosts.iter().map(String::as_str))?
            }
        };
        let settings = Self {
            replicas: section.min_replicas,
            max_replicas: section.max_replicas,
            runs_per_replica: section.runs_per_replica,
            cpu: section.resources.cpu,
            memory_bytes: section.resources.memory_bytes,
            policy,
            model_gateway: section.models.gateway,
            database: match section.database {
                OwnDatabase::Yes => Database::Own,
                OwnDatabase::Auto if was_read(raw) => Database::OwnUnlessNamed,
                OwnDatabase::Auto | OwnDatabase::No => Database::None,
            },
            checkpointer: match section.checkpointer {
                Checkpointer::Postgres => "postgres",
                Checkpointer::Own => "own",
            },
            serde: raw.pointer("/checkpointer/serde").filter(|serde| serde.is_object()).cloned(),
            log_level: section.observability.log_level.clone(),
            limits: RunLimits {
                recursion_limit: section.limits.recursion_limit,
                run_timeout: section.limits.run_timeout,
                tokens_per_run: section.limits.tokens_per_run,
                queue: Some(section.limits.queue),
                state_bytes: Some(section.limits.state_bytes),
            },
            ready_timeout: section.rollout.ready_timeout,
            drain_timeout: section.rollout.drain_timeout,
            log_retention: section.logs.retention,
            graphs: manifest.graphs.iter().map(|graph| graph.id.clone()).collect(),
        };
        Ok((manifest, settings))
    }
}
