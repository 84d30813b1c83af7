//! Pools of connections, every way into them bounded.

use super::deaths::outlived;
use crate::store::limits;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use std::time::Duration;

/// A pool of at most `max` connections, opened when they are needed.
pub fn pool(options: PgConnectOptions, max: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(max)
        .acquire_timeout(limits::ACQUIRE)
        .idle_timeout(limits::IDLE)
        .max_lifetime(limits::LIFETIME)
        // A question before each use would be a round trip more for each: those long idle are asked alone.
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for < limits::PING_AFTER_IDLE && !outlived(meta.age) {
                    return Ok(true);
                }
                Ok(matches!(tokio::time::timeout(limits::CONNECT, connection.ping()).await, Ok(Ok(()))))
            })
        })
        .connect_lazy_with(options)
}

/// The options with our time-outs and without sqlx's log of statements.
pub(super) fn bounded(options: PgConnectOptions) -> PgConnectOptions {
    let millis = |time: Duration| time.as_millis().to_string();
    options
        .application_name("rapidclaw")
        .statement_cache_capacity(limits::STATEMENT_CACHE)
        .options([
            ("statement_timeout", millis(limits::STATEMENT)),
            ("lock_timeout", millis(limits::LOCK)),
            ("idle_in_transaction_session_timeout", millis(limits::IDLE_IN_TRANSACTION)),
        ])
        .disable_statement_logging()
}

/// One connection, within its time.
pub(super) async fn open(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    tokio::time::timeout(limits::CONNECT, options.connect())
        .await
        .unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
}
