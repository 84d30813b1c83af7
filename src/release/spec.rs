//! What a release resolved to when it was made: stored beside its manifest, so that a later version with other rules
//! or other defaults starts its replicas as they were.
//!
//! The form only grows. A reader takes the default of what is missing and passes over what it does not know; a meaning
//! that changes gets a new name.

use serde::{Deserialize, Serialize};

/// The version that this program writes.
pub const VERSION: u32 = 1;

/// One release's settings. Times are in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReleaseSpec {
    /// Of the form.
    pub version: u32,
    /// Replicas where nobody scaled it.
    pub min_replicas: u32,
    /// Replicas at most.
    pub max_replicas: u32,
    /// Runs at the same time in each.
    pub runs_per_replica: u32,
    /// Processors of each.
    pub cpu: f64,
    /// Memory of each.
    pub memory_bytes: u64,
    /// `open`, `allowlist` or `none`; whatever else there is allows nothing.
    pub egress: String,
    /// The hosts of `allowlist`, each `HOST` or `HOST:PORT`.
    pub allowed_hosts: Vec<String>,
    /// Whether model calls go through the model gateway.
    pub model_gateway: bool,
    /// `own`, `own-unless-named` or `none`.
    pub database: String,
    /// `postgres` or `own`.
    pub checkpointer: String,
    /// LangGraph's `checkpointer.serde`, as it is.
    pub serde: Option<serde_json::Value>,
    /// The runner's log level.
    pub log_level: String,
    /// Ceilings of runs.
    pub limits: Limits,
    /// How long a replica may take to become ready.
    pub ready_timeout: f64,
    /// How long runs of a replaced release may go on.
    pub drain_timeout: f64,
    /// How long logs of replicas that are gone are kept.
    pub log_retention: f64,
    /// The graphs' ids, in the manifest's order.
    pub graphs: Vec<String>,
}

/// Ceilings of a release's runs; what is missing has none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Super-steps.
    pub recursion_limit: Option<u32>,
    /// Seconds.
    pub run_timeout: Option<f64>,
    /// Tokens.
    pub tokens_per_run: Option<u64>,
    /// Runs that wait.
    pub queue: Option<u32>,
    /// Bytes of a thread's state.
    pub state_bytes: Option<u64>,
}

impl Default for ReleaseSpec {
    /// The manifest's own defaults of version 1, and the closed side where safety is concerned.
    fn default() -> Self {
        Self {
            version: VERSION,
            min_replicas: 1,
            max_replicas: 10,
            runs_per_replica: 20,
            cpu: 1.0,
            memory_bytes: 1 << 30,
            egress: "none".to_owned(),
            allowed_hosts: Vec::new(),
            model_gateway: true,
            database: "none".to_owned(),
            checkpointer: "postgres".to_owned(),
            serde: None,
            log_level: "info".to_owned(),
            limits: Limits::default(),
            ready_timeout: 120.0,
            drain_timeout: 900.0,
            log_retention: 604_800.0,
            graphs: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_known_is_passed_over_and_what_is_missing_has_its_default() {
        let stored = json!({
            "version": 7, "min_replicas": 3, "of_tomorrow": {"a": 1}, "graphs": ["a"],
            "limits": { "queue": 5, "of_tomorrow": true },
        });
        let spec: ReleaseSpec = serde_json::from_value(stored).unwrap();
        let limits = Limits { queue: Some(5), ..Limits::default() };
        let wanted =
            ReleaseSpec { version: 7, min_replicas: 3, graphs: vec!["a".into()], limits, ..ReleaseSpec::default() };
        assert_eq!(spec, wanted);
        let again: ReleaseSpec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
        assert_eq!(again, spec);
    }

    #[test]
    fn the_form_that_was_written_by_the_first_version_is_read_for_ever() {
        let first = r#"{"version":1,"min_replicas":2,"max_replicas":4,"runs_per_replica":8,"cpu":0.5,
            "memory_bytes":536870912,"egress":"allowlist","allowed_hosts":["api.anthropic.com","db.example.com:5432"],
            "model_gateway":false,"database":"own-unless-named","checkpointer":"own","serde":{"path":"a:b"},
            "log_level":"debug","limits":{"recursion_limit":25,"run_timeout":60.5,"tokens_per_run":1000,"queue":7,
            "state_bytes":1024},"ready_timeout":30.0,"drain_timeout":5.0,"log_retention":0.0,"graphs":["a","b"]}"#;
        let spec: ReleaseSpec = serde_json::from_str(first).unwrap();
        let written: serde_json::Value = serde_json::to_value(&spec).unwrap();
        assert_eq!(written, serde_json::from_str::<serde_json::Value>(first).unwrap());
    }
}
