//! The two ways a server ends: it stops, or another one has taken over.

use super::control_plane::ControlPlane;
use super::listeners::Listeners;
use crate::base::shutdown::CancellationToken;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long requests in flight may go on when the server stops.
const REQUEST_GRACE: Duration = Duration::from_secs(10);
/// After a handover, how long connections that are open may bring their next request: it is answered, and
/// tells the client to close.
const LINGER: Duration = Duration::from_secs(2);
/// After a handover, how long what was taken may go on, and how long replicas may use the connections through here
/// that they have open.
const HANDED_OVER_GRACE: Duration = Duration::from_secs(15 * 60);

/// What runs, on its way to its end.
pub struct Running {
    pub plane: ControlPlane,
    pub listeners: Listeners,
}

impl Running {
    /// The server is being stopped: requests in flight have a moment, then the replicas end. Runs that have
    /// not ended go on when the server is back.
    pub async fn stop(self) {
        tracing::info!("the server stops");
        self.listeners.end_connections();
        self.listeners.ended(|| Instant::now() + REQUEST_GRACE).await;
        self.plane.stop().await;
    }

    /// Another server serves in this one's place: what was taken here ends here, and the replicas live on. Their calls
    /// of models and hosts that go through here, whichever server's runs make them, end here too.
    /// That has less time once `stopped` says that it is being stopped as well.
    pub async fn leave(self, stopped: impl Future<Output = ()>) {
        let Self { plane, listeners } = self;
        plane.control.connections().leave();
        tracing::info!("another server has taken over; what was taken here ends here");
        // Postgres is the other one's now: to stop it, too.
        plane.keeper.cancel();
        listeners.close();
        let (until, hurried) = (Instant::now() + HANDED_OVER_GRACE, CancellationToken::new());
        let mut stopped = std::pin::pin!(stopped);
        let is_stopped = tokio::select! {
            () = tokio::time::sleep(LINGER) => false,
            () = &mut stopped => true,
        };
        listeners.end_connections();
        let settled = async {
            listeners.ended(|| until).await;
            plane.gateway.settle(until.saturating_duration_since(Instant::now())).await;
            let connections = plane.control.connections();
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
        plane.end_tasks().await;
    }
}
