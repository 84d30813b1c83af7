//! What a release means for its replicas: a manifest is resolved once, when it is deployed, and stored. Pure.

use crate::base::secret::SecretString;
use crate::egress::{Policy, RuleError};
use crate::gateway::route::RunLimits;
pub use crate::manifest::LOG_RETENTION;
use crate::manifest::database::{VARIABLES, was_read};
use crate::manifest::{Checkpointer, Egress, Manifest, OwnDatabase, render};
use crate::release::spec::{self, ReleaseSpec};
use crate::store::releases::Release;
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

    /// The settings of a release: as it was resolved when it was made, whatever today's rules are. One of a version that
    /// stored no more than the manifest is resolved now.
    pub fn of_release(release: &Release, agent: &str) -> Result<Self, SettingsError> {
        let stored = release.spec.as_ref().and_then(|spec| serde_json::from_value(spec.0.clone()).ok());
        match stored {
            Some(spec) => Ok(Self::of(&spec)),
            None => Ok(Self::of(&resolve(&release.manifest.0, agent)?.1)),
        }
    }

    /// The settings of what a manifest resolved to. A host that this version does not understand is not allowed.
    pub fn of(spec: &ReleaseSpec) -> Self {
        let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let limits = &spec.limits;
        Self {
            replicas: spec.min_replicas,
            max_replicas: spec.max_replicas,
            runs_per_replica: spec.runs_per_replica,
            cpu: spec.cpu,
            memory_bytes: spec.memory_bytes,
            policy: match spec.egress.as_str() {
                OPEN => Policy::open(),
                ALLOWLIST => Policy::allowlist_of_known(spec.allowed_hosts.iter().map(String::as_str)),
                _ => Policy::none(),
            },
            model_gateway: spec.model_gateway,
            database: match spec.database.as_str() {
                "own" => Database::Own,
                "own-unless-named" => Database::OwnUnlessNamed,
                _ => Database::None,
            },
            checkpointer: if spec.checkpointer == "own" { "own" } else { "postgres" },
            serde: spec.serde.clone(),
            log_level: spec.log_level.clone(),
            limits: RunLimits {
                recursion_limit: limits.recursion_limit,
                run_timeout: limits.run_timeout.map(seconds),
                tokens_per_run: limits.tokens_per_run,
                queue: limits.queue,
                state_bytes: limits.state_bytes,
            },
            ready_timeout: seconds(spec.ready_timeout),
            drain_timeout: seconds(spec.drain_timeout),
            log_retention: seconds(spec.log_retention),
            graphs: spec.graphs.clone(),
        }
    }
}

const OPEN: &str = "open";
const ALLOWLIST: &str = "allowlist";

/// Reads a manifest that is to be deployed as `agent`, and resolves it: what a release of it stores.
pub fn resolve(raw: &serde_json::Value, agent: &str) -> Result<(Manifest, ReleaseSpec), SettingsError> {
    let manifest = Manifest::from_json(raw, agent).map_err(|faults| SettingsError::Manifest(render(&faults)))?;
    if manifest.name != agent {
        return Err(SettingsError::Name { found: manifest.name, asked: agent.to_owned() });
    }
    if manifest.has_javascript() {
        return Err(SettingsError::JavaScript);
    }
    let section = &manifest.section;
    let allowed_hosts: Vec<String> = section.security.allowed_hosts.iter().map(ToString::to_string).collect();
    let egress = match section.security.egress {
        Egress::Open => OPEN,
        Egress::None => "none",
        Egress::Allowlist => {
            Policy::allowlist(allowed_hosts.iter().map(String::as_str))?;
            ALLOWLIST
        }
    };
    let limits = &section.limits;
    let spec = ReleaseSpec {
        version: spec::VERSION,
        min_replicas: section.min_replicas,
        max_replicas: section.max_replicas,
        runs_per_replica: section.runs_per_replica,
        cpu: section.resources.cpu,
        memory_bytes: section.resources.memory_bytes,
        egress: egress.to_owned(),
        allowed_hosts,
        model_gateway: section.models.gateway,
        database: match section.database {
            OwnDatabase::Yes => "own",
            OwnDatabase::Auto if was_read(raw) => "own-unless-named",
            OwnDatabase::Auto | OwnDatabase::No => "none",
        }
        .to_owned(),
        checkpointer: match section.checkpointer {
            Checkpointer::Postgres => "postgres",
            Checkpointer::Own => "own",
        }
        .to_owned(),
        serde: raw.pointer("/checkpointer/serde").filter(|serde| serde.is_object()).cloned(),
        log_level: section.observability.log_level.clone(),
        limits: spec::Limits {
            recursion_limit: limits.recursion_limit,
            run_timeout: limits.run_timeout.map(|limit| limit.as_secs_f64()),
            tokens_per_run: limits.tokens_per_run,
            queue: Some(limits.queue),
            state_bytes: Some(limits.state_bytes),
        },
        ready_timeout: section.rollout.ready_timeout.as_secs_f64(),
        drain_timeout: section.rollout.drain_timeout.as_secs_f64(),
        log_retention: section.logs.retention.as_secs_f64(),
        graphs: manifest.graphs.iter().map(|graph| graph.id.clone()).collect(),
    };
    Ok((manifest, spec))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn release(manifest: serde_json::Value, spec: Option<serde_json::Value>) -> Release {
        Release {
            id: uuid::Uuid::nil(),
            agent_id: uuid::Uuid::nil(),
            version: 1,
            image: String::new(),
            inputs_digest: String::new(),
            manifest: sqlx::types::Json(manifest),
            folder: String::new(),
            secret_set: Some(1),
            spec: spec.map(sqlx::types::Json),
            source_revision: None,
            pushed: None,
        }
    }

    #[test]
    fn a_manifest_is_resolved_once_and_means_the_same_ever_after() {
        let manifest = json!({
            "dependencies": ["."], "graphs": { "b": "./b.py:g", "a": "./a.py:g" },
            "rapidclaw": {
                "name": "agent", "min_replicas": 2, "limits": { "run_timeout": "90s", "queue": 3 },
                "security": { "egress": "allowlist", "allowed_hosts": ["api.example.com", "db.example.com:5432"] },
            },
        });
        let (_, spec) = resolve(&manifest, "agent").unwrap();
        let direct = AgentSettings::of(&spec);
        assert_eq!((direct.replicas, direct.limits.queue), (2, Some(3)));
        assert_eq!(direct.limits.run_timeout, Some(Duration::from_secs(90)));
        assert_eq!(direct.graphs, ["b", "a"]);
        let host = |name: &str| crate::egress::Host::parse(name).unwrap();
        assert!(direct.policy.allows(&host("db.example.com"), 5432) && !direct.policy.allows(&host("other.com"), 443));
        let stored = serde_json::to_value(&spec).unwrap();
        // A manifest that today's rules refuse is no obstacle where the release knows what it resolved to.
        let refused = json!({ "graphs": 7 });
        let loaded = AgentSettings::of_release(&release(refused.clone(), Some(stored)), "agent").unwrap();
        assert_eq!(format!("{loaded:?}"), format!("{direct:?}"));
        // A release of before has its manifest alone.
        let before = AgentSettings::of_release(&release(manifest, None), "agent").unwrap();
        assert_eq!(format!("{before:?}"), format!("{direct:?}"));
        assert!(AgentSettings::of_release(&release(refused, None), "agent").is_err());
    }

    #[test]
    fn a_host_that_is_not_understood_is_not_allowed_and_the_others_are() {
        let spec = ReleaseSpec {
            egress: ALLOWLIST.into(),
            allowed_hosts: vec!["of tomorrow://x".into(), "api.example.com".into()],
            ..ReleaseSpec::default()
        };
        let host = |name: &str| crate::egress::Host::parse(name).unwrap();
        let policy = AgentSettings::of(&spec).policy;
        assert!(policy.allows(&host("api.example.com"), 443) && !policy.allows(&host("x"), 443));
        let strange = ReleaseSpec { egress: "of tomorrow".into(), ..spec };
        assert!(!AgentSettings::of(&strange).policy.allows(&host("api.example.com"), 443));
    }
}
