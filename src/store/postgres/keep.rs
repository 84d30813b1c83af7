//! Keeps the managed Postgres alive: one that was killed is started again.

use super::{Managed, Options, PostgresError, limits};
use crate::base::telemetry::chain;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// When a managed Postgres was last found dead: connections that are older than that are of no use.
static LAST_DEATH: Mutex<Option<Instant>> = Mutex::new(None);

/// Whether it cannot be started again because its disk is full.
static IS_FULL: AtomicBool = AtomicBool::new(false);

/// Whether the managed Postgres is away because its disk is full.
pub fn is_full() -> bool {
    IS_FULL.load(Ordering::Relaxed)
}

/// Whether a connection that is `age` old was made before the last death.
pub(super) fn outlived(age: std::time::Duration) -> bool {
    let last = *LAST_DEATH.lock().unwrap_or_else(PoisonError::into_inner);
    last.is_some_and(|death| death.elapsed() < age)
}

/// Looks after the Postgres of a data folder for as long as it is polled. What is done against it meanwhile
/// fails as passing ([`crate::store::StoreError::is_passing`]) and may be tried again.
pub async fn keep(options: Options) {
    let mut pause = limits::KEEP_EVERY;
    loop {
        tokio::time::sleep(pause).await;
        pause = limits::KEEP_EVERY;
        match Managed::is_alive(&options.data_dir).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::warn!(error = %chain(&error), "the managed Postgres could not be looked for"),
        }
        *LAST_DEATH.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let began = Instant::now();
        tracing::error!("the managed Postgres is gone; it is started again");
        let outcome = Managed::ensure(&options).await;
        IS_FULL.store(matches!(outcome, Err(PostgresError::DiskFull { .. })), Ordering::Relaxed);
        match outcome {
            Ok(_) => tracing::info!(seconds = began.elapsed().as_secs_f64(), "the managed Postgres runs again"),
            Err(error) => {
                tracing::error!(error = %chain(&error), "the managed Postgres could not be started");
                pause = limits::KEEP_AFTER_FAILURE;
            }
        }
    }
}
