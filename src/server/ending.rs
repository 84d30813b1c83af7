//! The two ways a server ends: it stops, or another one has taken over.

use super::listener::Doors;
use crate::base::shutdown::{CancellationToken, Shutdown};
use crate::control::Control;
use crate::gateway::Gateway;
use crate::gateway::committer::chain;
use crate::store::Store;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// How long requests in flight may go on when the server stops.
const REQUEST_GRACE: Duration = Duration::from_secs(10);
/// After a handover, how long connections that are open may bring their next request: it is answered, and
/// tells the client to close.
const LINGER: Duration = Duration::from_secs(2);
/// After a handover, how long what was taken may go on, and how long replicas may use the connections through here
/// that they have open.
const HANDED_OVER_GRACE: Duration = Duration::from_secs(15 * 60);
/// How long a replica may take to end.
const REPLICA_GRACE: Duration = Duration::from_secs(5);
/// How long tasks may take to end at last.
const TASK_GRACE: Duration = Duration::from_secs(5);

/// What runs, on its way to its end.
pub struct Running {
    pub control: Control,
    pub gateway: Gateway,
    pub store: Store,
    /// Ends all tasks.
    pub shutdown: Shutdown,
    /// Ends those that look after replicas.
    pub reconcilers: Shutdown,
    /// Ends the task that keeps Postgres alive.
    pub keeper: Shutdown,
    /// Closes open connections.
    pub closing: CancellationToken,
    /// Closes the listeners.
    pub doors: Doors,
    pub servers: [JoinHandle<()>; 2],
}

impl Running {
    /// The server is being stopped: requests in flight have a moment, then the replicas end. Runs that have
    /// not ended go on when the server is back.
    pub async fn stop(self) {
        tracing::info!("the server stops");
        self.closing.cancel();
        for server in self.servers {
            let _ = tokio::time::timeout(REQUEST_GRACE, server).await;
        }
        self.reconcilers.cancel();
        self.keeper.cancel();
        if let Err(error) = self.control.stop_replicas(REPLICA_GRACE).await {
            tracing::warn!(error = %chain(&error), "replicas may still run");
        }
        self.gateway.dismiss();
        self.gateway.settle(TASK_GRACE).await;
        let _ = self.store.drop_lease(self.gateway.id()).await;
        self.shutdown.finish(TASK_GRACE).await;
        self.store.close().await;
    }

    /// Another server serves in this one's place: what was taken here ends here, and the replicas live on. Their calls
    /// of models and hosts that go through here, whichever server's runs make them, end here too.
    /// That has less time once `stopped` says that it is being stopped as well.
    pub async fn leave(self, stopped: impl Future<Output = ()>) {
        self.control.connections().leave();
        tracing::info!("another server has taken over; what was taken here ends here");
        // Postgres is the other one's now: to stop it, too.
        self.keeper.cancel();
        self.doors.close();
        let (until, hurried) = (Instant::now() + HANDED_OVER_GRACE, CancellationToken::new());
        let mut stopped = std::pin::pin!(stopped);
        let is_stopped = tokio::select! {
            () = tokio::time::sleep(LINGER) => false,
            () = &mut stopped => true,
        };
        self.closing.cancel();
        let settled = async {
            for server in self.servers {
                let _ = timeout_at(until, server).await;
            }
            self.gateway.settle(until.saturating_duration_since(Instant::now())).await;
            let connections = self.control.connections();
            if connections.count() > 0 {
                tracing::info!(open = connections.count(), "replicas still use connections through this server");
            }
            // Replicas that are being ended need none.
            let ended = timeout_at(until, connections.ended());
            if let Some(Err(_)) = hurried.run_until_cancelled(ended).await {
                tracing::warn!(open = connections.count(), "connections of replicas are cut after a restart");
            }
        };
        let hurry = async {
            if !is_stopped {
                stopped.await;
            }
            hurried.cancel();
            tokio::time::sleep(REQUEST_GRACE).await;
        };
        tokio::select! {
            () = settled => {}
            () = hurry => {}
        }
        let _ = self.store.drop_lease(self.gateway.id()).await;
        self.shutdown.finish(TASK_GRACE).await;
    }
}
