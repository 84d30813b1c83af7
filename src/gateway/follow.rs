//! Runs that end elsewhere: one task looks at the rows of all that are waited for here, in one statement.

use super::committer::chain;
use super::{Gateway, outcome};
use std::sync::PoisonError;
use std::time::Duration;
use uuid::Uuid;

/// How often the rows are looked at while there are any.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Follows for as long as the gateway lives.
pub(super) async fn run(gateway: Gateway) {
    loop {
        let followed = followed(&gateway);
        if followed.is_empty() {
            gateway.0.follows.notified().await;
            continue;
        }
        match gateway.store().ended_among(&followed).await {
            Ok(ended) => {
                for run in ended {
                    tell(&gateway, run).await;
                }
            }
            Err(error) => tracing::warn!(error = %chain(&error), "the ends of runs could not be looked for"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Those that somebody still waits for; the others are forgotten.
fn followed(gateway: &Gateway) -> Vec<Uuid> {
    let mut followed = gateway.0.followed.lock().unwrap_or_else(PoisonError::into_inner);
    followed.retain(|run| gateway.is_waited_for(*run));
    // What is executed here tells it itself, with its replica.
    followed.iter().copied().filter(|run| !gateway.is_executing_some(*run)).collect()
}

async fn tell(gateway: &Gateway, run: Uuid) {
    match gateway.store().find_run(run).await {
        Ok(Some(row)) => {
            if let Some(outcome) = outcome::stored(&row) {
                gateway.deliver(run, outcome);
            }
        }
        Ok(None) => gateway.forget(run),
        Err(error) => tracing::warn!(run_id = %run, error = %chain(&error), "a run's end could not be read"),
    }
}
