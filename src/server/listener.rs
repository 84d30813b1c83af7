//! Listeners, with TLS or without, that can stop to accept while connections that are open go on.

use crate::api::problem::{MEDIA_TYPE, Problem};
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

/// After the system refused to accept (no file descriptors left).
const PAUSE: Duration = Duration::from_millis(100);
/// How long a client may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How many may shake hands at once; who comes then waits in the system's queue.
const HANDSHAKES: usize = 256;
/// The most that is read of a request in clear before it is refused.
const CLEAR_BYTES: usize = 8 << 10;

/// A connection, with TLS or without.
pub type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// All listeners of a server; closed together.
#[derive(Clone, Default)]
pub struct Doors(CancellationToken);

/// One listener.
pub struct Door {
    /// Gone once it is closed: another process may bind the port.
    listener: Option<Arc<TcpListener>>,
    address: io::Result<SocketAddr>,
    closed: CancellationToken,
    tls: Option<TlsAcceptor>,
    /// A client that shakes hands slowly keeps nobody waiting.
    handshakes: JoinSet<Option<(Stream, SocketAddr)>>,
}

impl Doors {
    /// Accepts from now on no more; each answer from now on tells its client to close the connection.
    pub fn close(&self) {
        self.0.cancel();
    }

    /// A listener that closes with all others.
    pub fn door(&self, listener: Arc<TcpListener>, tls: Option<TlsAcceptor>) -> Door {
        Door {
            address: listener.local_addr(),
            listener: Some(listener),
            closed: self.0.clone(),
            tls,
            handshakes: JoinSet::new(),
        }
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
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Stream, SocketAddr) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.closed.cancelled(), if self.listener.is_some() => None,
                Some(shaken) = self.handshakes.join_next() => match shaken {
                    Ok(Some(connection)) => return connection,
                    _ => continue,
                },
                accepted = next(self.listener.as_deref()), if self.handshakes.len() < HANDSHAKES => Some(accepted),
            };
            let Some(accepted) = accepted else {
                self.listener = None;
                continue;
            };
            match accepted {
                Ok((stream, address)) => {
                    let _ = stream.set_nodelay(true);
                    let Some(tls) = &self.tls else { return (Either::Left(stream), address) };
                    self.handshakes.spawn(shake_hands(tls.clone(), stream, address));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.address.as_ref().copied().map_err(|error| error.kind().into())
    }
}

async fn next(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn shake_hands(tls: TlsAcceptor, stream: TcpStream, address: SocketAddr) -> Option<(Stream, SocketAddr)> {
    let shaken = tokio::time::timeout(HANDSHAKE, async {
        let mut first = [0];
        stream.peek(&mut first).await?;
        if first[0].is_ascii_uppercase() {
            return refuse_clear(stream).await.map(|()| None);
        }
        tls.accept(stream).await.map(Some)
    });
    match shaken.await {
        Ok(Ok(stream)) => Some((Either::Right(Box::new(stream?)), address)),
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
