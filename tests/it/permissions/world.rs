//! A server with two agents, and everybody who might call it.

use crate::machine::Machine;
use crate::server::foreground::{Foreground, RUN};
use rapidclaw::base::ids;
use rapidclaw::base::secret::token_hash;
use rapidclaw::store::Store;
use rapidclaw::store::agents::schema_name;
use rapidclaw::store::checkpoints::{Schema, ensure_schema};
use rapidclaw::store::postgres::{Managed, Options};
use serde_json::json;
use sqlx::PgPool;
use std::process::Stdio;
use std::time::Duration;
use uuid::Uuid;

/// The agent that scoped tokens are limited to, and one that they are not.
pub const OWN: &str = "own";
pub const FOREIGN: &str = "foreign";

/// Why a caller gets nothing, whatever it asks for; or the names of what it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opens {
    /// The code of the 401.
    Nothing(&'static str),
    /// The names of permissions.
    Token(&'static [&'static str]),
    /// The agent of that name, on its own listener.
    Key(&'static str),
}

/// Somebody who might call.
#[derive(Debug, Clone)]
pub struct Caller {
    pub name: &'static str,
    /// What it shows, where it shows anything.
    pub secret: Option<String>,
    pub opens: Opens,
    /// Whether its token is limited to some agents.
    pub scoped: bool,
}

/// Of each agent a release, an ended rollout, an ended run and what may be destroyed in its place.
#[derive(Debug, Clone)]
pub struct Agent {
    pub name: &'static str,
    pub rollout: Uuid,
    pub run: Uuid,
}

pub struct World {
    pub server: Foreground,
    pub callers: Vec<Caller>,
    pub own: Agent,
    pub foreign: Agent,
    pub http: reqwest::Client,
    pub pool: PgPool,
}

const ALL: &[&str] = &["token", "view", "invoke", "deploy", "admin"];
const DEPLOYER: &[&str] = &["token", "view", "invoke", "deploy"];
const VIEWER: &[&str] = &["token", "view"];

/// Name, stored role, what it may, whether it is limited to the own agent.
const TOKENS: [(&str, &str, &[&str], bool); 11] = [
    ("admin-2", "admin", ALL, false),
    ("deployer", "deployer", DEPLOYER, false),
    ("viewer", "viewer", VIEWER, false),
    ("invoke", "invoke", &["token", "invoke"], false),
    ("deploy-of-before", "deploy", DEPLOYER, false),
    ("read-of-before", "read", VIEWER, false),
    ("strange", "owner", &["token"], false),
    ("scoped-admin", "admin-limited", ALL, true),
    ("scoped-deployer", "deployer", DEPLOYER, true),
    ("scoped-viewer", "viewer", VIEWER, true),
    ("scoped-invoke", "invoke", &["token", "invoke"], true),
];

impl World {
    pub async fn new() -> Self {
        // Given a database with agents that have been deployed once, and tokens and keys of all kinds,
        let machine = Machine::new();
        let managed = Managed::ensure(&Options::new(machine.data_dir())).await.unwrap();
        let store = Store::open(managed.connect_options()).await.unwrap();
        let own = agent(&store, OWN).await;
        let foreign = agent(&store, FOREIGN).await;
        for doomed in ["doomed-admin-2", "doomed-scoped-admin", "doomed-foreign"] {
            store.ensure_agent(doomed).await.unwrap();
        }
        let callers = callers(&store).await;
        store.close().await;

        // and a server on it.
        let mut command = machine.command();
        command.args(RUN).stdout(Stdio::null()).stderr(Stdio::null());
        let server = tokio::task::block_in_place(|| Foreground::start(machine, &mut command));
        let http = rapidclaw::base::http::client(Duration::from_secs(5), Some(Duration::from_secs(60))).unwrap();
        let pool = PgPool::connect_with(managed.connect_options()).await.unwrap();
        Self { server, callers, own, foreign, http, pool }
    }

    /// The caller of that name.
    pub fn caller(&self, name: &str) -> &Caller {
        self.callers.iter().find(|caller| caller.name == name).unwrap()
    }

    /// The secret of that caller.
    pub fn secret(&self, name: &str) -> &str {
        self.caller(name).secret.as_deref().unwrap()
    }

    pub async fn end(self) {
        self.pool.close().await;
        tokio::task::block_in_place(|| drop(self.server));
    }
}

async fn agent(store: &Store, name: &'static str) -> Agent {
    let id = store.ensure_agent(name).await.unwrap().id;
    let (release, rollout, run) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    sqlx::query(
        "INSERT INTO releases (id, agent_id, version, image, inputs_digest, manifest, folder, secret_names)
         VALUES ($1, $2, 1, 'sha256:x', 'sha256:y', '{}', 'folder', '{}')",
    )
    .bind(release)
    .bind(id)
    .execute(store.pool())
    .await
    .unwrap();
    sqlx::query(
        "INSERT INTO rollouts (id, agent_id, release_id, generation, state, phase, ended_at)
         VALUES ($1, $2, $3, $1, 'failed', 'ready', now())",
    )
    .bind(rollout)
    .bind(id)
    .bind(release)
    .execute(store.pool())
    .await
    .unwrap();
    sqlx::query(
        "INSERT INTO runs (id, agent_id, release_id, graph, turn, status, request, ended_at)
         VALUES ($1, $2, $3, 'g', true, 'success', $4, now())",
    )
    .bind(run)
    .bind(id)
    .bind(release)
    .bind(json!({"kind": "chat", "message": "m", "full": false}))
    .execute(store.pool())
    .await
    .unwrap();
    sqlx::query("INSERT INTO threads (agent_id, id, given) VALUES ($1, $2, 't')")
        .bind(id)
        .bind(ids::thread_id("t"))
        .execute(store.pool())
        .await
        .unwrap();
    ensure_schema(store.pool(), &Schema::new(&schema_name(name)).unwrap()).await.unwrap();
    Agent { name, rollout, run }
}

async fn callers(store: &Store) -> Vec<Caller> {
    let nothing = |name, secret: Option<&str>, code| Caller {
        name,
        secret: secret.map(str::to_owned),
        opens: Opens::Nothing(code),
        scoped: false,
    };
    let mut callers = vec![
        nothing("nobody", None, "not-authenticated"),
        nothing("garbage", Some("garbage"), "not-authenticated"),
        nothing("expired", Some("token-expired"), "token-expired"),
        nothing("revoked", Some("token-revoked"), "token-revoked"),
    ];
    for (name, role, opens, scoped) in TOKENS {
        let secret = format!("token-{name}");
        let scope = scoped.then(|| json!({"agents": [OWN, "doomed-scoped-admin"]}));
        add_token(store, name, role, scope, &secret, "revoked_at = NULL").await;
        callers.push(Caller { name, secret: Some(secret), opens: Opens::Token(opens), scoped });
    }
    add_token(store, "expired", "admin", None, "token-expired", "expires_at = now()").await;
    add_token(store, "revoked", "admin", None, "token-revoked", "revoked_at = now()").await;
    for (name, agent) in [("key", OWN), ("foreign-key", FOREIGN)] {
        let id = store.find_agent(agent).await.unwrap().unwrap().id;
        store.add_key(id, name, "rck", &token_hash(name)).await.unwrap();
        callers.push(Caller { name, secret: Some(name.to_owned()), opens: Opens::Key(agent), scoped: false });
    }
    callers
}

async fn add_token(
    store: &Store,
    name: &str,
    role: &str,
    scope: Option<serde_json::Value>,
    secret: &str,
    state: &'static str,
) {
    let id = Uuid::now_v7();
    sqlx::query("INSERT INTO tokens (id, name, role, scope, hash) VALUES ($1, $2, $3, $4, $5)")
        .bind(id)
        .bind(name)
        .bind(role)
        .bind(scope)
        .bind(token_hash(secret).as_slice())
        .execute(store.pool())
        .await
        .unwrap();
    let sql = format!("UPDATE tokens SET {state} WHERE id = $1");
    sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id).execute(store.pool()).await.unwrap();
}
