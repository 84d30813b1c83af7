//! Keeps the managed Postgres alive: one that was killed is started again.

use super::error::PostgresError;
use super::options::Options;
use super::{Managed, deaths};
use crate::base::telemetry::chain;
use crate::store::limits;
use std::time::Instant;

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
        deaths::note();
        let began = Instant::now();
        tracing::error!("the managed Postgres is gone; it is started again");
        let outcome = Managed::ensure(&options).await;
        deaths::note_full(matches!(outcome, Err(PostgresError::DiskFull { .. })));
        match outcome {
            Ok(_) => tracing::info!(seconds = began.elapsed().as_secs_f64(), "the managed Postgres runs again"),
            Err(error) => {
                tracing::error!(error = %chain(&error), "the managed Postgres could not be started");
                pause = limits::KEEP_AFTER_FAILURE;
            }
        }
    }
}
