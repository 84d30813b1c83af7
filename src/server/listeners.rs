//! Both listeners with their routes, from start to end.

use super::listener::Doors;
use super::{App, agents_api, control_api};
use crate::base::open_files::Shares;
use crate::base::shutdown::{CancellationToken, Shutdown};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;

/// What answers on both ports.
pub struct Listeners {
    doors: Doors,
    closing: CancellationToken,
    tasks: [JoinHandle<()>; 2],
}

impl Listeners {
    /// Answers on both ports: of the control API, and of the agents' API. Each has so many connections.
    pub fn start(
        [control, agents]: [&Arc<TcpListener>; 2],
        shares: &Shares,
        tls: Option<&TlsAcceptor>,
        app: App,
        shutdown: &Shutdown,
    ) -> Self {
        let (doors, closing) = (Doors::default(), app.closing.clone());
        let serve = |name, listener: &Arc<TcpListener>, connections, router| {
            let door = Arc::new(doors.door(Arc::clone(listener), tls.cloned(), connections));
            let (router, closing) = (doors.route(router), closing.clone());
            shutdown.supervise(name, move || Arc::clone(&door).serve(router.clone(), closing.clone()))
        };
        let tasks = [
            serve("listener of the control API", control, shares.control, control_api::router(app.clone())),
            serve("listener of the agents' API", agents, shares.agents, agents_api::router(app)),
        ];
        Self { doors, closing, tasks }
    }

    /// Accepts no more connections; each answer tells its client to close the one that it has.
    pub fn close(&self) {
        self.doors.close();
    }

    /// Ends streams and connections as soon as they have answered what they were asked.
    pub fn end_connections(&self) {
        self.closing.cancel();
    }

    /// Waits for the last connection, until a deadline for each listener.
    pub async fn ended(self, deadline: impl Fn() -> Instant) {
        for task in self.tasks {
            let _ = timeout_at(deadline(), task).await;
        }
    }
}
