//! Which uploads are under way, and how far each is.

use sha2::Sha256;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How many requests write at the same time; each holds a thread.
const AT_ONCE: usize = 64;

/// What uploads know in memory. It can be lost: then a file is read once more.
pub(super) struct Uploads {
    slots: Mutex<HashMap<Uuid, Arc<Slot>>>,
    pub(super) writers: Arc<Semaphore>,
}

impl Default for Uploads {
    fn default() -> Self {
        Self { slots: Mutex::default(), writers: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

#[derive(Default)]
pub(super) struct Slot {
    pub(super) progress: Arc<AsyncMutex<Progress>>,
    /// Ends the request that writes now.
    writer: Mutex<CancellationToken>,
}

/// How far an upload is.
#[derive(Clone, Default)]
pub(super) struct Progress {
    /// Of all that is in the file; nothing after a start of the server.
    pub(super) hasher: Option<Sha256>,
    pub(super) bytes: u64,
}

impl Uploads {
    pub(super) fn slot(&self, id: Uuid) -> Arc<Slot> {
        Arc::clone(self.slots.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default())
    }

    pub(super) fn forget(&self, id: Uuid) -> Option<Arc<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }

    /// Forgets those that are not told of.
    pub(super) fn forget_all_but(&self, known: impl Fn(Uuid) -> bool) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| known(*id));
    }
}

impl Slot {
    /// Ends the request that writes; the token ends the one that asks.
    pub(super) fn take_over(&self) -> CancellationToken {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.cancel();
        *writer = CancellationToken::new();
        writer.clone()
    }
}
