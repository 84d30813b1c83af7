//! The `rapidclaw` section: keys, defaults and rules of DESIGN.md 5.

use crate::manifest::host::AllowedHost;
use crate::manifest::json::{Kind, Node};
use crate::manifest::reader::{Faults, Fields, mistyped};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::time::Duration;

/// Who keeps checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checkpointer {
    /// Ours, in Postgres.
    Postgres,
    /// The graph's own.
    Own,
}

/// Whether an agent gets a database of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnDatabase {
    /// When the project's code asks its environment for one, and the agent's secrets name none.
    Auto,
    /// Always.
    Yes,
    /// Never.
    No,
}

/// What replicas are scaled by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalingMetric {
    /// Runs in flight for each replica.
    RunsInFlight,
}

/// How a replica reaches the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Egress {
    /// A bridge network, everything.
    Open,
    /// The hosts of `allowed_hosts` alone.
    Allowlist,
    /// Nothing but the model gateway.
    None,
}

impl Egress {
    /// As the manifest writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Allowlist => "allowlist",
            Self::None => "none",
        }
    }
}

/// The `rapidclaw` section with its defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// The agent's name, where the section gives one.
    pub name: Option<String>,
    /// `checkpointer`.
    pub checkpointer: Checkpointer,
    /// Whether the agent gets a database of its own.
    pub database: OwnDatabase,
    /// Least replicas.
    pub min_replicas: u32,
    /// Most replicas.
    pub max_replicas: u32,
    /// `scaling_metric`.
    pub scaling_metric: ScalingMetric,
    /// What the metric shall be for each replica.
    pub target_value: u32,
    /// How many runs a replica executes at the same time.
    pub runs_per_replica: u32,
    /// `observability`.
    pub observability: Observability,
    /// `security`.
    pub security: Security,
    /// `limits`.
    pub limits: Limits,
    /// `models`.
    pub models: Models,
    /// `checkpoints`.
    pub checkpoints: Checkpoints,
    /// `resources`.
    pub resources: Resources,
    /// `rollout`.
    pub rollout: Rollout,
    /// `logs`.
    pub logs: Logs,
    /// The dotted names of the keys that the manifest names and asks something with.
    pub(crate) asked: BTreeSet<String>,
}

/// `observability`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observability {
    /// Spans of every node.
    pub otel: bool,
    /// The runner's log level: debug, info, warning, error.
    pub log_level: String,
    /// Where spans go.
    pub otlp_endpoint: Option<String>,
}

/// `security`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Security {
    /// How replicas reach the world.
    pub egress: Egress,
    /// The allowlist.
    pub allowed_hosts: Vec<AllowedHost>,
    /// Whether the agent answers without a key.
    pub public: bool,
}

/// `limits`: ceilings.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Super-steps of a run.
    pub recursion_limit: Option<u32>,
    /// How long a run may take.
    pub run_timeout: Option<Duration>,
    /// Tokens of a run.
    pub tokens_per_run: Option<u64>,
    /// US dollars of a run.
    pub cost_per_run: Option<f64>,
    /// US dollars of the agent's day.
    pub cost_per_day: Option<f64>,
    /// Size of a thread's state.
    pub state_bytes: u64,
    /// Messages of a thread.
    pub messages: Option<u32>,
    /// Runs that may wait.
    pub queue: u32,
    /// Requests by key, user or thread, as written.
    pub rate: Map<String, Value>,
    /// Calls of tools, as written.
    pub tools: Map<String, Value>,
}

/// `models`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Models {
    /// Whether calls to model providers go through the model gateway.
    pub gateway: bool,
    /// Prices of models, as written.
    pub prices: Map<String, Value>,
}

/// `checkpoints`: what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoints {
    /// How long after its last run a thread is kept.
    pub ttl: Option<Duration>,
    /// How many checkpoints of a thread are kept.
    pub keep_last: Option<u32>,
}

/// `resources` of a replica.
#[derive(Debug, Clone, PartialEq)]
pub struct Resources {
    /// Processors.
    pub cpu: f64,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

/// `rollout`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// How long a new replica may take until it is ready.
    pub ready_timeout: Duration,
    /// How long a run of the old release may go on.
    pub drain_timeout: Duration,
    /// How many threads are rehearsed.
    pub rehearse_threads: u32,
}

/// `logs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    /// How long logs of replicas that are gone are kept; zero: not at all.
    pub retention: Duration,
}

/// How long they are kept where nobody says.
pub const LOG_RETENTION: Duration = Duration::from_hours(7 * 24);

/// The least memory of a replica: below it Python with LangGraph does not start.
pub const MIN_MEMORY_BYTES: u64 = 64 << 20;

impl Default for Section {
    /// Of a manifest without the section: one replica, egress open.
    fn default() -> Self {
        Self {
            name: None,
            checkpointer: Checkpointer::Postgres,
            database: OwnDatabase::Auto,
            min_replicas: 1,
            max_replicas: 1,
            scaling_metric: ScalingMetric::RunsInFlight,
            target_value: 10,
            runs_per_replica: 20,
            observability: Observability { otel: true, log_level: "info".into(), otlp_endpoint: None },
            security: Security { egress: Egress::Open, allowed_hosts: Vec::new(), public: false },
            limits: Limits {
                recursion_limit: None,
                run_timeout: None,
                tokens_per_run: None,
                cost_per_run: None,
                cost_per_day: None,
                state_bytes: 32 << 20,
                messages: None,
                queue: 1000,
                rate: Map::new(),
                tools: Map::new(),
            },
            models: Models { gateway: true, prices: Map::new() },
            checkpoints: Checkpoints { ttl: None, keep_last: None },
            resources: Resources { cpu: 1.0, memory_bytes: 1 << 30 },
            rollout: Rollout {
                ready_timeout: Duration::from_mins(2),
                drain_timeout: Duration::from_mins(15),
                rehearse_threads: 20,
            },
            logs: Logs { retention: LOG_RETENTION },
            asked: BTreeSet::new(),
        }
    }
}

/// Most replicas where the section is there and does not say.
const MAX_REPLICAS: u32 = 10;

/// What this version carries out; everything else that is asked for is named by [`Section::unenforced`].
const ENFORCED: [&str; 18] = [
    "name",
    "checkpointer",
    "database",
    "min_replicas",
    "runs_per_replica",
    "limits.recursion_limit",
    "limits.run_timeout",
    "limits.queue",
    "limits.state_bytes",
    "resources.cpu",
    "resources.memory",
    "security.egress",
    "security.allowed_hosts",
    "rollout.ready_timeout",
    "rollout.drain_timeout",
    "models.gateway",
    "observability.log_level",
    "logs.retention",
];

/// The keys of the section.
pub(super) const KEYS: [&str; 16] = [
    "name",
    "checkpointer",
    "database",
    "min_replicas",
    "max_replicas",
    "scaling_metric",
    "target_value",
    "runs_per_replica",
    "observability",
    "security",
    "limits",
    "models",
    "checkpoints",
    "resources",
    "rollout",
    "logs",
];

impl Section {
    /// The keys that the manifest asks something with and this version does not carry out yet, sorted.
    /// `null`, `false` and empty lists or objects ask for nothing.
    pub fn unenforced(&self) -> Vec<String> {
        self.asked
            .iter()
            .filter(|key| !ENFORCED.contains(&key.as_str()))
            .filter(|key| *key != "max_replicas" || self.max_replicas > self.min_replicas)
            .cloned()
            .collect()
    }

    pub(crate) fn read(faults: &mut Faults<'_>, node: &Node) -> Self {
        let mut section = Self { max_replicas: MAX_REPLICAS, ..Self::default() };
        let fields = Fields::of(faults, "rapidclaw", Some(node), &KEYS);
        section.read_agent(faults, &fields);
        section.read_observability(faults, fields.get("observability"));
        section.read_security(faults, fields.get("security"));
        section.read_limits(faults, fields.get("limits"));
        section.read_rest(faults, &fields);
        section.asked = asked(node);
        section
    }

    fn read_agent(&mut self, faults: &mut Faults<'_>, fields: &Fields<'_>) {
        if let Some(name) = fields.string(faults, "name") {
            if super::name::is_name(name) {
                self.name = Some(name.to_owned());
            } else {
                let fix = super::name::to_name(name).map(|name| format!("write \"{name}\""));
                let rule = "must be 1 to 40 lowercase letters, digits and hyphens, with no hyphen at either end";
                fields.invalid(faults, "name", rule, fix);
            }
        }
        let checkpointers = [("postgres", Checkpointer::Postgres), ("own", Checkpointer::Own)];
        take(&mut self.checkpointer, fields.choice(faults, "checkpointer", &checkpointers));
        if let Some(node) = fields.get("database") {
            match &node.kind {
                Kind::Bool(true) => self.database = OwnDatabase::Yes,
                Kind::Bool(false) => self.database = OwnDatabase::No,
                Kind::String(text) if text == "auto" => self.database = OwnDatabase::Auto,
                Kind::String(_) => fields.invalid(faults, "database", "must be true, false or \"auto\"", None),
                _ => mistyped(faults, &fields.name("database"), node, "true, false or \"auto\""),
            }
        }
        let least = fields.count(faults, "min_replicas", 0);
        let most = fields.count(faults, "max_replicas", 1);
        take(&mut self.min_replicas, least);
        match (least, most) {
            (Some(least), Some(most)) if least > most => {
                let message = format!("is {most}, less than `rapidclaw.min_replicas`, which is {least}");
                fields.invalid(faults, "max_replicas", &message, None);
            }
            (_, Some(most)) => {
                self.max_replicas = most;
                self.min_replicas = self.min_replicas.min(most);
            }
            (_, None) => self.max_replicas = self.max_replicas.max(self.min_replicas),
        }
        let metrics = [("runs_in_flight", ScalingMetric::RunsInFlight)];
        take(&mut self.scaling_metric, fields.choice(faults, "scaling_metric", &metrics));
        take(&mut self.target_value, fields.count(faults, "target_value", 1));
        take(&mut self.runs_per_replica, fields.count(faults, "runs_per_replica", 1));
    }

    fn read_observability(&mut self, faults: &mut Faults<'_>, node: Option<&Node>) {
        let fields = Fields::of(faults, "rapidclaw.observability", node, &["otel", "log_level", "otlp_endpoint"]);
        take(&mut self.observability.otel, fields.bool(faults, "otel"));
        let levels = ["debug", "info", "warning", "error"].map(|level| (level, level));
        if let Some(level) = fields.choice(faults, "log_level", &levels) {
            level.clone_into(&mut self.observability.log_level);
        }
        if let Some(endpoint) = fields.string(faults, "otlp_endpoint") {
            if endpoint.starts_with("http://") || endpoint.starts_with("https://") {
                self.observability.otlp_endpoint = Some(endpoint.to_owned());
            } else {
                let fix = Some("write a URL such as \"http://collector:4318\"".to_owned());
                fields.invalid(faults, "otlp_endpoint", "is not an http or https URL", fix);
            }
        }
    }

    fn read_security(&mut self, faults: &mut Faults<'_>, node: Option<&Node>) {
        let fields = Fields::of(faults, "rapidclaw.security", node, &["egress", "allowed_hosts", "public"]);
        if node.is_some() {
            self.security.egress = Egress::Allowlist;
        }
        let choices = [Egress::Open, Egress::Allowlist, Egress::None].map(|egress| (egress.as_str(), egress));
        take(&mut self.security.egress, fields.choice(faults, "egress", &choices));
        take(&mut self.security.public, fields.bool(faults, "public"));
        let Some(list) = fields.get("allowed_hosts") else { return };
        let Kind::Array(items) = &list.kind else {
            mistyped(faults, &fields.name("allowed_hosts"), list, "an array of hosts");
            return;
        };
        for item in items {
            let Some(text) = item.as_str() else {
                mistyped(faults, &fields.name("allowed_hosts"), item, "an array of strings");
                continue;
            };
            match text.parse::<AllowedHost>() {
                Ok(host) if self.security.allowed_hosts.contains(&host) => {
                    faults.warn("duplicate-host", &item.span, format!("\"{text}\" is listed twice"), None);
                }
                Ok(host) => self.security.allowed_hosts.push(host),
                Err(error) => faults.error("invalid-host", &item.span, format!("the host \"{text}\" {error}"), None),
            }
        }
        if self.security.egress != Egress::Allowlist && !items.is_empty() {
            let message =
                format!("`allowed_hosts` says nothing with \"egress\": \"{}\"", self.security.egress.as_str());
            faults.warn("unused-hosts", &list.span, message, Some("write \"egress\": \"allowlist\"".into()));
        }
    }

    fn read_limits(&mut self, faults: &mut Faults<'_>, node: Option<&Node>) {
        let known = [
            "recursion_limit",
            "run_timeout",
            "tokens_per_run",
            "cost_per_run",
            "cost_per_day",
            "state_bytes",
            "messages",
            "queue",
            "rate",
            "tools",
        ];
        let fields = Fields::of(faults, "rapidclaw.limits", node, &known);
        let limits = &mut self.limits;
        limits.recursion_limit = fields.count(faults, "recursion_limit", 1);
        limits.run_timeout = fields.duration(faults, "run_timeout");
        limits.tokens_per_run = fields.integer(faults, "tokens_per_run", 1..=u64::MAX);
        limits.cost_per_run = fields.positive(faults, "cost_per_run");
        limits.cost_per_day = fields.positive(faults, "cost_per_day");
        take(&mut limits.state_bytes, fields.size(faults, "state_bytes"));
        limits.messages = fields.count(faults, "messages", 1);
        take(&mut limits.queue, fields.count(faults, "queue", 0));
        limits.rate = fields.map(faults, "rate");
        limits.tools = fields.map(faults, "tools");
    }

    fn read_rest(&mut self, faults: &mut Faults<'_>, outer: &Fields<'_>) {
        let fields = Fields::of(faults, "rapidclaw.models", outer.get("models"), &["gateway", "prices"]);
        take(&mut self.models.gateway, fields.bool(faults, "gateway"));
        self.models.prices = fields.map(faults, "prices");

        let fields = Fields::of(faults, "rapidclaw.checkpoints", outer.get("checkpoints"), &["ttl", "keep_last"]);
        self.checkpoints.ttl = fields.duration(faults, "ttl");
        self.checkpoints.keep_last = fields.count(faults, "keep_last", 1);

        let fields = Fields::of(faults, "rapidclaw.resources", outer.get("resources"), &["cpu", "memory"]);
        take(&mut self.resources.cpu, fields.positive(faults, "cpu"));
        match fields.size(faults, "memory") {
            Some(bytes) if bytes < MIN_MEMORY_BYTES => {
                fields.invalid(faults, "memory", "must be 64MiB or more", Some("write \"1GiB\"".into()));
            }
            given => take(&mut self.resources.memory_bytes, given),
        }

        let known = ["ready_timeout", "drain_timeout", "rehearse_threads"];
        let fields = Fields::of(faults, "rapidclaw.rollout", outer.get("rollout"), &known);
        take(&mut self.rollout.ready_timeout, fields.duration(faults, "ready_timeout"));
        take(&mut self.rollout.drain_timeout, fields.duration(faults, "drain_timeout"));
        take(&mut self.rollout.rehearse_threads, fields.count(faults, "rehearse_threads", 0));

        let fields = Fields::of(faults, "rapidclaw.logs", outer.get("logs"), &["retention"]);
        take(&mut self.logs.retention, fields.duration_or_zero(faults, "retention"));
    }
}

fn take<T>(place: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *place = value;
    }
}

/// The dotted names of all leaves that ask for something. Maps that are kept as written count as one.
fn asked(section: &Node) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for member in section.as_object().unwrap_or_default() {
        match member.value.as_object() {
            Some(inner) => {
                let given = inner.iter().filter(|inner| asks(&inner.value) || inner.name == "gateway");
                names.extend(given.map(|inner| format!("{}.{}", member.name, inner.name)));
            }
            None if asks(&member.value) => {
                names.insert(member.name.clone());
            }
            None => {}
        }
    }
    names
}

fn asks(node: &Node) -> bool {
    match &node.kind {
        Kind::Null | Kind::Bool(false) => false,
        Kind::Array(items) => !items.is_empty(),
        Kind::Object(members) => !members.is_empty(),
        _ => true,
    }
}
