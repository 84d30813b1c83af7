//! One server takes over from another: whose gateway gives places.

use super::Gateway;
use super::committer::chain;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a place that is being given may take until its row says so.
const GIVING: Duration = Duration::from_secs(2);

impl Gateway {
    /// Gives no place until [`Gateway::take_places`]: the gateway of the server before still does.
    pub fn wait_for_places(&self) {
        self.0.places.gives.store(false, Ordering::Release);
    }

    /// Gives no place from now on: the gateway of the next server does. Returns when those that were being given are
    /// in the table.
    pub async fn leave_places(&self) {
        self.0.places.gives.store(false, Ordering::Release);
        if tokio::time::timeout(GIVING, self.0.places.giving.write()).await.is_err() {
            tracing::warn!("a run takes long to be accepted: the next server may give its place as well");
        }
        // Whoever waits here hears of it by the run's row.
        let waiting: Vec<_> = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
        for run in waiting {
            self.follow(run);
        }
    }

    /// Gives places from now on, on top of what other gateways still run.
    pub async fn take_places(&self) {
        if let Err(error) = self.count_places(None).await {
            tracing::warn!(error = %chain(&error), "the places that are taken could not be counted");
        }
        self.0.places.gives.store(true, Ordering::Release);
        for route in self.0.routes.read().unwrap_or_else(PoisonError::into_inner).values() {
            route.look_for_waiting();
        }
    }
}
