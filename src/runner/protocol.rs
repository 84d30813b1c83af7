//! The frames of the runner's contract, version 1, as `PROTOCOL.md` beside this file describes them.
//!
//! One MessagePack map a message, with one key: the kind of frame. JSON travels as bytes that the
//! gateway hands on without reading them.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// The version that this gateway speaks.
pub const VERSION: u32 = 1;
/// The WebSocket subprotocol of [`VERSION`].
pub const SUBPROTOCOL: &str = "rapidclaw.runner.v1";
/// The largest message either side takes, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// UTF-8 JSON text, unread.
pub type Json = ByteBuf;

/// What the gateway says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToReplica {
    /// Execute a run.
    Start(Box<Start>),
    /// End a run now.
    Cancel(Cancel),
    /// Stop a run, or all of this connection, at the next super-step.
    Drain(Drain),
    /// Answers a frame that had an `id`.
    Reply(Reply),
    /// Asks whether the connection lives.
    Ping(Ping),
}

/// What the replica says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromReplica {
    /// The graphs are loaded.
    Ready(Ready),
    /// Something happened in a run, in one of LangGraph's stream modes.
    Event(Event),
    /// A checkpoint to commit.
    Checkpoint(Box<Checkpoint>),
    /// Writes of a task to commit.
    Writes(Writes),
    /// Asks for checkpoints.
    Read(Read),
    /// Asks for a change of a thread's checkpoints as a whole.
    Manage(Manage),
    /// A run has ended; the last frame of it.
    End(Box<End>),
    /// Answers a ping.
    Pong(Pong),
}

/// Body of [`ToReplica::Start`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Start {
    pub run: String,
    pub attempt: u32,
    pub graph: String,
    pub thread_id: Option<String>,
    pub input: Option<Json>,
    pub command: Option<Json>,
    pub state: Option<State>,
    pub checkpoint_id: Option<String>,
    pub recursion_limit: Option<u32>,
    pub configurable: Option<Json>,
    pub context: Option<Json>,
    pub metadata: Option<Json>,
    pub durability: Option<String>,
    pub timeout_ms: Option<u64>,
    pub stream_modes: Vec<String>,
    pub subgraphs: bool,
    pub answer: Answer,
    pub full: bool,
    pub traceparent: Option<String>,
}

/// What the gateway knows of the thread's newest root checkpoint.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct State {
    /// The checkpoint, or that there is none.
    pub tuple: Option<Tuple>,
}

/// What `end` shall carry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The text of the last AI message.
    Chat,
    /// The final values.
    Values,
    /// Nothing.
    #[default]
    None,
}

/// Body of [`ToReplica::Cancel`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cancel {
    pub run: String,
    pub attempt: u32,
    /// `interrupt` or `rollback`.
    pub action: String,
    pub reason: String,
}

/// Body of [`ToReplica::Drain`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Drain {
    pub run: Option<String>,
    pub reason: String,
}

/// Body of [`ToReplica::Reply`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Reply {
    pub id: u64,
    pub tuples: Vec<Tuple>,
    pub error: Option<String>,
}

/// Body of [`ToReplica::Ping`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ping {
    pub n: u64,
}

/// Body of [`FromReplica::Pong`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Pong {
    pub n: u64,
    pub runs: u64,
}

/// Body of [`FromReplica::Ready`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ready {
    /// The JSON of `GET /describe`.
    pub describe: Json,
}

/// Body of [`FromReplica::Event`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    pub run: String,
    pub attempt: u32,
    pub mode: String,
    #[serde(default)]
    pub ns: Vec<String>,
    pub data: Json,
}

/// A checkpoint as it is read: one row of `checkpoints` with its blobs and pending writes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tuple {
    pub thread_id: String,
    pub ns: String,
    pub checkpoint_id: String,
    pub parent_id: Option<String>,
    pub checkpoint: Json,
    pub metadata: Json,
    /// Channel, type, value.
    pub blobs: Vec<(String, String, Option<ByteBuf>)>,
    /// Task id, channel, type, value, task path, index; ordered by task path, task id, index.
    pub writes: Vec<(String, String, String, ByteBuf, String, i32)>,
}

/// Body of [`FromReplica::Checkpoint`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Checkpoint {
    pub run: String,
    pub attempt: u32,
    #[serde(default)]
    pub id: u64,
    pub thread_id: String,
    pub ns: String,
    pub checkpoint_id: String,
    #[serde(default)]
    pub parent_id: Option<String>,
    pub checkpoint: Json,
    pub metadata: Json,
    /// Channel, version, type, value.
    #[serde(default)]
    pub blobs: Vec<(String, String, String, Option<ByteBuf>)>,
}

/// Body of [`FromReplica::Writes`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Writes {
    pub run: String,
    pub attempt: u32,
    #[serde(default)]
    pub id: u64,
    pub thread_id: String,
    pub ns: String,
    pub checkpoint_id: String,
    pub task_id: String,
    #[serde(default)]
    pub task_path: String,
    /// Whether existing writes are replaced (the special channels) or kept.
    #[serde(default)]
    pub overwrite: bool,
    /// Index, channel, type, value.
    pub writes: Vec<(i32, String, String, ByteBuf)>,
}

/// Body of [`FromReplica::Read`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Read {
    pub run: String,
    pub attempt: u32,
    pub id: u64,
    pub thread_id: Option<String>,
    pub ns: Option<String>,
    pub checkpoint_id: Option<String>,
    pub before: Option<String>,
    /// A JSON object that the metadata must contain.
    pub filter: Option<Json>,
    pub limit: Option<u64>,
}

/// Body of [`FromReplica::Manage`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manage {
    pub run: String,
    pub attempt: u32,
    pub id: u64,
    /// `delete_thread`, `copy_thread`, `delete_for_runs` or `prune`.
    pub op: String,
    pub args: Json,
}

/// Body of [`FromReplica::End`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct End {
    pub run: String,
    pub attempt: u32,
    pub status: EndStatus,
    #[serde(default)]
    pub result: Option<String>,
    #[serde(default)]
    pub values: Option<Json>,
    #[serde(default)]
    pub messages: Option<Json>,
    #[serde(default)]
    pub interrupts: Option<Json>,
    #[serde(default)]
    pub error: Option<EndError>,
    #[serde(default)]
    pub usage: Vec<Usage>,
    /// A new AI message carried no usage: what the run cost is not known.
    #[serde(default)]
    pub unmetered: bool,
    #[serde(default)]
    pub steps: u32,
}

/// How a run ended in its replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndStatus {
    Success,
    Error,
    Interrupted,
    Drained,
    Cancelled,
    Timeout,
}

/// Why a run failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EndError {
    /// The exception's type, without its module.
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub message: String,
    /// Whether the message may leave the server.
    #[serde(default)]
    pub public: bool,
}

/// Tokens of one AI message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    pub id: String,
    pub model: Option<String>,
    pub provider: Option<String>,
    pub input: u64,
    pub output: u64,
    pub cache_read: u64,
    pub cache_write: u64,
    pub reasoning: u64,
}

/// A frame as MessagePack.
pub fn encode(frame: &ToReplica) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    rmp_serde::to_vec_named(frame)
}

/// The frame that a replica sent.
pub fn decode(bytes: &[u8]) -> Result<FromReplica, rmp_serde::decode::Error> {
    rmp_serde::from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_maps_of_one_kind_and_survive_the_way_there_and_back() {
        let start = ToReplica::Start(Box::new(Start {
            run: "r".into(),
            input: Some(ByteBuf::from(*b"{}")),
            ..Start::default()
        }));
        let bytes = encode(&start).unwrap();
        assert_eq!(&bytes[..7], b"\x81\xa5start");
        let again: ToReplica = rmp_serde::from_slice(&bytes).unwrap();
        assert!(
            matches!(again, ToReplica::Start(body) if body.run == "r" && body.input.as_deref().map(Vec::as_slice) == Some(b"{}"))
        );
    }

    #[test]
    fn an_unknown_kind_is_an_error_and_an_unknown_field_is_not() {
        let unknown: Vec<u8> = b"\x81\xa3foo\x80".to_vec();
        assert!(decode(&unknown).is_err());
        let pong = b"\x81\xa4pong\x82\xa1n\x07\xa3new\xc3";
        assert!(matches!(decode(pong), Ok(FromReplica::Pong(Pong { n: 7, .. }))));
    }
}
