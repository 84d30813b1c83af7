//! The bytes of one tunnel: the first of the client's are looked at, then both directions pass as they come.

use crate::egress::Defaults;
use crate::egress::client_hello::{Inspection, inspect};
use crate::egress::host::{Authority, Host};
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream, tcp, unix};
use tokio::time::Instant;

/// Why a tunnel ended before both sides had said their last.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TunnelError {
    /// Port 443 carries TLS only.
    #[error("bytes that are not TLS")]
    NotTls,
    /// A `ClientHello` that names no host, on port 443.
    #[error("a TLS hello without server name")]
    NoServerName,
    /// A `ClientHello` for another host.
    #[error("a TLS hello for another host, {0}")]
    OtherServerName(String),
    /// TLS that breaks its own rules.
    #[error("a malformed TLS hello")]
    MalformedHello,
    /// No `ClientHello` in time.
    #[error("no TLS hello within {} s", Defaults::HELLO_TIMEOUT.as_secs())]
    HelloTimeout,
    /// No byte for [`Defaults::IDLE_TIMEOUT`].
    #[error("idle")]
    Idle,
    /// One side's connection broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
}

impl TunnelError {
    /// Whether the client tried what it may not.
    pub(crate) fn is_denial(&self) -> bool {
        matches!(self, Self::NotTls | Self::NoServerName | Self::OtherServerName(_) | Self::MalformedHello)
    }
}

/// A fatal `unrecognized_name` (RFC 6066 3, RFC 8446 6.2): TLS clients show it, where a mere close says nothing.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Passes bytes both ways until both sides have ended; a side that ends only its own direction goes on
/// receiving. `first` are bytes of the client's that are already read.
pub(crate) async fn pass(
    client: &mut UnixStream,
    server: &mut TcpStream,
    target: &Authority,
    first: Vec<u8>,
) -> Result<(), TunnelError> {
    let activity = Activity::new();
    let ended = {
        let (client_read, mut client_write) = client.split();
        let (server_read, mut server_write) = server.split();
        let up = async {
            let first = if target.port == 443 {
                let checked = tokio::time::timeout(Defaults::HELLO_TIMEOUT, check(&client_read, first, target));
                checked.await.map_err(|_| TunnelError::HelloTimeout)??
            } else {
                check(&client_read, first, target).await?
            };
            server_write.write_all(&first).await?;
            activity.touch();
            drop(first);
            copy(&client_read, &mut server_write, &activity).await
        };
        let down = copy(&server_read, &mut client_write, &activity);
        tokio::select! {
            both = async { tokio::try_join!(up, down) } => both.map(|_| ()),
            () = activity.idle() => Err(TunnelError::Idle),
        }
    };
    if matches!(ended, Err(TunnelError::OtherServerName(_) | TunnelError::NoServerName)) {
        let _ = client.try_write(&UNRECOGNIZED_NAME);
    }
    ended
}

/// Reads until it is known what the client speaks, and gives back what was read if it may pass.
async fn check(client: &unix::ReadHalf<'_>, mut first: Vec<u8>, target: &Authority) -> Result<Vec<u8>, TunnelError> {
    for _ in 0..Defaults::HELLO_READS {
        match inspect(&first) {
            Inspection::Incomplete => {}
            Inspection::NotTls if target.port == 443 => return Err(TunnelError::NotTls),
            Inspection::NotTls => return Ok(first),
            Inspection::Malformed => return Err(TunnelError::MalformedHello),
            Inspection::Hello { server_name } => return judge(server_name, target).map(|()| first),
        }
        if first.len() > 2 * Defaults::HELLO_BYTES {
            return Err(TunnelError::MalformedHello);
        }
        first.reserve(4096);
        client.readable().await?;
        match client.try_read_buf(&mut first) {
            // It ended before it said what it speaks: nothing passes that was not understood.
            Ok(0) if first.is_empty() => return Ok(first),
            Ok(0) => return Err(TunnelError::MalformedHello),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(TunnelError::MalformedHello)
}

fn judge(server_name: Option<String>, target: &Authority) -> Result<(), TunnelError> {
    match server_name {
        Some(name) if Host::parse(&name).as_ref() == Ok(&target.host) => Ok(()),
        Some(mut name) => {
            // It goes into the log: no longer than a name can be, and ASCII as `inspect` found it.
            name.truncate(253);
            Err(TunnelError::OtherServerName(name))
        }
        // An address cannot stand in server_name (RFC 6066 3); other ports' protocols may do without it.
        None if target.port != 443 || matches!(target.host, Host::Ip(_)) => Ok(()),
        None => Err(TunnelError::NoServerName),
    }
}

/// What can be read when it says so: no buffer is held by a quiet tunnel.
trait Source {
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;
    fn try_read_buf(&self, buffer: &mut Vec<u8>) -> io::Result<usize>;
}

impl Source for tcp::ReadHalf<'_> {
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send {
        tcp::ReadHalf::readable(self)
    }
    fn try_read_buf(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        tcp::ReadHalf::try_read_buf(self, buffer)
    }
}

impl Source for unix::ReadHalf<'_> {
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send {
        unix::ReadHalf::readable(self)
    }
    fn try_read_buf(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        unix::ReadHalf::try_read_buf(self, buffer)
    }
}

/// One direction, to its end; then the other side is told that no more comes.
async fn copy(from: &impl Source, to: &mut (impl AsyncWrite + Unpin), activity: &Activity) -> Result<(), TunnelError> {
    loop {
        from.readable().await?;
        // Tokens of a model's stream are small; a download fills the first chunk and gets a larger one.
        let mut chunk = Vec::with_capacity(4096);
        loop {
            chunk.clear();
            match from.try_read_buf(&mut chunk) {
                Ok(0) => {
                    to.shutdown().await?;
                    return Ok(());
                }
                Ok(read) => {
                    activity.touch();
                    to.write_all(&chunk).await?;
                    activity.touch();
                    if read == chunk.capacity() && read < Defaults::CHUNK_BYTES {
                        chunk = Vec::with_capacity(Defaults::CHUNK_BYTES);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// When the last byte passed, in either direction.
struct Activity {
    start: Instant,
    last_ms: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self { start: Instant::now(), last_ms: AtomicU64::new(0) }
    }

    fn touch(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now, Ordering::Relaxed);
    }

    /// Ends when nothing has passed for [`Defaults::IDLE_TIMEOUT`].
    async fn idle(&self) {
        loop {
            let last = self.start + Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
            let end = last + Defaults::IDLE_TIMEOUT;
            if Instant::now() >= end {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}
