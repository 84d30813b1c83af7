//! The gateway's end of a replica's connection: one WebSocket over the replica's Unix socket, frames of
//! all its runs on it.
//!
//! The socket's name lies in a folder that the replica can write to, so it is opened without following
//! links, must be a socket, and the peer must run under the replica's uid: a replica that plants a link
//! there gains nothing.

use super::protocol::{self, FromReplica, ToReplica};
use crate::base::secret::{ExposeSecret as _, SecretString};
use futures_util::stream::SplitStream;
use futures_util::{SinkExt as _, StreamExt as _};
use rustix::fs::{FileType, Mode, OFlags};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};

/// The runner's socket in the replica's folder.
const SOCKET: &str = "runner.sock";
/// The supervisor's: it answers with a line while the runner's process lives, whatever that is busy with.
const SUPERVISOR_SOCKET: &str = "alive.sock";
/// How long the supervisor may take.
const SUPERVISOR: Duration = Duration::from_secs(2);
/// How long the handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Frames on their way to a replica; a sender waits when there are more.
const OUTGOING: usize = 1024;

/// Where a replica answers, and as whom.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The folder that the replica writes its socket into.
    pub folder: PathBuf,
    /// The uid that must be at the other end.
    pub uid: u32,
    /// Proves the gateway.
    pub secret: SecretString,
}

/// Why a replica could not be connected to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no socket yet.
    #[error("the replica has no socket yet")]
    NoSocket,
    /// Something else is where the socket should be.
    #[error("what the replica put in its socket's place is not a socket")]
    NotASocket,
    /// Somebody else is at the other end.
    #[error("uid {found} is at the replica's socket, not {wanted}")]
    WrongPeer {
        /// Who is.
        found: u32,
        /// Who should be.
        wanted: u32,
    },
    /// The system refused.
    #[error("opening the replica's socket")]
    Io(#[from] std::io::Error),
    /// The replica refused, or speaks another version.
    #[error("the replica refused the connection: {0}")]
    Refused(String),
    /// The handshake failed otherwise.
    #[error("the handshake with the replica")]
    Handshake(#[source] Box<tungstenite::Error>),
    /// The handshake took too long.
    #[error("the replica does not answer")]
    TimedOut,
}

/// A connection to a replica.
pub struct Connection {
    socket: WebSocketStream<UnixStream>,
}

/// Sends frames to a replica. Clones send to the same one.
#[derive(Debug, Clone)]
pub struct FrameSender(mpsc::Sender<ToReplica>);

/// The connection is gone.
#[derive(Debug, thiserror::Error)]
#[error("the connection to the replica is gone")]
pub struct Gone;

impl FrameSender {
    /// Sends a frame; waits while the replica takes no more.
    pub async fn send(&self, frame: ToReplica) -> Result<(), Gone> {
        self.0.send(frame).await.map_err(|_| Gone)
    }
}

impl Endpoint {
    /// Whether the replica's supervisor says that the runner's process lives.
    pub async fn supervisor_answers(&self) -> bool {
        let asked = async {
            let mut stream = self.open(SUPERVISOR_SOCKET).await.ok()?;
            let mut answer = [0; 6];
            stream.read_exact(&mut answer).await.ok()?;
            Some(&answer == b"alive\n")
        };
        tokio::time::timeout(SUPERVISOR, asked).await.ok().flatten().unwrap_or(false)
    }

    async fn open(&self, name: &str) -> Result<UnixStream, ConnectError> {
        let stream = open_socket(&self.folder, name).await?;
        let found = stream.peer_cred()?.uid();
        if found != self.uid {
            return Err(ConnectError::WrongPeer { found, wanted: self.uid });
        }
        Ok(stream)
    }

    /// Opens the socket and shakes hands.
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        let stream = self.open(SOCKET).await?;
        let request = tungstenite::http::Request::builder()
            .uri("ws://replica/connect")
            .header("Host", "replica")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", generate_key())
            .header("Sec-WebSocket-Protocol", protocol::SUBPROTOCOL)
            .header("Authorization", format!("Bearer {}", self.secret.expose_secret()))
            .body(())
            .map_err(|error| ConnectError::Refused(error.to_string()))?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(protocol::MAX_MESSAGE_BYTES))
            .max_frame_size(Some(protocol::MAX_MESSAGE_BYTES));
        let shaken = tokio_tungstenite::client_async_with_config(request, stream, Some(config));
        match tokio::time::timeout(HANDSHAKE, shaken).await {
            Err(_) => Err(ConnectError::TimedOut),
            Ok(Ok((socket, _))) => Ok(Connection { socket }),
            Ok(Err(tungstenite::Error::Http(response))) => {
                let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                Err(ConnectError::Refused(format!("{} {}", response.status(), body.trim())))
            }
            Ok(Err(error)) => Err(ConnectError::Handshake(Box::new(error))),
        }
    }
}

impl Connection {
    /// The reading end, and a future that writes `outgoing` frames in the order they were sent until either
    /// side ends.
    pub fn split(self, mut outgoing: mpsc::Receiver<ToReplica>) -> (FrameReader, impl Future<Output = ()> + Send) {
        let (mut sink, stream) = self.socket.split();
        let write = async move {
            while let Some(frame) = outgoing.recv().await {
                let mut next = Some(frame);
                // What is there goes out in one write.
                while let Some(frame) = next {
                    let Ok(bytes) = protocol::encode(&frame) else { return };
                    if sink.feed(Message::binary(bytes)).await.is_err() {
                        return;
                    }
                    next = outgoing.try_recv().ok();
                }
                if sink.flush().await.is_err() {
                    return;
                }
            }
            let _ = sink.close().await;
        };
        (FrameReader(stream), write)
    }
}

/// The reading end of a connection.
pub struct FrameReader(SplitStream<WebSocketStream<UnixStream>>);

impl FrameReader {
    /// The replica's next frame; nothing when the connection is over.
    pub async fn next(&mut self) -> Option<FromReplica> {
        loop {
            match self.0.next().await? {
                Ok(Message::Binary(bytes)) => match protocol::decode(&bytes) {
                    Ok(frame) => return Some(frame),
                    Err(error) => {
                        tracing::warn!(%error, "a replica sent a frame that this version does not know");
                        return None;
                    }
                },
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}

/// The two ends of a replica's outgoing frames.
pub fn frames() -> (FrameSender, mpsc::Receiver<ToReplica>) {
    let (sender, receiver) = mpsc::channel(OUTGOING);
    (FrameSender(sender), receiver)
}

async fn open_socket(folder: &Path, name: &str) -> Result<UnixStream, ConnectError> {
    let io = |error: rustix::io::Errno| ConnectError::Io(error.into());
    let folder =
        rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .map_err(io)?;
    let opened = rustix::fs::openat(&folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    let socket = match opened {
        Err(rustix::io::Errno::NOENT) => return Err(ConnectError::NoSocket),
        opened => opened.map_err(io)?,
    };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&socket).map_err(io)?.st_mode);
    if kind != FileType::Socket {
        return Err(ConnectError::NotASocket);
    }
    // The descriptor is the socket that was looked at; its name may mean something else by now.
    match UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Err(ConnectError::NoSocket),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(folder: &Path, uid: u32) -> Endpoint {
        Endpoint { folder: folder.to_owned(), uid, secret: SecretString::from("s") }
    }

    #[tokio::test]
    async fn a_link_in_the_sockets_place_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("other.sock");
        let _listener = tokio::net::UnixListener::bind(&other).unwrap();
        let replica = folder.path().join("r");
        std::fs::create_dir(&replica).unwrap();
        std::os::unix::fs::symlink(&other, replica.join(SOCKET)).unwrap();
        assert!(matches!(endpoint(&replica, 0).connect().await, Err(ConnectError::NotASocket)));
        std::fs::remove_file(replica.join(SOCKET)).unwrap();
        assert!(matches!(endpoint(&replica, 0).connect().await, Err(ConnectError::NoSocket)));
        std::fs::write(replica.join(SOCKET), "").unwrap();
        assert!(matches!(endpoint(&replica, 0).connect().await, Err(ConnectError::NotASocket)));
    }

    #[tokio::test]
    async fn another_uid_at_the_socket_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let _listener = tokio::net::UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        let wanted = rustix::process::geteuid().as_raw() + 1;
        assert!(matches!(endpoint(folder.path(), wanted).connect().await, Err(ConnectError::WrongPeer { .. })));
    }
}
