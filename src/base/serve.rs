//! One HTTP connection with its time-outs: of a request's head, of a client that reads no answer, and of one that
//! has nothing more to say.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tower::Service as _;

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// From the end of one answer (or the beginning) to the end of the next request's head.
    pub head: Duration,
    /// In which a client takes nothing of an answer that waits for it.
    pub write: Duration,
}

/// The most that is buffered of what a client sends: a head has to fit.
const BUFFER_BYTES: usize = 64 << 10;

/// Serves one connection to its end; `dress` adds to each request what the routes want to know of it. Once `closing`
/// is cancelled, the answer under way is the last one.
pub async fn connection<I>(
    io: I,
    router: Router,
    timeouts: Timeouts,
    closing: CancellationToken,
    dress: impl Fn(&mut Request<Incoming>),
) where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let service = hyper::service::service_fn(|mut request: Request<Incoming>| {
        dress(&mut request);
        router.clone().call(request)
    });
    let io = TokioIo::new(Unread { io, patience: timeouts.write, stalled: None });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(timeouts.head)
            .max_buf_size(BUFFER_BYTES)
            .serve_connection(io, service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

/// Routes whose answers tell clients to close the connection once `leaving` is cancelled.
pub fn closing(router: Router, leaving: CancellationToken) -> Router {
    router.layer(middleware::from_fn_with_state(leaving, say_close))
}

async fn say_close(State(leaving): State<CancellationToken>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if leaving.is_cancelled() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A connection whose client must read what is written to it.
struct Unread<I> {
    io: I,
    patience: Duration,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<I> Unread<I> {
    fn watched<T>(&mut self, task: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let until = Instant::now() + self.patience;
        let sleep = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        ready!(sleep.as_mut().poll(task));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Unread<I> {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(task, into)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Unread<I> {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(task, from);
        self.watched(task, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(task);
        self.watched(task, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.io).poll_shutdown(task);
        self.watched(task, shut)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(task, from);
        self.watched(task, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    /// How long a test waits for what has to come.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// A connection in a pipe of so many bytes: its client's end, and its end.
    fn served(bytes: usize, head: u64, write: u64) -> (DuplexStream, tokio::task::JoinHandle<()>) {
        let (client, server) = tokio::io::duplex(bytes);
        let router = Router::new().route("/", get(async || "x".repeat(100_000)));
        let timeouts = Timeouts { head: Duration::from_millis(head), write: Duration::from_millis(write) };
        let task = tokio::spawn(connection(server, router, timeouts, CancellationToken::new(), |_| ()));
        (client, task)
    }

    async fn ends(task: tokio::task::JoinHandle<()>) {
        tokio::time::timeout(PATIENCE, task).await.expect("the connection ends").unwrap();
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    #[tokio::test]
    async fn who_says_nothing_or_says_it_slowly_is_closed() {
        for head in [&b""[..], b"GET / HTTP/1.1\r\n"] {
            let (mut client, task) = served(1 << 20, 100, 60_000);
            client.write_all(head).await.unwrap();
            ends(task).await;
        }
        // Nothing more to say.
        let (mut client, task) = served(1 << 20, 100, 60_000);
        client.write_all(REQUEST).await.unwrap();
        ends(task).await;
        let mut said = Vec::new();
        client.read_to_end(&mut said).await.unwrap();
        assert!(said.starts_with(b"HTTP/1.1 200 OK\r\n"));
        // A drop now and then helps nobody.
        let (mut client, task) = served(1 << 20, 300, 60_000);
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let dripping = async {
            while client.write_all(b"x: y\r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, dripping).await.expect("the drip ends");
        ends(task).await;
    }

    #[tokio::test]
    async fn who_reads_no_answer_is_closed_and_who_reads_slowly_is_not() {
        let (mut client, task) = served(1000, 60_000, 100);
        client.write_all(REQUEST).await.unwrap();
        ends(task).await;

        let (mut client, task) = served(1000, 500, 10_000);
        client.write_all(REQUEST).await.unwrap();
        let (mut count, mut buffer) = (0, [0; 1000]);
        loop {
            match client.read(&mut buffer).await.unwrap() {
                0 => break,
                some => count += some,
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        ends(task).await;
        assert!(count > 100_000);
    }
}
