//! One tree of cancellation and one tracker for all tasks: no task is spawned bare.
//!
//! What lives as long as the server is spawned by [`Shutdown::supervise`]: it has a name, and begins again when it
//! panics or ends early. A panic of anything else is counted under the place that spawned it. `status`, `server
//! status` and `doctor` show both.

use super::tasks::{End, Tasks, panic_text};
use futures_util::FutureExt as _;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location};
use std::time::Duration;
use tokio::task::JoinHandle;
pub use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What ends because others do ends before it is asked to, for a moment.
const MOMENT: Duration = Duration::from_millis(100);

/// Handle to spawn tasks that end with the server. Clones share the tracker and the token.
#[derive(Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tracker: TaskTracker,
    tasks: Tasks,
    broken: CancellationToken,
}

impl Shutdown {
    /// The token that is cancelled when everything shall end.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// A scope of its own: its token ends with ours or alone; its tasks count among ours.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token(), ..self.clone() }
    }

    /// A scope that ends when it is asked to and not with ours; what fails in it is told with ours.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self { tasks: self.tasks.clone(), broken: self.broken.clone(), ..Self::default() }
    }

    /// The tasks that have failed.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Spawns a task that [`Shutdown::finish`] waits for. It must watch the token itself.
    #[track_caller]
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(self.counted(task, Location::caller()))
    }

    /// Spawns a task that is dropped at its next await when the token is cancelled.
    #[track_caller]
    pub fn spawn_until_cancelled<F>(&self, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let token = self.token.clone();
        let task = self.counted(task, Location::caller());
        self.tracker.spawn(async move {
            token.run_until_cancelled(task).await;
        })
    }

    /// Keeps a task of that name alive until the token is cancelled or it is [`End::Done`]: one that panics or ends
    /// early is logged, counted and made again, after a pause that grows. What ends because all do has not failed.
    pub fn supervise<F>(&self, name: impl Into<String>, mut make: impl FnMut() -> F + Send + 'static) -> JoinHandle<()>
    where
        F: Future + Send + 'static,
        F::Output: Into<End>,
    {
        let (name, tasks, token) = (name.into(), self.tasks.clone(), self.token.clone());
        self.tracker.spawn(async move {
            let kept = async {
                loop {
                    tasks.begins(&name);
                    let how = match AssertUnwindSafe(async { make().await }).catch_unwind().await.map(Into::into) {
                        Ok(End::Done) => return,
                        // What it listened to has ended before it, with everything else.
                        Ok(End::Early) if tokio::time::timeout(MOMENT, token.cancelled()).await.is_ok() => return,
                        Ok(End::Early) => "it ended".to_owned(),
                        Err(payload) => panic_text(payload.as_ref()),
                    };
                    tokio::time::sleep(tasks.failed(&name, &how)).await;
                }
            };
            token.run_until_cancelled(kept).await;
            tasks.done(&name);
        })
    }

    /// Says that something has ended without which the server is none: the process ends, for a clean start.
    pub fn break_off(&self, name: &str, how: &str) {
        self.tasks.failed(name, how);
        self.broken.cancel();
    }

    /// Returns when something has been [broken off](Self::break_off).
    pub async fn is_broken(&self) {
        self.broken.cancelled().await;
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

    /// The task; a panic is counted on its way.
    fn counted<F: Future>(
        &self,
        task: F,
        place: &'static Location<'static>,
    ) -> impl Future<Output = F::Output> + use<F> {
        let tasks = self.tasks.clone();
        async move {
            match AssertUnwindSafe(task).catch_unwind().await {
                Ok(output) => output,
                Err(payload) => {
                    let name = format!("{}:{}", place.file(), place.line());
                    tasks.failed(&name, &panic_text(payload.as_ref()));
                    tasks.begins(&name);
                    std::panic::resume_unwind(payload)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::tasks::Failing;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn a_task_that_panics_or_ends_early_is_counted_told_and_made_again() {
        let shutdown = Shutdown::default();
        let (times, running) = (Arc::new(AtomicU32::new(0)), Arc::new(tokio::sync::Notify::new()));
        let (count, runs) = (Arc::clone(&times), Arc::clone(&running));
        shutdown.supervise("the task", move || {
            let (count, runs) = (Arc::clone(&count), Arc::clone(&runs));
            async move {
                match count.fetch_add(1, Ordering::Relaxed) {
                    0 => panic!("at first"),
                    1 => {}
                    _ => {
                        runs.notify_one();
                        std::future::pending::<()>().await;
                    }
                }
            }
        });
        running.notified().await;
        let told = shutdown.tasks().failing();
        let wanted = Failing { name: "the task".into(), failures: 2, how: "it ended".into(), runs: true };
        assert_eq!(told, [wanted]);
        assert!(shutdown.finish(Duration::from_secs(1)).await);
    }

    #[tokio::test]
    async fn a_panic_while_a_task_is_made_counts_and_one_that_is_done_is_not_made_again() {
        let shutdown = Shutdown::default();
        let (mut times, made) = (0, Arc::new(tokio::sync::Notify::new()));
        let tell = Arc::clone(&made);
        shutdown.supervise("made badly", move || {
            times += 1;
            assert!(times > 1, "not yet");
            tell.notify_one();
            async { End::Done }
        });
        made.notified().await;
        assert!(shutdown.finish(Duration::from_secs(1)).await);
        assert_eq!(shutdown.tasks().failing(), [], "it is done with");
    }

    #[tokio::test]
    async fn what_ends_because_all_do_has_not_failed() {
        for _ in 0..100 {
            let shutdown = Shutdown::default();
            let (first, second) = (shutdown.child(), shutdown.child());
            let (sender, receiver) = tokio::sync::mpsc::channel::<()>(1);
            let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
            first.supervise("one that sends", move || {
                let sender = sender.clone();
                async move { sender.closed().await }
            });
            second.supervise("one that receives", move || {
                let receiver = Arc::clone(&receiver);
                async move { while receiver.lock().await.recv().await.is_some() {} }
            });
            tokio::task::yield_now().await;
            first.cancel();
            tokio::task::yield_now().await;
            assert!(shutdown.finish(Duration::from_secs(5)).await);
            assert_eq!(shutdown.tasks().failing(), []);
        }
    }

    #[tokio::test]
    async fn a_panic_of_any_other_task_is_counted_where_it_was_spawned() {
        let shutdown = Shutdown::default();
        let task = shutdown.spawn(async { assert!(std::env::args().count() == 0, "for some reason") });
        assert!(task.await.is_err());
        let told = shutdown.tasks().failing();
        assert!(told[0].name.contains("base/shutdown.rs:") && told[0].how.ends_with("for some reason"), "{told:?}");
    }
}
