//! What gateway and replica owe each other: frames on their way out, messages that are not acknowledged yet,
//! what came in. In version 2 it outlives the socket, so that a connection that breaks goes on exactly where
//! it was; in version 1 it is the queue before the socket and no more.
//!
//! Nobody who sends waits for the replica: a replica that does not read what it asked for loses its
//! connection, once more waits for it than [`WAITING_BYTES`].

use super::codec::{self, HEAD};
use super::protocol::{self, Ack, CAPABILITIES, Chunk, Hello, Link, Refused, Reply, ToReplica};
use bytes::Bytes;
use serde_bytes::ByteBuf;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What may wait for a replica; its connection breaks when there is more.
pub const WAITING_BYTES: usize = 64 << 20;
/// What each frame counts beside its bytes.
const OVERHEAD_BYTES: usize = 256;
/// What goes to the socket in one write, about.
const BATCH_BYTES: usize = 256 << 10;
/// What a replica that acknowledges nothing may keep here.
const UNACKNOWLEDGED_BYTES: usize = 64 << 20;
/// What of a version 1 replica may wait to be committed; it is not read from while there is more.
const HELD_BYTES: u64 = 32 << 20;
/// The largest message of version 2 beside its head: chunks make more of it.
const MESSAGE_BYTES: usize = protocol::LARGE_BYTES + HEAD;
/// An acknowledgement goes out at the latest when so much has come since the last one.
const ACKNOWLEDGE_BYTES: u64 = protocol::WINDOW_BYTES / 4;
/// The same in messages.
const ACKNOWLEDGE_MESSAGES: u64 = 1024;
/// Frames of the connection itself that may wait.
const CONTROL: usize = 1024;

/// A version of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Of images that a rollback brings back.
    One,
    /// With sessions.
    Two,
}

/// Why a frame was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The connection is gone for good.
    #[error("the connection to the replica is gone")]
    Gone,
    /// It is larger than the replica takes.
    #[error("it has {bytes} bytes, and at most {limit} can be sent")]
    TooLarge {
        /// How large it is, at least.
        bytes: usize,
        /// How large it may be.
        limit: usize,
    },
}

/// Why a connection was broken from this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Offence {
    /// It does not read.
    #[error("the replica does not read what is sent to it")]
    Unread,
    /// It sends more than it was granted.
    #[error("the replica sends more than it was granted")]
    Credit,
    /// Its messages are not numbered as they should be.
    #[error("the replica's messages are not numbered one after the other")]
    Number,
    /// Its chunks do not fit each other or are too many.
    #[error("the replica's chunks do not make a frame, or too large a one")]
    Chunks,
}

/// See the module's text. The connection's reader and writer and all who send share it.
pub struct Session {
    version: Version,
    id: String,
    largest: usize,
    outgoing: Mutex<Outgoing>,
    incoming: Mutex<Incoming>,
    /// Woken when there may be something to write.
    wake: Notify,
    /// Woken when there is room: to send more, or to read more.
    room: Notify,
    /// Cancelled when it is over for good.
    over: CancellationToken,
    since: Instant,
    /// When the replica was heard last, in milliseconds since the session began.
    heard: AtomicU64,
}

#[derive(Default)]
struct Outgoing {
    /// Of the connection itself: neither numbered nor counted.
    control: VecDeque<Bytes>,
    small: VecDeque<Vec<u8>>,
    /// Large frames, one after the other, and those of their runs that may not overtake them.
    large: VecDeque<Large>,
    waiting_bytes: usize,
    sent: u64,
    sent_bytes: u64,
    credit: u64,
    unacknowledged: VecDeque<(u64, Bytes)>,
    unacknowledged_bytes: usize,
    /// Messages that a new socket carries again.
    again: VecDeque<Bytes>,
    chunk_is_next: bool,
    offence: Option<Offence>,
}

struct Large {
    run: Option<String>,
    left: Bytes,
    is_begun: bool,
}

#[derive(Default)]
struct Incoming {
    received: u64,
    received_bytes: u64,
    held_bytes: u64,
    granted: u64,
    told: Ack,
    told_bytes: u64,
    parts: Vec<u8>,
    left: Option<u64>,
}

/// Bytes of a frame that are somewhere in this process; given back when dropped.
pub struct Held {
    session: Arc<Session>,
    bytes: u64,
}

/// Sends frames to a replica. Clones send to the same one.
#[derive(Clone)]
pub struct FrameSender(Arc<Session>);

impl FrameSender {
    /// Sends in this session.
    pub fn new(session: Arc<Session>) -> Self {
        Self(session)
    }

    /// Sends a frame. Nobody waits: a replica that does not read loses its connection. A reply that is too large
    /// to be sent becomes an error reply.
    pub fn send(&self, frame: ToReplica) -> Result<(), SendError> {
        match (self.try_send(&frame), frame) {
            (Err(SendError::TooLarge { bytes, limit }), ToReplica::Reply(reply)) => {
                let error = format!(
                    "the answer has {bytes} bytes, and at most {limit} can be sent: ask for fewer checkpoints at once"
                );
                self.try_send(&ToReplica::Reply(Reply { id: reply.id, error: Some(error), ..Reply::default() }))
            }
            (sent, _) => sent,
        }
    }

    /// The same, but waits until what was sent before is on its way: for tasks that serve nobody else.
    pub async fn send_when_there_is_room(&self, frame: ToReplica) -> Result<(), SendError> {
        loop {
            let room = self.0.room.notified();
            if self.0.out().waiting_bytes <= WAITING_BYTES / 2 || self.0.is_over() {
                return self.send(frame);
            }
            room.await;
        }
    }

    fn try_send(&self, frame: &ToReplica) -> Result<(), SendError> {
        let (bytes, limit) = (frame.bytes(), self.0.largest);
        if bytes > limit {
            return Err(SendError::TooLarge { bytes, limit });
        }
        // Our own types: what cannot be encoded does not exist.
        let encoded = codec::encode(frame).map_err(|_| SendError::Gone)?;
        self.0.push(encoded, frame.run())
    }
}

/// What a message was.
pub enum Arrived {
    /// A whole frame, unread.
    Frame(Bytes),
    /// A frame made of chunks, unread.
    Whole(Vec<u8>),
    /// Nothing to be handed on yet.
    Nothing,
}

impl Session {
    /// The only session of a connection of version 1.
    pub fn plain() -> Arc<Self> {
        Self::new(Version::One, String::new(), protocol::MAX_MESSAGE_BYTES)
    }

    /// What a replica's `hello` begins.
    pub fn begin(hello: &Hello) -> Arc<Self> {
        let largest = usize::try_from(hello.max_bytes).unwrap_or(usize::MAX).min(protocol::MAX_FRAME_BYTES);
        let session = Self::new(Version::Two, hello.session.clone().unwrap_or_default(), largest);
        session.out().credit = hello.credit;
        let mut incoming = session.incoming();
        incoming.granted = protocol::WINDOW_BYTES;
        incoming.told.credit = protocol::WINDOW_BYTES;
        drop(incoming);
        session
    }

    fn new(version: Version, id: String, largest: usize) -> Arc<Self> {
        Arc::new(Self {
            version,
            id,
            largest,
            outgoing: Mutex::default(),
            incoming: Mutex::default(),
            wake: Notify::new(),
            room: Notify::new(),
            over: CancellationToken::new(),
            since: Instant::now(),
            heard: AtomicU64::new(0),
        })
    }

    /// The replica was heard now.
    pub fn hear(&self) {
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(now, Ordering::Relaxed);
    }

    /// For how long it has not been heard.
    pub fn silence(&self) -> Duration {
        self.since.elapsed().saturating_sub(Duration::from_millis(self.heard.load(Ordering::Relaxed)))
    }

    /// Which contract the replica speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What this gateway says first: to begin a session, or to go on with one.
    pub fn hello(session: Option<&Self>) -> Hello {
        let (received, granted) = session.map_or((0, protocol::WINDOW_BYTES), |session| {
            let incoming = session.incoming();
            (incoming.received, incoming.granted)
        });
        Hello {
            session: session.map(|session| session.id.clone()),
            resumed: false,
            received,
            credit: granted,
            max_bytes: protocol::MAX_FRAME_BYTES as u64,
            capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
        }
    }

    /// Goes on over a new socket, when the replica says that it can.
    pub fn resume(&self, hello: &Hello) -> bool {
        let mut out = self.out();
        if !hello.resumed || hello.session.as_deref() != Some(&self.id) || hello.received > out.sent {
            return false;
        }
        out.acknowledged(Ack { seq: hello.received, credit: hello.credit });
        out.again = out.unacknowledged.iter().map(|(_, message)| message.clone()).collect();
        out.control.clear();
        true
    }

    /// Ends it: whatever is sent from now on is not.
    pub fn close(&self) {
        self.over.cancel();
        self.room.notify_waiters();
        self.wake.notify_one();
    }

    /// Breaks the connection for good.
    pub fn offend(&self, offence: Offence) {
        self.out().offence.get_or_insert(offence);
        self.close();
    }

    /// Why this side broke the connection.
    pub fn offence(&self) -> Option<Offence> {
        self.out().offence
    }

    /// Whether it is over for good.
    pub fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Returns when it is over for good.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }

    fn out(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn incoming(&self) -> MutexGuard<'_, Incoming> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Out

    fn push(&self, frame: Vec<u8>, run: Option<&str>) -> Result<(), SendError> {
        let bytes = frame.len() - HEAD;
        if bytes > self.largest {
            return Err(SendError::TooLarge { bytes, limit: self.largest });
        }
        let mut out = self.out();
        if self.is_over() {
            return Err(SendError::Gone);
        }
        if out.waiting_bytes > WAITING_BYTES {
            drop(out);
            self.offend(Offence::Unread);
            return Err(SendError::Gone);
        }
        out.waiting_bytes += frame.len() + OVERHEAD_BYTES;
        let behind = run.is_some() && out.large.iter().any(|large| large.run.as_deref() == run);
        if self.version == Version::Two && (behind || bytes > protocol::LARGE_BYTES) {
            let left = Bytes::from(frame).slice(HEAD..);
            out.large.push_back(Large { run: run.map(str::to_owned), left, is_begun: false });
        } else {
            out.small.push_back(frame);
        }
        drop(out);
        self.wake.notify_one();
        Ok(())
    }

    fn push_control(&self, frame: &impl serde::Serialize) {
        if let Ok(mut message) = codec::encode(frame) {
            codec::number(&mut message, 0);
            self.out().control.push_back(Bytes::from(message));
            self.wake.notify_one();
        }
    }

    /// Asks the replica whether it lives; says what has come.
    pub fn ping(&self, n: u64) {
        let ping = ToReplica::Ping(protocol::Ping { n });
        match self.version {
            Version::One => {
                if let Ok(frame) = codec::encode(&ping) {
                    let _ = self.push(frame, None);
                }
            }
            Version::Two => {
                // What waits here has not been read for that many seconds.
                if self.out().control.len() < CONTROL {
                    self.push_control(&ping);
                    self.acknowledge();
                }
            }
        }
    }

    /// Tells the replica that a frame of its was not understood.
    pub fn refuse(&self, refused: &Refused) {
        if self.version == Version::Two && self.out().control.len() < CONTROL {
            self.push_control(&Link::Refused(refused.clone()));
        }
    }

    fn acknowledge(&self) {
        let told = {
            let mut incoming = self.incoming();
            incoming.granted = incoming.may_have();
            let told = Ack { seq: incoming.received, credit: incoming.granted };
            if told == incoming.told {
                return;
            }
            incoming.told = told;
            incoming.told_bytes = incoming.received_bytes;
            told
        };
        self.push_control(&Link::Ack(told));
    }

    /// Messages for one write; empty when there is nothing to write now.
    pub fn take(&self) -> Vec<Bytes> {
        let mut out = self.out();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES {
            let Some(message) = out.next(self.version) else { break };
            bytes += message.len();
            batch.push(message);
        }
        if bytes > 0 {
            self.room.notify_waiters();
        }
        batch
    }

    /// Whether frames wait and none may be sent: the replica grants nothing.
    pub fn is_starved(&self) -> bool {
        let out = self.out();
        !(out.may_send(self.version) || out.small.is_empty() && out.large.is_empty())
    }

    /// Returns when there may be something to write.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    // In

    /// Takes a message's number and credit into account.
    pub fn arrived(&self, message: &Bytes) -> Result<Arrived, Offence> {
        if self.version == Version::One {
            return Ok(Arrived::Frame(message.clone()));
        }
        let Some(seq) = codec::numbered(message) else { return Err(Offence::Number) };
        if message.len() > MESSAGE_BYTES {
            return Err(Offence::Chunks);
        }
        if seq == 0 {
            return Ok(Arrived::Frame(message.slice(HEAD..)));
        }
        let mut incoming = self.incoming();
        if seq <= incoming.received {
            return Ok(Arrived::Nothing);
        }
        if seq != incoming.received + 1 {
            return Err(Offence::Number);
        }
        // A message may be begun while there is any credit left.
        if incoming.received_bytes >= incoming.granted {
            return Err(Offence::Credit);
        }
        incoming.received = seq;
        incoming.received_bytes += message.len() as u64;
        let due = incoming.received_bytes - incoming.told_bytes > ACKNOWLEDGE_BYTES
            || seq - incoming.told.seq > ACKNOWLEDGE_MESSAGES;
        drop(incoming);
        if due {
            self.acknowledge();
        }
        Ok(Arrived::Frame(message.slice(HEAD..)))
    }

    /// Puts a chunk behind those before it.
    pub fn chunk(&self, chunk: &Chunk) -> Result<Arrived, Offence> {
        let mut incoming = self.incoming();
        let rest = chunk.left.saturating_add(chunk.data.len() as u64);
        let fits = incoming.left.is_none_or(|left| left == rest);
        let whole = rest.saturating_add(incoming.parts.len() as u64);
        if !fits || chunk.data.is_empty() || whole > protocol::MAX_FRAME_BYTES as u64 {
            return Err(Offence::Chunks);
        }
        incoming.parts.extend_from_slice(&chunk.data);
        incoming.left = (chunk.left > 0).then_some(chunk.left);
        if chunk.left > 0 { Ok(Arrived::Nothing) } else { Ok(Arrived::Whole(std::mem::take(&mut incoming.parts))) }
    }

    /// What the replica has acknowledged and granted.
    pub fn acknowledged(&self, ack: Ack) {
        self.out().acknowledged(ack);
        self.wake.notify_one();
    }

    /// How many bytes of its frames are held.
    pub fn held_bytes(&self) -> u64 {
        self.incoming().held_bytes
    }

    /// Counts bytes as held until what is returned is dropped.
    pub fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        self.incoming().held_bytes += bytes as u64;
        Held { session: Arc::clone(self), bytes: bytes as u64 }
    }

    /// Returns when the next message may be read. In version 2 the replica's credit says how much may come.
    pub async fn may_read(&self) {
        if self.version == Version::Two {
            return;
        }
        loop {
            let room = self.room.notified();
            if self.incoming().held_bytes <= HELD_BYTES || self.is_over() {
                return;
            }
            room.await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let is_due = {
            let mut incoming = self.session.incoming();
            incoming.held_bytes -= self.bytes;
            self.session.version == Version::Two && incoming.may_have() >= incoming.told.credit + ACKNOWLEDGE_BYTES
        };
        match self.session.version {
            Version::One => self.session.room.notify_waiters(),
            Version::Two if is_due => self.session.acknowledge(),
            Version::Two => {}
        }
    }
}

impl Incoming {
    /// The credit that the replica may have: never less than it was told.
    fn may_have(&self) -> u64 {
        self.granted.max(self.received_bytes.saturating_sub(self.held_bytes) + protocol::WINDOW_BYTES)
    }
}

impl Outgoing {
    fn may_send(&self, version: Version) -> bool {
        version == Version::One || self.sent_bytes < self.credit && self.unacknowledged_bytes <= UNACKNOWLEDGED_BYTES
    }

    fn acknowledged(&mut self, ack: Ack) {
        while self.unacknowledged.front().is_some_and(|(seq, _)| *seq <= ack.seq) {
            if let Some((_, message)) = self.unacknowledged.pop_front() {
                self.unacknowledged_bytes -= message.len();
            }
        }
        self.credit = self.credit.max(ack.credit);
    }

    fn next(&mut self, version: Version) -> Option<Bytes> {
        if let Some(message) = self.control.pop_front().or_else(|| self.again.pop_front()) {
            return Some(message);
        }
        if !self.may_send(version) {
            return None;
        }
        // A large frame's chunks and small frames take turns.
        let is_chunks_turn = std::mem::replace(&mut self.chunk_is_next, false) && !self.large.is_empty();
        if !is_chunks_turn && let Some(message) = self.small.pop_front() {
            self.chunk_is_next = true;
            self.waiting_bytes -= message.len() + OVERHEAD_BYTES;
            return Some(self.numbered(version, message));
        }
        self.next_chunk(version)
    }

    fn next_chunk(&mut self, version: Version) -> Option<Bytes> {
        let large = self.large.front_mut()?;
        let is_small = !large.is_begun && large.left.len() <= protocol::LARGE_BYTES;
        let most = if is_small { protocol::LARGE_BYTES } else { protocol::CHUNK_BYTES };
        let data = large.left.split_to(large.left.len().min(most));
        let left = large.left.len();
        large.is_begun = true;
        let message = if is_small {
            let mut message = vec![0; HEAD];
            message.extend_from_slice(&data);
            message
        } else {
            let chunk = Chunk { left: left as u64, data: ByteBuf::from(data.to_vec()) };
            codec::encode(&Link::Chunk(chunk)).ok()?
        };
        self.waiting_bytes -= data.len();
        if left == 0 {
            self.waiting_bytes -= HEAD + OVERHEAD_BYTES;
            self.large.pop_front();
        }
        Some(self.numbered(version, message))
    }

    fn numbered(&mut self, version: Version, mut message: Vec<u8>) -> Bytes {
        if version == Version::One {
            return Bytes::from(message).slice(HEAD..);
        }
        self.sent += 1;
        codec::number(&mut message, self.sent);
        let message = Bytes::from(message);
        self.sent_bytes += message.len() as u64;
        self.unacknowledged_bytes += message.len();
        self.unacknowledged.push_back((self.sent, message.clone()));
        message
    }
}

#[cfg(test)]
mod tests;
