//! An agent's schema: its tables and the statements on them.

use super::error::{CheckpointError, failed};
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};
use std::sync::{Arc, OnceLock};

/// The version of the tables' layout: the last migration of `langgraph-checkpoint-postgres` 3.2.
const LAYOUT: i32 = 9;
/// The advisory lock under which tables are made.
const LOCK: i64 = 0x7261_7069_6463_6b70;

/// The name of an agent's schema, with the statements rendered for it. Cheap to clone; make it once
/// an agent and keep it.
#[derive(Debug, Clone)]
pub struct Schema(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    quoted: String,
    /// Those that have run, one for each of [`Frequent`].
    statements: [OnceLock<SqlStr>; 4],
}

/// A statement that runs often: it is rendered once, ready for sqlx's cache of prepared statements.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) enum Frequent {
    Commit,
    Get,
    GetNewest,
    Document,
}

impl Schema {
    /// The schema of this name; it need not exist yet.
    pub fn new(name: &str) -> Result<Self, CheckpointError> {
        let fits = (1..=63).contains(&name.len()) && !name.contains('\0') && !name.starts_with("pg_");
        if !fits {
            return Err(CheckpointError::SchemaName(name.to_owned()));
        }
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        Ok(Self(Arc::new(Inner { name: name.to_owned(), quoted, statements: <[_; 4]>::default() })))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// A statement that runs often, by its template.
    pub(in crate::store) fn frequent(&self, which: Frequent, template: fn() -> String) -> SqlStr {
        self.0.statements[which as usize].get_or_init(|| self.sql(&template())).clone()
    }

    /// A statement with `{s}` replaced by this schema.
    pub(super) fn sql(&self, template: &str) -> SqlStr {
        render(template, &self.0.quoted)
    }
}

/// The schema's name, quoted, is all that ever enters a statement's text.
fn render(template: &str, quoted: &str) -> SqlStr {
    AssertSqlSafe(Arc::<str>::from(template.replace("{s}", quoted))).into_sql_str()
}

/// As `PostgresSaver.setup()` leaves them, its repairs of older layouts included, but for its three indexes on
/// `thread_id` alone: the primary keys begin with that column, and each row would be entered twice.
const TABLES: &str = "
CREATE SCHEMA IF NOT EXISTS {s};
CREATE TABLE IF NOT EXISTS {s}.checkpoint_migrations (v integer PRIMARY KEY);
CREATE TABLE IF NOT EXISTS {s}.checkpoints (
    thread_id text NOT NULL,
    checkpoint_ns text NOT NULL DEFAULT '',
    checkpoint_id text NOT NULL,
    parent_checkpoint_id text,
    type text,
    checkpoint jsonb NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id)
);
CREATE TABLE IF NOT EXISTS {s}.checkpoint_blobs (
    thread_id text NOT NULL,
    checkpoint_ns text NOT NULL DEFAULT '',
    channel text NOT NULL,
    version text NOT NULL,
    type text NOT NULL,
    blob bytea,
    PRIMARY KEY (thread_id, checkpoint_ns, channel, version)
);
CREATE TABLE IF NOT EXISTS {s}.checkpoint_writes (
    thread_id text NOT NULL,
    checkpoint_ns text NOT NULL DEFAULT '',
    checkpoint_id text NOT NULL,
    task_id text NOT NULL,
    idx integer NOT NULL,
    channel text NOT NULL,
    type text,
    blob bytea NOT NULL,
    task_path text NOT NULL DEFAULT '',
    PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
);
ALTER TABLE {s}.checkpoint_blobs ALTER COLUMN blob DROP NOT NULL;
ALTER TABLE {s}.checkpoint_writes ADD COLUMN IF NOT EXISTS task_path text NOT NULL DEFAULT '';
INSERT INTO {s}.checkpoint_migrations (v) SELECT generate_series(0, 9) ON CONFLICT DO NOTHING;
";

/// Makes the schema and its tables where they are not there yet, so that `PostgresSaver.setup()` has
/// nothing to do. To be repeated at will, by several servers at once; tables that a newer saver has
/// set up stay as they are.
pub async fn ensure_schema(pool: &PgPool, schema: &Schema) -> Result<(), CheckpointError> {
    let error = || failed("make an agent's checkpoint tables");
    let mut transaction = pool.begin().await.map_err(error())?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await.map_err(error())?;
    let there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(format!("{}.checkpoint_migrations", schema.0.quoted))
        .fetch_one(&mut *transaction)
        .await
        .map_err(error())?;
    let layout: Option<i32> = if there {
        sqlx::query_scalar(schema.sql("SELECT max(v) FROM {s}.checkpoint_migrations"))
            .fetch_one(&mut *transaction)
            .await
            .map_err(error())?
    } else {
        None
    };
    if layout < Some(LAYOUT) {
        sqlx::raw_sql(schema.sql(TABLES)).execute(&mut *transaction).await.map_err(error())?;
    }
    transaction.commit().await.map_err(error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_impossible_ones_refused() {
        let schema = Schema::new("my-\"agent").unwrap();
        assert_eq!(schema.sql("TABLE {s}.x").as_str(), "TABLE \"my-\"\"agent\".x");
        for name in ["", "pg_mine", "a\0b", &"x".repeat(64)] {
            assert!(matches!(Schema::new(name), Err(CheckpointError::SchemaName(_))), "{name:?}");
        }
    }
}
