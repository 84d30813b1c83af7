//! How many files and sockets this process may have open, and what share of them is whose.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::{Arc, OnceLock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// More are of no use.
const MOST: u64 = 1 << 20;
/// Kept for files, the database, the engine and replicas' own connections.
const RESERVED: u64 = 256;
/// Where the system does not say how many there may be.
const USUAL: u64 = 1024;

/// How many connections each side may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Of the agents' API.
    pub agents: usize,
    /// Of the control API and the registry; nobody else gets these.
    pub control: usize,
    /// Of all replicas: to models, to allowed hosts and to databases. Each has two sockets.
    pub replicas: usize,
}

impl Shares {
    /// Of so many open files.
    pub fn of(files: u64) -> Self {
        let free = files.saturating_sub(RESERVED).max(64);
        let share = |part: u64, most: u64| usize::try_from(part.clamp(16, most)).unwrap_or(usize::MAX);
        Self { agents: share(free / 2, 8192), control: share(free / 8, 1024), replicas: share(free * 3 / 16, 8192) }
    }
}

/// Raises the soft limit of open files to the hard one; says what it is now.
pub fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(MOST).min(MOST);
    if current.is_some_and(|current| current < wanted) {
        match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
            Ok(()) => return wanted,
            Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
        }
    }
    current.unwrap_or(USUAL)
}

/// A place for one more connection of a replica; nothing when all replicas together have as many as they may.
pub fn replica_connection() -> Option<OwnedSemaphorePermit> {
    static PLACES: OnceLock<Arc<Semaphore>> = OnceLock::new();
    let places = PLACES.get_or_init(|| Arc::new(Semaphore::new(of_replicas())));
    Arc::clone(places).try_acquire_owned().ok()
}

/// How many connections of one kind (to models, to hosts, to its database) one replica may have, of `most`: where
/// files are few, one replica does not take them all.
pub fn of_one_replica(most: usize) -> usize {
    most.min(of_replicas() / 4)
}

fn of_replicas() -> usize {
    Shares::of(getrlimit(Resource::Nofile).current.unwrap_or(USUAL)).replicas
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_fit_into_the_limit() {
        for files in [1024, 4096, 65_536, 1 << 20] {
            let Shares { agents, control, replicas } = Shares::of(files);
            let used = u64::try_from(agents + control + 2 * replicas).unwrap();
            assert!(used + RESERVED <= files && agents >= 256 && control >= 64, "{files}: {used}");
        }
        assert_eq!(Shares::of(1 << 20).control, 1024);
    }
}
