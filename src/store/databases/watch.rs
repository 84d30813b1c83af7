//! What agents' own databases take of what all share: the disk, the table of locks, old rows.
//!
//! Postgres has no bound of these for a role. So they are looked at, and sessions that take too much are ended:
//! a transaction that never ends keeps rows from being cleaned away, and one that takes all locks fails
//! everybody's next statement.

use crate::store::postgres::agent_databases::{name_of, terminate, undisturbed};
use crate::store::{Store, StoreError};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

/// What an agent's own database may take of the disk. Beyond it the database is read-only.
pub const SIZE_BYTES: i64 = 10 << 30;
/// Locks of one session: a schema of ten thousand tables with an index each, and room.
const LOCKS: i64 = 25_000;
/// A transaction in which nothing happens.
const IDLE_HOURS: f64 = 1.0;
/// Any transaction.
const TRANSACTION_HOURS: f64 = 12.0;

/// An agent's own database that is too large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullDatabase {
    /// Whose.
    pub agent: Uuid,
    /// The agent's name.
    pub name: String,
    /// How large it is.
    pub bytes: i64,
    /// Whether it has become so since it was last looked at.
    pub is_new: bool,
}

/// A session that was ended.
#[derive(Debug, Clone, FromRow)]
pub struct EndedSession {
    /// The database.
    pub database: String,
    /// Why.
    pub why: String,
}

/// How a database stands to its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Writable,
    /// Sessions begin read-only; an agent may still delete.
    ReadOnly,
    /// It went on all the same: nobody enters any more.
    Closed,
}

fn standing(bytes: i64, most: i64) -> Standing {
    match bytes {
        _ if bytes <= most => Standing::Writable,
        _ if bytes <= most.saturating_add(most / 4) => Standing::ReadOnly,
        _ => Standing::Closed,
    }
}

impl Store {
    /// Makes databases of agents' own that are larger than `most` bytes read-only, and takes that back from those
    /// that are smaller again. Gives those that are larger.
    pub async fn bound_databases(&self, most: i64) -> Result<Vec<FullDatabase>, StoreError> {
        let mut connection = self.pool().acquire().await?;
        let agents: Vec<(Uuid, String, String)> =
            sqlx::query_as("SELECT id, name, schema_name FROM agents WHERE destroyed_at IS NULL")
                .fetch_all(&mut *connection)
                .await?;
        let mut full = Vec::new();
        for (agent, name, schema) in agents {
            let database = name_of(agent, &schema);
            let state: Option<(i64, bool, bool)> = sqlx::query_as(
                "SELECT pg_database_size(d.oid), r.rolconnlimit = 0,
                   EXISTS (SELECT 1 FROM pg_db_role_setting s WHERE s.setdatabase = d.oid AND s.setrole = r.oid
                     AND 'default_transaction_read_only=on' = ANY (s.setconfig))
                 FROM pg_database d JOIN pg_roles r ON r.rolname = d.datname WHERE d.datname = $1 AND r.rolcanlogin",
            )
            .bind(&database)
            .fetch_optional(&mut *connection)
            .await?;
            let Some((bytes, is_closed, is_read_only)) = state else { continue };
            let now = if is_closed {
                Standing::Closed
            } else if is_read_only {
                Standing::ReadOnly
            } else {
                Standing::Writable
            };
            let wanted = standing(bytes, most);
            if wanted != now {
                bound(&mut connection, &database, wanted).await?;
            }
            if wanted != Standing::Writable {
                full.push(FullDatabase { agent, name, bytes, is_new: wanted != now });
            }
        }
        Ok(full)
    }

    /// Ends sessions in databases of agents' own that hold what all need.
    pub async fn end_greedy_sessions(&self) -> Result<Vec<EndedSession>, StoreError> {
        // One's own database is the one whose name the role bears: of those alone sessions are ended.
        let ended = sqlx::query_as(
            "WITH greedy AS (
               SELECT a.pid, a.datname, CASE
                 WHEN l.held > $1 THEN format('it held %s locks', l.held)
                 WHEN a.state LIKE 'idle in transaction%' AND a.state_change < now() - make_interval(secs => $2 * 3600)
                   THEN 'nothing happened in its transaction for too long'
                 WHEN a.xact_start < now() - make_interval(secs => $3 * 3600) THEN 'its transaction took too long'
               END AS why
               FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
               LEFT JOIN (SELECT pid, count(*) AS held FROM pg_locks GROUP BY pid) l ON l.pid = a.pid
               WHERE a.usename = a.datname AND NOT r.rolsuper)
             SELECT datname::text AS database, why FROM greedy
             WHERE why IS NOT NULL AND pg_terminate_backend(pid)",
        )
        .bind(LOCKS)
        .bind(IDLE_HOURS)
        .bind(TRANSACTION_HOURS);
        Ok(ended.fetch_all(self.pool()).await?)
    }
}

async fn bound(connection: &mut PgConnection, name: &str, wanted: Standing) -> Result<(), sqlx::Error> {
    let read_only = match wanted {
        Standing::Writable => "RESET default_transaction_read_only",
        Standing::ReadOnly | Standing::Closed => "SET default_transaction_read_only = on",
    };
    let connections = if wanted == Standing::Closed { 0 } else { super::CONNECTIONS };
    undisturbed(connection, name, &format!("ALTER ROLE \"{name}\" IN DATABASE \"{name}\" {read_only}")).await?;
    undisturbed(connection, name, &format!("ALTER ROLE \"{name}\" CONNECTION LIMIT {connections}")).await?;
    // It holds for sessions that begin now.
    if wanted != Standing::Writable {
        terminate(connection, name).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_closes_when_it_grows_though_it_is_read_only() {
        assert_eq!(standing(0, 100), Standing::Writable);
        assert_eq!(standing(100, 100), Standing::Writable);
        assert_eq!(standing(101, 100), Standing::ReadOnly);
        assert_eq!(standing(125, 100), Standing::ReadOnly);
        assert_eq!(standing(126, 100), Standing::Closed);
        assert_eq!(standing(i64::MAX, i64::MAX), Standing::Writable);
    }
}
