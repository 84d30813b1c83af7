//! Which gateway gives runs their places, where one server takes over from another: never both at once.
//!
//! The one that leaves gives none from then on; what runs there ends there, and what waits is the other's. That
//! one begins once the first has said so, and counts what the first still runs.

use super::Gateway;
use super::committer::chain;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{RwLock, RwLockReadGuard};

/// How long a place that is being given may take until its row says so.
const GIVING: Duration = Duration::from_secs(2);

/// Whether this gateway gives places.
pub(super) struct Places {
    gives: AtomicBool,
    /// Held for reading from the taking of a place to the row that says so.
    giving: RwLock<()>,
}

impl Default for Places {
    fn default() -> Self {
        Self { gives: AtomicBool::new(true), giving: RwLock::default() }
    }
}

impl Places {
    /// To be held while a place is given; nothing where another gateway gives them.
    pub async fn give(&self) -> Option<RwLockReadGuard<'_, ()>> {
        let guard = self.giving.read().await;
        self.are_given().then_some(guard)
    }

    pub fn are_given(&self) -> bool {
        self.gives.load(Ordering::Acquire)
    }
}

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
