//! The gateway's end of a replica's connection: one WebSocket over the replica's Unix socket, frames of
//! all its runs on it.
//!
//! The socket's name lies in a folder that the replica can write to, so it is opened without following
//! links, must be a socket, and the peer must run under the replica's uid: a replica that plants a link
//! there gains nothing.

use super::codec::{self, Content};
use super::protocol::{self, FromReplica, Hello, Link, Refused};
use super::session::{Arrived, Held, Offence, Session, Version};
use crate::base::secret::{ExposeSecret as _, SecretString};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use rustix::fs::{FileType, Mode, OFlags};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::http::HeaderValue;
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
/// How long a replica that sends may leave unread what is sent to it, or grant nothing.
const STALLED: Duration = Duration::from_secs(10);
/// Frames that are larger are decoded on threads of their own.
const DECODED_HERE: usize = 16 << 10;
/// After so many bytes of small frames other tasks have their turn.
const YIELD_AFTER: usize = 64 << 10;

/// Large frames are decoded so many at a time, in the order in which they came: half of the machine stays with
/// the others.
static DECODERS: LazyLock<Semaphore> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Semaphore::new((cores / 2).max(1))
});

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
    session: Arc<Session>,
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

    /// Opens the socket, shakes hands and begins a session.
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        let begun = async {
            let (mut socket, version) = self.shake_hands(&[Version::Two, Version::One]).await?;
            let session = match version {
                Version::One => Session::plain(),
                Version::Two => {
                    let hello = greet(&mut socket, Session::hello(None)).await?;
                    if hello.session.as_deref().is_none_or(str::is_empty) {
                        return Err(ConnectError::Refused("its hello names no session".to_owned()));
                    }
                    Session::begin(&hello)
                }
            };
            Ok(Connection { socket, session })
        };
        tokio::time::timeout(HANDSHAKE, begun).await.unwrap_or(Err(ConnectError::TimedOut))
    }

    /// Opens the socket again for a session whose connection broke; nothing when the replica does not know it
    /// any more.
    pub async fn resume(&self, session: &Arc<Session>) -> Result<Option<Connection>, ConnectError> {
        let resumed = async {
            let (mut socket, _) = self.shake_hands(&[Version::Two]).await?;
            let hello = greet(&mut socket, Session::hello(Some(session))).await?;
            Ok(session.resume(&hello).then(|| Connection { socket, session: Arc::clone(session) }))
        };
        tokio::time::timeout(HANDSHAKE, resumed).await.unwrap_or(Err(ConnectError::TimedOut))
    }

    async fn shake_hands(&self, offered: &[Version]) -> Result<(WebSocketStream<UnixStream>, Version), ConnectError> {
        let stream = self.open(SOCKET).await?;
        let offered: Vec<&str> = offered.iter().map(|version| subprotocol(*version)).collect();
        let request = tungstenite::http::Request::builder()
            .uri("ws://replica/connect")
            .header("Host", "replica")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", generate_key())
            .header("Sec-WebSocket-Protocol", offered.join(", "))
            .header("Authorization", format!("Bearer {}", self.secret.expose_secret()))
            .body(())
            .map_err(|error| ConnectError::Refused(error.to_string()))?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(protocol::MAX_MESSAGE_BYTES))
            .max_frame_size(Some(protocol::MAX_MESSAGE_BYTES));
        match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
            Ok((socket, response)) => {
                let chosen = response.headers().get("Sec-WebSocket-Protocol").map(HeaderValue::as_bytes);
                let is_new = chosen == Some(protocol::SUBPROTOCOL_V2.as_bytes());
                Ok((socket, if is_new { Version::Two } else { Version::One }))
            }
            Err(tungstenite::Error::Http(response)) => {
                let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                Err(ConnectError::Refused(format!("{} {}", response.status(), body.trim())))
            }
            Err(error) => Err(ConnectError::Handshake(Box::new(error))),
        }
    }
}

fn subprotocol(version: Version) -> &'static str {
    match version {
        Version::One => protocol::SUBPROTOCOL_V1,
        Version::Two => protocol::SUBPROTOCOL_V2,
    }
}

/// The first frame each way.
async fn greet(socket: &mut WebSocketStream<UnixStream>, ours: Hello) -> Result<Hello, ConnectError> {
    let mut message = codec::encode(&Link::Hello(ours)).map_err(|error| ConnectError::Refused(error.to_string()))?;
    codec::number(&mut message, 0);
    let failed = |error| ConnectError::Handshake(Box::new(error));
    socket.send(Message::binary(message)).await.map_err(failed)?;
    let refused = |why: &str| Err(ConnectError::Refused(why.to_owned()));
    loop {
        return match socket.next().await.transpose().map_err(failed)? {
            Some(Message::Binary(bytes)) => match bytes.get(codec::HEAD..).map(codec::read) {
                Some(Content::Link(Link::Hello(hello))) => Ok(hello),
                _ => refused("its first frame is no hello"),
            },
            Some(Message::Close(_)) | None => refused("it closed the connection instead of a hello"),
            Some(_) => continue,
        };
    }
}

impl Connection {
    /// Its session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The reading end, and a future that writes what the session sends until either side ends.
    pub fn split(self) -> (FrameReader, impl Future<Output = ()> + Send) {
        let (sink, stream) = self.socket.split();
        let write = write(Arc::clone(&self.session), sink);
        (FrameReader { stream, session: self.session, read_bytes: 0 }, write)
    }
}

async fn write(session: Arc<Session>, mut sink: SplitSink<WebSocketStream<UnixStream>, Message>) {
    let mut starved = None;
    while !session.is_over() {
        let batch = session.take();
        if !session.is_starved() {
            starved = None;
        } else if starved.get_or_insert_with(Instant::now).elapsed() > STALLED && session.silence() < STALLED {
            session.offend(Offence::Unread);
            return;
        }
        if batch.is_empty() {
            session.woken().await;
            continue;
        }
        let mut written = std::pin::pin!(async {
            for message in batch {
                sink.feed(Message::Binary(message)).await?;
            }
            sink.flush().await
        });
        loop {
            let written = tokio::select! {
                written = tokio::time::timeout(STALLED, &mut written) => written,
                () = session.over() => return,
            };
            match written {
                Ok(Ok(())) => break,
                Ok(Err(_)) => return,
                // One that is heard lives, and does not read. One that is silent may be in a long C call: whoever
                // waits for its answers decides.
                Err(_) if session.silence() < STALLED => {
                    session.offend(Offence::Unread);
                    return;
                }
                Err(_) => {}
            }
        }
    }
}

/// The reading end of a connection.
pub struct FrameReader {
    stream: SplitStream<WebSocketStream<UnixStream>>,
    session: Arc<Session>,
    /// Read without leaving the thread to others.
    read_bytes: usize,
}

/// What a replica said.
pub enum Said {
    /// A frame of a run or of the replica; its bytes count as held with it.
    Frame(FromReplica, Held),
    /// What it sent is not understood, and it has been told so.
    Unknown(Refused),
    /// It did not understand a frame of ours.
    Refused(Refused),
    /// Something about the connection itself.
    Nothing,
}

impl FrameReader {
    /// The replica's next message; nothing when the connection is over. May be dropped before it is ready.
    pub async fn message(&mut self) -> Option<Bytes> {
        self.session.may_read().await;
        loop {
            let message = self.stream.next().await?;
            self.session.hear();
            match message {
                Ok(Message::Binary(bytes)) => return Some(bytes),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// What a message says. Its number counts from the beginning of this on: it must not be dropped.
    pub async fn read(&mut self, message: Bytes) -> Said {
        let mut arrived = self.session.arrived(&message);
        loop {
            let (content, bytes) = match arrived {
                Ok(Arrived::Frame(frame)) => (self.decode(frame.clone()).await, frame.len()),
                Ok(Arrived::Whole(frame)) => {
                    let bytes = frame.len();
                    (self.decode(Bytes::from(frame)).await, bytes)
                }
                Ok(Arrived::Nothing) => return Said::Nothing,
                Err(offence) => {
                    self.session.offend(offence);
                    return Said::Nothing;
                }
            };
            match content {
                Content::Frame(frame) => return Said::Frame(frame, self.session.hold(bytes)),
                Content::Link(Link::Chunk(chunk)) => arrived = self.session.chunk(&chunk),
                Content::Link(Link::Ack(ack)) => {
                    self.session.acknowledged(ack);
                    return Said::Nothing;
                }
                Content::Link(Link::Refused(refused)) => return Said::Refused(refused),
                Content::Link(Link::Hello(_)) => return Said::Nothing,
                Content::Refused(refused) => {
                    self.session.refuse(&refused);
                    return Said::Unknown(refused);
                }
            }
        }
    }

    /// Large frames on a thread of their own, one of each replica at a time; the threads that serve others are
    /// left to them after some of the small ones.
    async fn decode(&mut self, frame: Bytes) -> Content {
        if frame.len() <= DECODED_HERE {
            self.read_bytes += frame.len();
            if self.read_bytes > YIELD_AFTER {
                self.read_bytes = 0;
                tokio::task::yield_now().await;
            }
            return codec::read(&frame);
        }
        let place = DECODERS.acquire().await;
        let decoded = tokio::task::spawn_blocking(move || codec::read(&frame)).await;
        drop(place);
        decoded.unwrap_or_else(|error| {
            Content::Refused(Refused { reason: format!("reading it failed: {error}"), ..Refused::default() })
        })
    }
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
