//! Listeners, with TLS or without, that can stop to accept while connections that are open go on.

use super::connections::{ConnectionGuard, Connections, Limits};
use super::settings::ServerError;
use crate::api::problem::{MEDIA_TYPE, Problem};
use crate::base::serve::{self, Timeouts};
use crate::base::tasks::End;
use rustix::net::sockopt::set_socket_reuseport;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// After the system refused to accept (no file descriptors left).
const PAUSE: Duration = Duration::from_millis(100);
/// How long a client may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long one that has shown no key may take to show it when the server ends.
const STRANGERS: Duration = Duration::from_secs(1);
/// The most that is read of a request in clear before it is refused.
const CLEAR_BYTES: usize = 8 << 10;
/// What a connection may take. What is idle longer than a head may take is closed as well.
const TIMEOUTS: Timeouts = Timeouts { head: Duration::from_secs(30), write: Duration::from_mins(1) };

/// Connections that wait to be accepted: as many as tokio's own listeners have.
const BACKLOG: u32 = 1024;

/// A connection, with TLS or without.
type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// The listener of the server before, or another one where this server listens elsewhere. Where only the address
/// differs and the port does not, both listen on it until the server before has closed its own.
pub fn inherit(before: std::net::TcpListener, asked: SocketAddr) -> Result<TcpListener, ServerError> {
    before.set_nonblocking(true).map_err(ServerError::Handover)?;
    let bound = before.local_addr().map_err(ServerError::Handover)?;
    if bound.ip() == asked.ip() && (asked.port() == 0 || asked.port() == bound.port()) {
        return TcpListener::from_std(before).map_err(ServerError::Handover);
    }
    bind_beside(&before, bound, asked).map_err(|source| ServerError::Listen { address: asked, source })
}

fn bind_beside(before: &std::net::TcpListener, bound: SocketAddr, asked: SocketAddr) -> io::Result<TcpListener> {
    let socket = if asked.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    let shares_port = asked.port() == bound.port();
    if shares_port {
        set_socket_reuseport(before, true)?;
        socket.set_reuseport(true)?;
    }
    socket.bind(asked)?;
    let listener = socket.listen(BACKLOG)?;
    if shares_port {
        // From now on nobody else may.
        set_socket_reuseport(&listener, false)?;
        set_socket_reuseport(before, false)?;
    }
    Ok(listener)
}

/// All listeners of a server; closed together.
#[derive(Clone, Default)]
pub struct Doors(CancellationToken);

/// One listener.
pub struct Door {
    /// Gone once no more are accepted.
    listener: Mutex<Option<Arc<TcpListener>>>,
    tls: Option<TlsAcceptor>,
    connections: Connections,
    /// Cancelled when no more are accepted.
    closed: CancellationToken,
    /// Of connections.
    tasks: TaskTracker,
}

impl Doors {
    /// Accepts from now on no more; each answer from now on tells its client to close the connection.
    pub fn close(&self) {
        self.0.cancel();
    }

    /// A listener that closes with all others and has so many connections.
    pub fn door(&self, listener: Arc<TcpListener>, tls: Option<TlsAcceptor>, connections: usize) -> Door {
        let connections = Connections::new(Limits::of(connections));
        let listener = Mutex::new(Some(listener));
        Door { listener, tls, connections, closed: self.0.clone(), tasks: TaskTracker::new() }
    }

    /// Routes whose answers tell clients to close once the doors are closed.
    pub fn route(&self, router: axum::Router) -> axum::Router {
        serve::closing(router, self.0.clone())
    }
}

impl Door {
    /// Answers requests until `closing` is cancelled and the last connection has ended. Begun again, it goes on where
    /// it was.
    pub async fn serve(self: Arc<Self>, router: axum::Router, closing: CancellationToken) -> End {
        let listener = self.listener().clone();
        if let Some(listener) = listener {
            self.accept(&listener, &router, &closing).await;
        }
        // Another process may bind the port.
        *self.listener() = None;
        closing.cancelled().await;
        self.tasks.close();
        self.tasks.wait().await;
        End::Done
    }

    fn listener(&self) -> std::sync::MutexGuard<'_, Option<Arc<TcpListener>>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn accept(&self, listener: &TcpListener, router: &axum::Router, closing: &CancellationToken) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.closed.cancelled() => return,
                () = closing.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    self.connections.relieve();
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let Some(guard) = self.connections.open(address.ip()) else { continue };
            let _ = stream.set_nodelay(true);
            let (tls, router, closing) = (self.tls.clone(), router.clone(), closing.clone());
            let ending = closing.clone();
            self.tasks.spawn(async move {
                tokio::select! {
                    () = connection(stream, address, tls, router, Arc::clone(&guard), closing) => {}
                    // Others need its place.
                    () = guard.closed() => {}
                    // Nobody waits for one that has shown no key.
                    () = still_strange(&guard, &ending) => {}
                }
            });
        }
    }
}

/// Returns when the server ends and the connection is still a stranger's.
async fn still_strange(guard: &ConnectionGuard, ending: &CancellationToken) {
    ending.cancelled().await;
    tokio::time::sleep(STRANGERS).await;
    if guard.is_owned() {
        std::future::pending::<()>().await;
    }
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: axum::Router,
    guard: Arc<ConnectionGuard>,
    closing: CancellationToken,
) {
    let stream = match tls {
        None => Either::Left(stream),
        Some(tls) => match shake_hands(tls, stream, address).await {
            Some(stream) => stream,
            None => return,
        },
    };
    serve::connection(stream, router, TIMEOUTS, closing, |request| {
        request.extensions_mut().insert(Arc::clone(&guard));
    })
    .await;
}

async fn shake_hands(tls: TlsAcceptor, stream: TcpStream, address: SocketAddr) -> Option<Stream> {
    let shaken = tokio::time::timeout(HANDSHAKE, async {
        let mut first = [0];
        stream.peek(&mut first).await?;
        if first[0].is_ascii_uppercase() {
            return refuse_clear(stream).await.map(|()| None);
        }
        tls.accept(stream).await.map(Some)
    });
    match shaken.await {
        Ok(Ok(stream)) => Some(Either::Right(Box::new(stream?))),
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "no TLS with a client");
            None
        }
        Err(_) => None,
    }
}

/// A request in clear is told so, or its client shows something that nobody understands.
async fn refuse_clear(mut stream: TcpStream) -> io::Result<()> {
    let mut request = vec![0; CLEAR_BYTES];
    let _ = stream.read(&mut request).await?;
    let problem = Problem::new(400, "wants-tls", "this server speaks TLS").hint("use https://");
    let body = serde_json::to_string(&problem).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_is_inherited_unless_it_is_to_listen_elsewhere() {
        let first = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let of = |address: &str| address.parse::<SocketAddr>().unwrap();
        for same in [first(), first()] {
            let bound = same.local_addr().unwrap();
            let asked = if bound.port() % 2 == 0 { bound } else { of("127.0.0.1:0") };
            assert_eq!(inherit(same, asked).unwrap().local_addr().unwrap(), bound);
        }
        // Another port, while the one of before listens still.
        let before = first();
        let kept = before.try_clone().unwrap();
        let moved = inherit(before, of("127.0.0.2:0")).unwrap();
        assert_ne!(moved.local_addr().unwrap(), kept.local_addr().unwrap());
        // The same port on all addresses.
        let before = first();
        let bound = before.local_addr().unwrap();
        let kept = before.try_clone().unwrap();
        let wide = inherit(before, SocketAddr::from(([0, 0, 0, 0], bound.port()))).unwrap();
        assert_eq!(wide.local_addr().unwrap().port(), bound.port());
        drop(kept);
        let (client, accepted) = tokio::join!(TcpStream::connect(bound), wide.accept());
        assert!(client.is_ok() && accepted.is_ok());
        // One that somebody else has.
        let taken = first();
        let refused = inherit(first(), taken.local_addr().unwrap());
        assert!(matches!(refused, Err(ServerError::Listen { .. })));
    }
}
