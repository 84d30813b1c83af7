//! Every time-out and bound of the way to Postgres, in one table.

use std::time::Duration;

/// To open one connection, greeting and authentication included.
pub const CONNECT: Duration = Duration::from_secs(5);
/// To get a connection from a pool.
pub const ACQUIRE: Duration = Duration::from_secs(10);
/// One statement, on the server's side.
pub const STATEMENT: Duration = Duration::from_secs(30);
/// One statement of a change of whole threads (deleting, copying, cutting).
pub const SLOW_STATEMENT: Duration = Duration::from_mins(5);
/// To wait for a row's or table's lock.
pub const LOCK: Duration = Duration::from_secs(10);
/// The same, before the sessions that hold it are ended.
pub const BRIEF_LOCK: Duration = Duration::from_secs(1);
/// A transaction in which nothing happens; no transaction stays open during a run.
pub const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(30);
/// A pooled connection that was idle for longer is asked whether it lives before it is used.
pub const PING_AFTER_IDLE: Duration = Duration::from_secs(5);
/// A pooled connection that was idle for longer is closed.
pub const IDLE: Duration = Duration::from_mins(10);
/// A pooled connection lives no longer: what Postgres keeps per connection is given back.
pub const LIFETIME: Duration = Duration::from_hours(1);
/// Prepared statements that one connection keeps (each agent's schema has its own).
pub const STATEMENT_CACHE: usize = 256;

/// A new Postgres accepts connections.
pub const START: Duration = Duration::from_mins(1);
/// A Postgres that lives but still recovers from a crash accepts connections.
pub const RECOVERY: Duration = Duration::from_mins(10);
/// Children of a killed Postgres end.
pub const ORPHANS: Duration = Duration::from_secs(20);
/// A fast shutdown, its last checkpoint included; then it is stopped at once.
pub const STOP: Duration = Duration::from_mins(1);
/// After an immediate stop.
pub const STOP_NOW: Duration = Duration::from_secs(10);
/// `initdb`.
pub const INIT: Duration = Duration::from_mins(3);
/// A whole database, written or read.
pub const DUMP: Duration = Duration::from_hours(4);
/// The database of an agent's own, written or read: one that takes longer holds up no other.
pub const DUMP_OWN: Duration = Duration::from_mins(30);
/// How often it is looked at meanwhile.
pub const DUMP_LOOK_EVERY: Duration = Duration::from_millis(500);
/// Sessions that were ended are gone.
pub const ENDED: Duration = Duration::from_secs(10);
/// `postgres --version`, `pg_config --bindir`, `id`.
pub const QUESTION: Duration = Duration::from_secs(10);
/// Another process of ours starts the same Postgres.
pub const BUSY: Duration = Duration::from_mins(5);
/// How often it is looked whether the managed Postgres lives.
pub const KEEP_EVERY: Duration = Duration::from_millis(250);
/// After one that could not be started again.
pub const KEEP_AFTER_FAILURE: Duration = Duration::from_secs(5);
/// Between two looks at something that is awaited.
pub const POLL: Duration = Duration::from_millis(20);
