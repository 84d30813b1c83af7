//! Which gateway gives runs their places, where one server takes over from another: never both at once.
//!
//! The one that leaves gives none from then on; what runs there ends there, and what waits is the other's. That
//! one begins once the first has said so, and counts what the first still runs.

use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{RwLock, RwLockReadGuard};

/// Whether this gateway gives places.
pub(super) struct Places {
    pub gives: AtomicBool,
    /// Held for reading from the taking of a place to the row that says so.
    pub giving: RwLock<()>,
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
