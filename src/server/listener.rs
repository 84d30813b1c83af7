//! Listeners that can stop to accept while connections that are open go on.

use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::serve::Listener;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// After the system refused to accept (no file descriptors left).
const PAUSE: Duration = Duration::from_millis(100);

/// All listeners of a server; closed together.
#[derive(Clone, Default)]
pub struct Doors(CancellationToken);

/// One listener.
pub struct Door {
    /// Gone once it is closed: another process may bind the port.
    listener: Option<Arc<TcpListener>>,
    address: std::io::Result<SocketAddr>,
    closed: CancellationToken,
}

impl Doors {
    /// Accepts from now on no more; each answer from now on tells its client to close the connection.
    pub fn close(&self) {
        self.0.cancel();
    }

    /// A listener that closes with all others.
    pub fn door(&self, listener: Arc<TcpListener>) -> Door {
        Door { address: listener.local_addr(), listener: Some(listener), closed: self.0.clone() }
    }

    /// Routes whose answers tell clients to close once the doors are closed.
    pub fn route(&self, router: axum::Router) -> axum::Router {
        router.layer(middleware::from_fn_with_state(self.0.clone(), say_close))
    }
}

async fn say_close(
    axum::extract::State(closed): axum::extract::State<CancellationToken>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    if closed.is_cancelled() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

impl Listener for Door {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            let Some(listener) = &self.listener else { return std::future::pending().await };
            let accepted = tokio::select! {
                biased;
                () = self.closed.cancelled() => None,
                accepted = listener.accept() => Some(accepted),
            };
            let Some(accepted) = accepted else {
                self.listener = None;
                continue;
            };
            match accepted {
                Ok((stream, address)) => {
                    let _ = stream.set_nodelay(true);
                    return (stream, address);
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.address.as_ref().copied().map_err(|error| error.kind().into())
    }
}
