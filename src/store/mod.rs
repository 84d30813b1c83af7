//! All SQL. One Postgres, one writer: the server. Control tables live in the schema `rapidclaw`, each
//! agent's checkpoints in a schema of their own.

mod absence;
pub mod agents;
pub mod batches;
pub mod checkpoints;
pub mod databases;
pub mod deploys;
mod error;
pub mod history;
pub mod keys;
pub mod limits;
pub mod postgres;
mod reads;
pub mod releases;
pub mod rollouts;
pub mod runs;
pub mod secrets;
pub mod status;
#[doc(hidden)]
pub mod test_database;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod tokens;

pub use error::StoreError;
use postgres::Hot;
use sqlx::PgPool;
use uuid::Uuid;

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("src/store/migrations");

/// The schema of the control tables.
const SCHEMA: &str = "rapidclaw";
/// Settings of the server's connections. All of ours is found by the `search_path`. Every query finds its rows by
/// keys, few at a time: loops over indexes, whatever the statistics say, which know nothing of a burst. A plan
/// that was made when a table was small would be kept when it is not.
const SETTINGS: [(&str, &str); 7] = [
    ("search_path", SCHEMA),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_material", "off"),
    // What must be read whole all the same counts as dear, which would have it compiled.
    ("jit", "off"),
];
/// Connections of a server, its whole use of Postgres, however many replicas there are: those that commit what
/// replicas send, those that accept and begin runs and those that read threads, so that none ever waits behind
/// others, and those for all else.
const COMMITS: u32 = 4;
const BEGINNINGS: u32 = 4;
const READS: u32 = 6;
const CONNECTIONS: u32 = 8;

/// How often a migration is begun again that could not have a lock.
const MIGRATION_TRIES: u32 = 5;

/// The store: small fixed sets of connections. Clones share them.
#[derive(Clone, Debug)]
pub struct Store {
    pool: PgPool,
    commits: Hot,
    beginnings: Hot,
    reads: Hot,
}

impl Store {
    /// Connects and brings the tables to this version.
    pub async fn open(options: sqlx::postgres::PgConnectOptions) -> Result<Self, StoreError> {
        let options = options.options(SETTINGS);
        let commits = Hot::new(options.clone(), COMMITS);
        let beginnings = Hot::new(options.clone(), BEGINNINGS);
        let reads = Hot::new(options.clone(), READS);
        let pool = postgres::pool(options, CONNECTIONS);
        let mut connection = pool.acquire().await?;
        sqlx::query("SELECT pg_advisory_lock(hashtext('rapidclaw.migrate'))").execute(&mut *connection).await?;
        let migrated = async {
            sqlx::query("CREATE SCHEMA IF NOT EXISTS rapidclaw").execute(&mut *connection).await?;
            let mut tries = 0;
            loop {
                match MIGRATOR.run(&mut *connection).await {
                    // The server before this one still works on the tables, and was in the way.
                    Err(error) if is_lock(&error) && tries < MIGRATION_TRIES => tries += 1,
                    migrated => return Ok::<_, StoreError>(migrated?),
                }
            }
        }
        .await;
        sqlx::query("SELECT pg_advisory_unlock(hashtext('rapidclaw.migrate'))").execute(&mut *connection).await?;
        drop(connection);
        migrated.map(|()| Self { pool, commits, beginnings, reads })
    }

    /// The pool, for the other files of this room.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// A transaction whose statements may take minutes: changes of whole threads.
    pub async fn begin_slow(&self) -> Result<sqlx::Transaction<'static, sqlx::Postgres>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let limit = limits::SLOW_STATEMENT.as_millis();
        let sql = format!("SET LOCAL statement_timeout = {limit}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *transaction).await?;
        Ok(transaction)
    }

    /// Closes all connections, each when it is done with what it does.
    pub async fn close(&self) {
        tokio::join!(self.pool.close(), self.commits.close(), self.beginnings.close(), self.reads.close());
    }

    /// A random id made at the first start; labels of containers bear it.
    pub async fn server_id(&self) -> Result<Uuid, StoreError> {
        let fresh = Uuid::now_v7().to_string();
        sqlx::query("INSERT INTO settings (name, value) VALUES ('server_id', $1) ON CONFLICT (name) DO NOTHING")
            .bind(&fresh)
            .execute(&self.pool)
            .await?;
        let text: String =
            sqlx::query_scalar("SELECT value FROM settings WHERE name = 'server_id'").fetch_one(&self.pool).await?;
        Uuid::parse_str(&text).map_err(|error| sqlx::Error::Decode(error.into()).into())
    }
}

/// Whether a migration could not have a lock: a deadlock, or somebody who holds it for long.
fn is_lock(error: &sqlx::migrate::MigrateError) -> bool {
    use sqlx::migrate::MigrateError;
    let (MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = error else { return false };
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| matches!(code.as_ref(), "40P01" | "55P03"))
}

impl Store {
    /// What the key is told by that secrets are sealed with; nothing where no server has said it yet.
    pub async fn key_check(&self) -> Result<Option<String>, StoreError> {
        let query = sqlx::query_scalar("SELECT value FROM settings WHERE name = 'key_check'");
        Ok(query.fetch_optional(&self.pool).await?)
    }

    /// Whether anything is sealed.
    pub async fn has_secrets(&self) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar("SELECT EXISTS (SELECT FROM secret_values) OR EXISTS (SELECT FROM secrets)")
            .fetch_one(&self.pool)
            .await?)
    }

    /// Says it, once.
    pub async fn set_key_check(&self, check: &str) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO settings (name, value) VALUES ('key_check', $1) ON CONFLICT (name) DO NOTHING")
            .bind(check)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

/// Whether an error is Postgres's refusal of a second row under the unique index `name`.
fn violates(error: &sqlx::Error, name: &str) -> bool {
    error.as_database_error().is_some_and(|error| error.is_unique_violation() && error.constraint() == Some(name))
}
