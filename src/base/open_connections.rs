//! The open connections of replicas to this process. A server that takes over gets the sockets at which new ones come;
//! those that are open stay with this process, which stays for them.

use std::future::Future;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Those of one server. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct OpenConnections {
    leaving: CancellationToken,
    open: TaskTracker,
}

impl OpenConnections {
    /// Counts a connection among these until its task ends.
    pub fn track<F: Future>(&self, connection: F) -> impl Future<Output = F::Output> + use<F> {
        self.open.track_future(connection)
    }

    /// Says that another server has taken over: clients that can be told to close are told so.
    pub fn leave(&self) {
        self.leaving.cancel();
        self.open.close();
    }

    /// Cancelled when another server has taken over.
    pub fn leaving(&self) -> &CancellationToken {
        &self.leaving
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.len()
    }

    /// Returns when this server leaves and none is open.
    pub async fn ended(&self) {
        self.open.wait().await;
    }
}
