//! Databases of agents' own: whatever an agent does in its own, nothing else is changed, stopped or failed.

mod backup;
mod destruction;
mod shares;

use rapidclaw::base::secret::{ExposeSecret as _, MasterKey};
use rapidclaw::server::settings::key_file;
use rapidclaw::store::Store;
use rapidclaw::store::agents::Agent;
use rapidclaw::store::databases::{self, database_name};
use rapidclaw::store::postgres::{Managed, Options};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A data folder with a Postgres of its own, run as a server's is; both go with it.
struct Cluster {
    folder: tempfile::TempDir,
    managed: Managed,
    store: Store,
    key: MasterKey,
}

impl Cluster {
    async fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("rc-db-").tempdir().unwrap();
        // Postgres' user passes through.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        Self::on(folder, "data").await
    }

    async fn on(folder: tempfile::TempDir, name: &str) -> Self {
        let data_dir = folder.path().join(name);
        let key = MasterKey::ensure(&key_file(&data_dir)).unwrap();
        let managed = Managed::ensure(&Options { durable: false, ..Options::new(&data_dir) }).await.unwrap();
        let store = Store::open(managed.connect_options()).await.unwrap();
        Self { folder, managed, store, key }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An agent with a database of its own.
    async fn agent(&self, name: &str) -> Own {
        let agent = self.store.ensure_agent(name).await.unwrap();
        self.store.ensure_database(&agent, &databases::password(&self.key, agent.id)).await.unwrap();
        self.own(agent)
    }

    fn own(&self, agent: Agent) -> Own {
        let name = database_name(&agent);
        let options = PgConnectOptions::new_without_pgpass()
            .socket(self.managed.socket())
            .username(&name)
            .password(databases::password(&self.key, agent.id).expose_secret())
            .database(&name)
            .ssl_mode(PgSslMode::Disable);
        Own { agent, name, options }
    }

    /// The server's way into a database.
    async fn server_in(&self, database: &str) -> PgConnection {
        self.managed.options_for(database).connect().await.unwrap()
    }

    async fn end(self) -> tempfile::TempDir {
        self.store.pool().close().await;
        self.managed.stop().await.unwrap();
        self.folder
    }
}

/// An agent's own database, as the agent reaches it.
struct Own {
    agent: Agent,
    name: String,
    options: PgConnectOptions,
}

impl Own {
    async fn connect(&self) -> PgConnection {
        self.options.connect().await.unwrap()
    }

    /// Runs statements as the agent.
    async fn run(&self, sql: &str) {
        run(&mut self.connect().await, sql).await.unwrap_or_else(|error| panic!("{error}: {sql}"));
    }

    /// Why it cannot connect.
    async fn refused(&self) -> sqlx::Error {
        self.options.connect().await.unwrap_err()
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&mut self.connect().await).await.unwrap()
    }
}

async fn run(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.map(drop)
}

fn code(error: &sqlx::Error) -> String {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .map(std::borrow::Cow::into_owned)
        .unwrap_or_default()
}

/// What a program that Postgres runs may write for a test to see.
fn marker(folder: &Path) -> PathBuf {
    let public = folder.join("public");
    std::fs::create_dir(&public).unwrap();
    std::fs::set_permissions(&public, std::fs::Permissions::from_mode(0o777)).unwrap();
    public.join("owned")
}
