//! One agent on a gateway: a database of its own, a release, and the replicas that serve it.

use super::process::Process;
use super::{PATIENCE, until};
use rapidclaw::api::chat::ChatRequest;
use rapidclaw::base::ids;
use rapidclaw::base::redact::Redactor;
use rapidclaw::base::shutdown::Shutdown;
use rapidclaw::gateway::outcome::{Answer, Outcome};
use rapidclaw::gateway::replica::{Attachment, Replica};
use rapidclaw::gateway::route::{Route, RunLimits, ServedGraph, Serving};
use rapidclaw::gateway::turn::{Turn, TurnError};
use rapidclaw::gateway::{Gateway, lease};
use rapidclaw::run::chat::ChatShape;
use rapidclaw::store::Store;
use rapidclaw::store::agents::Agent;
use rapidclaw::store::checkpoints::{self, Schema};
use rapidclaw::store::releases::{NewRelease, Release};
use rapidclaw::store::rollouts::NewRollout;
use rapidclaw::store::test_database::TestDatabase;
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use std::sync::Arc;
use uuid::Uuid;

/// The value of a secret of the agent.
pub const SECRET: &str = "sk-the-agents-own-secret";

/// A gateway with one agent. Its fields end in this order: the database last.
pub struct World {
    pub gateway: Gateway,
    pub route: Arc<Route>,
    pub agent: Agent,
    pub release: Release,
    pub schema: Arc<Schema>,
    shutdown: Shutdown,
    pub database: TestDatabase,
}

/// Another gateway of the same agent.
pub struct Beside {
    pub gateway: Gateway,
    pub route: Arc<Route>,
    pub shutdown: Shutdown,
}

/// A connected replica and its process.
pub struct Runner {
    pub replica: Arc<Replica>,
    pub describe: Value,
    pub process: Process,
}

/// A run's row, as far as tests look at it.
#[derive(Debug, sqlx::FromRow)]
pub struct RunRow {
    pub status: String,
    pub answer: Option<Value>,
    pub fault: Option<Value>,
    pub input_tokens: i64,
    pub output_tokens: i64,
    pub cost: Option<f64>,
    pub metadata: Value,
    pub thread_status: String,
}

impl World {
    /// An empty agent: no replica serves it yet.
    pub async fn new() -> Self {
        Self::on(TestDatabase::new().await).await
    }

    /// The same on a database of the caller's.
    pub async fn on(database: TestDatabase) -> Self {
        let options = database.options();
        let world = Self::reached_by(options, database).await;
        drop(world.shutdown.spawn_until_cancelled(lease::keep(world.gateway.clone())));
        world
    }

    /// The same on a database that is reached in a way of the caller's. Nobody keeps its lease: what it asks the
    /// database is asked for the caller's turns.
    pub async fn reached_by(options: PgConnectOptions, database: TestDatabase) -> Self {
        let store = Store::open(options).await.unwrap();
        let agent = store.ensure_agent("agent").await.unwrap();
        let new = NewRelease {
            image: "sha256:image".into(),
            inputs_digest: "sha256:inputs".into(),
            manifest: json!({}),
            folder: "project".into(),
            spec: json!({}),
            source_revision: None,
            copy_of: None,
            pushed: None,
        };
        let (release, _) = store.begin_rollout(agent.id, &new, NewRollout::default()).await.unwrap();
        let shutdown = Shutdown::default();
        let gateway = Gateway::new(store, &shutdown);
        let route = gateway.ensure_route(&agent).unwrap();
        let schema = Arc::clone(&route.schema);
        checkpoints::ensure_schema(gateway.store().pool(), &schema).await.unwrap();
        Self { gateway, route, agent, release, schema, shutdown, database }
    }

    pub fn store(&self) -> &Store {
        self.gateway.store()
    }

    pub fn pool(&self) -> &PgPool {
        self.store().pool()
    }

    /// Starts a runner and attaches it; returns when its graphs are loaded.
    pub async fn start(&self, graphs: &[(&str, &str)], capacity: u32, env: &[(&str, &str)]) -> Runner {
        self.attach(Process::runner(graphs, env), capacity).await
    }

    /// Attaches a process that serves a replica's socket.
    pub async fn attach(&self, process: Process, capacity: u32) -> Runner {
        self.attach_to(&self.gateway, process, capacity).await
    }

    /// Attaches it to a gateway of the same agent.
    pub async fn attach_to(&self, gateway: &Gateway, mut process: Process, capacity: u32) -> Runner {
        let connection = process.connect().await;
        let (ready, described) = tokio::sync::oneshot::channel();
        let (replica, connected) = Replica::attach(Attachment {
            id: ids::new_id(),
            capacity,
            schema: Arc::clone(&self.schema),
            committer: gateway.committer().clone(),
            redactor: Redactor::new(&[("KEY".to_owned(), SECRET.into())].into()),
            endpoint: process.endpoint(),
            connection,
            ready,
            dead: process.dead.clone(),
        });
        drop(self.shutdown.spawn(connected));
        let described = tokio::time::timeout(PATIENCE, described).await;
        let Ok(Ok(describe)) = described else { panic!("not ready: {described:?}; log:\n{}", process.log()) };
        Runner { replica, describe: serde_json::from_slice(&describe).unwrap(), process }
    }

    /// From now on these serve.
    pub fn serve(&self, runners: &[&Runner], limits: RunLimits) {
        self.serve_on(&self.route, runners, limits);
    }

    /// The same on the route of a gateway of the same agent.
    pub fn serve_on(&self, route: &Route, runners: &[&Runner], limits: RunLimits) {
        let graphs = runners[0].describe["graphs"].as_object().unwrap();
        let shape = |schema: &Value| ChatShape::of(schema, None).map_err(|error| error.to_string());
        route.serve(Some(Serving {
            release: self.release.id,
            version: self.release.version,
            limits,
            graphs: graphs
                .iter()
                .map(|(name, graph)| ServedGraph {
                    input: Vec::new(),
                    id: name.clone(),
                    chat: shape(&graph["input"]),
                    is_document: graph["stored_as"] == "document",
                    recursion_limit: limits.recursion_limit,
                })
                .collect(),
            replicas: runners.iter().map(|runner| Arc::clone(&runner.replica)).collect(),
        }));
    }

    /// A second gateway on the same database, as a second server is one.
    pub async fn beside(&self) -> Beside {
        let shutdown = Shutdown::default();
        let gateway = Gateway::new(Store::open(self.database.options()).await.unwrap(), &shutdown);
        lease::begin(&gateway).await.unwrap();
        let route = gateway.ensure_route(&self.agent).unwrap();
        drop(shutdown.spawn_until_cancelled(lease::keep(gateway.clone())));
        Beside { gateway, route, shutdown }
    }

    /// One turn, to its end.
    pub async fn turn(&self, graph: &str, thread: &str, message: &str) -> Result<Turn, TurnError> {
        let request = ChatRequest {
            thread_id: Some(thread.to_owned()),
            user_id: Some("ann".to_owned()),
            message: Some(message.to_owned()),
            graph: Some(graph.to_owned()),
            ..ChatRequest::default()
        };
        let turn = self.gateway.turn(Arc::clone(&self.route), request, None);
        tokio::time::timeout(PATIENCE * 2, turn).await.expect("the turn ends")
    }

    /// A turn that asks for more than an answer to a message, to its end.
    pub async fn chat(&self, body: Value, key: Option<&str>) -> Result<Turn, TurnError> {
        let request: ChatRequest = serde_json::from_value(body).unwrap();
        let turn = self.gateway.turn(Arc::clone(&self.route), request, key.map(str::to_owned));
        tokio::time::timeout(PATIENCE * 2, turn).await.expect("the turn ends")
    }

    /// One turn that must be answered.
    pub async fn answer(&self, graph: &str, thread: &str, message: &str) -> Answer {
        match self.turn(graph, thread, message).await {
            Ok(turn) => turn.answer,
            Err(error) => panic!("{message}: {error:?}"),
        }
    }

    /// One turn that must fail: its run and how.
    pub async fn failure(&self, graph: &str, thread: &str, message: &str) -> (Uuid, Outcome) {
        match self.turn(graph, thread, message).await {
            Err(TurnError::Failed { run_id, outcome, .. }) => (run_id, (*outcome).clone()),
            other => panic!("{message}: {other:?}"),
        }
    }

    pub async fn run_row(&self, run: Uuid) -> RunRow {
        let sql = "SELECT r.status, r.answer, r.fault, r.input_tokens, r.output_tokens, r.cost, r.metadata,
                     t.status AS thread_status
                   FROM runs r JOIN threads t ON t.agent_id = r.agent_id AND t.id = r.thread_id WHERE r.id = $1";
        sqlx::query_as(sql).bind(run).fetch_one(self.pool()).await.unwrap()
    }

    /// The run of a thread that is being executed, once there is one.
    pub async fn running(&self, thread: &str) -> Uuid {
        let thread = ids::thread_id(thread);
        let sql = "SELECT id FROM runs WHERE thread_id = $1 AND status = 'running'";
        let ask = || async move { sqlx::query_scalar(sql).bind(thread).fetch_optional(self.pool()).await.unwrap() };
        until("a running run", ask, Option::is_some).await.unwrap()
    }

    /// The run of a thread once this replica executes it, rather than one before.
    pub async fn running_on(&self, thread: &str, replica: Uuid) -> Uuid {
        let thread = ids::thread_id(thread);
        let sql = "SELECT r.id FROM runs r JOIN attempts a ON a.run_id = r.id
                   WHERE r.thread_id = $1 AND r.status = 'running' AND a.replica = $2";
        let ask = || async move {
            let query = sqlx::query_scalar(sql).bind(thread).bind(replica);
            query.fetch_optional(self.pool()).await.unwrap()
        };
        until("a run on this replica", ask, Option::is_some).await.unwrap()
    }

    /// How many rows a thread has in the three tables.
    pub async fn rows_of(&self, thread: &str) -> [i64; 3] {
        let thread = ids::thread_id(thread).to_string();
        let mut counts = [0; 3];
        for (count, table) in counts.iter_mut().zip(["checkpoints", "checkpoint_blobs", "checkpoint_writes"]) {
            let sql = format!("SELECT count(*) FROM \"{}\".{table} WHERE thread_id = $1", self.schema.name());
            let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(&thread);
            *count = query.fetch_one(self.pool()).await.unwrap();
        }
        counts
    }

    /// Pairs of runs of one thread that were executed at the same time.
    pub async fn overlaps(&self) -> i64 {
        let sql = "SELECT count(*) FROM runs a JOIN runs b ON a.thread_id = b.thread_id AND a.id < b.id
                   WHERE a.started_at < b.ended_at AND b.started_at < a.ended_at";
        sqlx::query_scalar(sql).fetch_one(self.pool()).await.unwrap()
    }
}
