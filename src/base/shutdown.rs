//! One tree of cancellation and one tracker for all tasks: no task is spawned bare.

use std::future::Future;
use std::time::Duration;
use tokio::task::JoinHandle;
pub use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Handle to spawn tasks that end with the server. Clones share the tracker and the token.
#[derive(Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tracker: TaskTracker,
}

impl Shutdown {
    /// The token that is cancelled when everything shall end.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// A scope of its own: its token ends with ours or alone; its tasks count among ours.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token(), tracker: self.tracker.clone() }
    }

    /// Spawns a task that [`Shutdown::finish`] waits for. It must watch the token itself.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(task)
    }

    /// Spawns a task that is dropped at its next await when the token is cancelled.
    pub fn spawn_until_cancelled<F>(&self, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let token = self.token.clone();
        self.tracker.spawn(async move {
            token.run_until_cancelled(task).await;
        })
    }

    /// Asks all to end.
    pub fn cancel(&self) {
        self.token.cancel();
    }

    /// Cancels, then waits for the tasks, `grace` at most. Says whether all ended.
    pub async fn finish(&self, grace: Duration) -> bool {
        self.cancel();
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait()).await.is_ok()
    }
}
