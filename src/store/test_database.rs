//! A real Postgres for tests: one for the machine, a fresh database for each test.

use crate::store::postgres::{Managed, Options, PostgresError, pool};
use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::{AssertSqlSafe, ConnectOptions as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// A database of a test's own; dropped with this value.
pub struct TestDatabase {
    server: Managed,
    name: String,
    pool: PgPool,
}

impl TestDatabase {
    /// A new empty database. Panics with the command that helps where this machine has no Postgres.
    pub async fn new() -> Self {
        Self::on(server().await).await
    }

    /// A new empty database in a Postgres of the caller's.
    pub async fn on(server: Managed) -> Self {
        let name = format!("test_{}", Uuid::now_v7().simple());
        run(&server, format!("CREATE DATABASE {name}")).await;
        let pool = pool(server.options_for(&name), 8);
        Self { server, name, pool }
    }

    /// A pool of connections to it.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// How to connect to it.
    pub fn options(&self) -> PgConnectOptions {
        self.server.options_for(&self.name)
    }

    /// The same as a URL.
    pub fn url(&self) -> String {
        format!("postgres://rapidclaw@localhost/{}?host={}", self.name, self.server.socket().display())
    }

    /// The folder of Postgres' socket, for clients that are not ours.
    pub fn socket(&self) -> &Path {
        self.server.socket()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (server, sql) = (self.server.clone(), format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        // A test's runtime cannot wait here: a thread with one of its own does.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                runtime.block_on(try_run(&server, sql)).ok();
            }
        });
        dropped.join().ok();
    }
}

/// The machine's Postgres for tests of this user; started where it does not run. It survives the
/// tests, so that the next start at once; `fsync` is off.
async fn server() -> Managed {
    let we = rustix::process::geteuid().as_raw();
    let folder = PathBuf::from(format!("/tmp/rapidclaw-test-pg-{we}"));
    let stranger = std::fs::symlink_metadata(&folder).is_ok_and(|meta| meta.uid() != we || !meta.is_dir());
    assert!(!stranger, "{} is not ours: remove it", folder.display());
    let options = Options { max_connections: 200, durable: false, ..Options::new(folder) };
    match Managed::ensure(&options).await {
        Ok(server) => server,
        Err(error) => panic!("{}", explain(&error)),
    }
}

fn explain(error: &PostgresError) -> String {
    use std::error::Error as _;
    let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    format!("tests need a real Postgres: {error}{source}{hint}")
}

async fn run(server: &Managed, sql: String) {
    if let Err(error) = try_run(server, sql).await {
        panic!("the tests' Postgres: {error}");
    }
}

async fn try_run(server: &Managed, sql: String) -> Result<(), sqlx::Error> {
    let mut connection = server.options_for("postgres").connect().await?;
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_test_has_a_database_of_its_own_and_leaves_none_behind() {
        let (one, two) = (TestDatabase::new().await, TestDatabase::new().await);
        sqlx::query("CREATE TABLE t ()").execute(one.pool()).await.unwrap();
        sqlx::query("CREATE TABLE t ()").execute(two.pool()).await.unwrap();
        let name = one.name().to_owned();
        drop(one);
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_database WHERE datname = $1")
            .bind(name)
            .fetch_one(two.pool())
            .await
            .unwrap();
        assert_eq!(left, 0);
    }
}
