//! When the managed Postgres was last found dead.

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

/// Notes that it was found dead.
pub(super) fn note() {
    *LAST_DEATH.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
}

/// Notes whether it cannot be started again because its disk is full.
pub(super) fn note_full(full: bool) {
    IS_FULL.store(full, Ordering::Relaxed);
}
