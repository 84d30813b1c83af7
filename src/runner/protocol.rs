//! The frames of the runner's contract, versions 1 and 2, as `PROTOCOL.md` beside this file describes them.
//!
//! One MessagePack map a frame, with one key: its kind. JSON travels as bytes that the gateway hands on
//! without reading them.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// The WebSocket subprotocol of version 1.
pub const SUBPROTOCOL_V1: &str = "rapidclaw.runner.v1";
/// The WebSocket subprotocol of version 2.
pub const SUBPROTOCOL_V2: &str = "rapidclaw.runner.v2";
/// The largest message of version 1, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// The largest frame of version 2, whatever it is cut into.
pub const MAX_FRAME_BYTES: usize = 128 << 20;
/// Frames of version 2 that are larger travel in chunks.
pub const LARGE_BYTES: usize = 1 << 20;
/// The data of one chunk.
pub const CHUNK_BYTES: usize = 256 << 10;
/// What either side may send before it is granted more.
pub const WINDOW_BYTES: u64 = 16 << 20;
/// What this gateway can do, in its `hello`.
pub const CAPABILITIES: [&str; 4] = ["resume", "credit", "chunks", "refused"];

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

/// What either side says of the connection itself, in version 2.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// The first frame each way.
    Hello(Hello),
    /// What has come, and what more may.
    Ack(Ack),
    /// A part of a frame.
    Chunk(Chunk),
    /// A frame that the other side does not know or cannot read.
    Refused(Refused),
}

/// Body of [`Link::Hello`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Hello {
    /// The gateway's: the session to go on with. The replica's: the one that goes on or begins.
    pub session: Option<String>,
    /// The replica's: whether the session goes on.
    pub resumed: bool,
    /// The number of the last message that has come in this session.
    pub received: u64,
    /// See [`Ack::credit`].
    pub credit: u64,
    /// The largest frame that is taken.
    pub max_bytes: u64,
    /// What this side can do.
    pub capabilities: Vec<String>,
}

/// Body of [`Link::Ack`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ack {
    /// All numbered messages up to this one have come.
    pub seq: u64,
    /// Bytes of numbered messages that may be sent, counted from the session's beginning.
    pub credit: u64,
}

/// Body of [`Link::Chunk`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Chunk {
    /// Bytes of the frame that come after this chunk.
    pub left: u64,
    /// Its next bytes.
    pub data: ByteBuf,
}

/// Body of [`Link::Refused`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Refused {
    /// The refused frame's kind.
    pub kind: String,
    /// Why.
    pub reason: String,
    /// The run that it named.
    pub run: Option<String>,
    /// The attempt that it named.
    pub attempt: u32,
    /// Its id, where it wanted a reply.
    pub id: u64,
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
    /// Encoded channel values that the thread's newest root checkpoint may have, in bytes.
    pub state_bytes: Option<u64>,
    pub stream_modes: Vec<String>,
    pub subgraphs: bool,
    pub answer: Answer,
    pub full: bool,
    pub traceparent: Option<String>,
    /// A turn of which the replica decides, by the thread's state, whether it is new input or an answer: see
    /// [`Turn`]. Instead of `input` and `command`, which are for runners that do not know it.
    pub turn: Option<Json>,
}

/// [`Start::turn`], as JSON.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Turn<'a> {
    /// What was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<&'a str>,
    /// The graph's input; nothing where the graph takes no messages, or only `resume` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<&'a serde_json::Value>,
    /// Whether `input` is the client's own: it begins anew also on a thread that waits.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub anew: bool,
    /// What a thread without state gets beside `input`.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub first: serde_json::Map<String, serde_json::Value>,
    /// What open interrupts are answered with: one value in a list, since it may be null.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub resume: &'a [serde_json::Value],
    /// Tags of the run's traces.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub tags: &'a [String],
    /// Why the message is no input of the graph.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_chat: Option<&'a str>,
}

/// What the gateway knows of the thread's state.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct State {
    /// The checkpoint, or that there is none.
    pub tuple: Option<Tuple>,
    /// Given for a target that keeps a document: its JSON, or that there is none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<Option<Json>>,
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
    /// There is more than fits one reply: it is to be asked for from the last tuple on.
    pub more: bool,
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
    /// What holds the loop that runs graphs, when it does not move.
    pub stalled: Option<Stalled>,
}

/// What holds the loop that runs graphs: the run, its node, `FILE:LINE` of the project, and for how long.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stalled {
    pub run: Option<String>,
    pub node: Option<String>,
    #[serde(rename = "where")]
    pub place: Option<String>,
    pub seconds: f64,
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
    /// What models were used for since the last of the attempt's frames.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usage: Vec<Usage>,
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
    /// What models were used for since the last of the attempt's frames.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usage: Vec<Usage>,
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
    /// Whether the replica knows [`Reply::more`].
    pub pages: bool,
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
    /// The thread's state, of a target that keeps one document; nothing where it is as it was.
    #[serde(default)]
    pub document: Option<Json>,
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
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct EndError {
    /// The exception's type, without its module.
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub message: String,
    /// Whether the message may leave the server.
    #[serde(default)]
    pub public: bool,
    /// Where the turn does not fit the thread: how.
    #[serde(default)]
    pub code: Option<String>,
    /// The open interrupts' ids, where the turn has to name some of them.
    #[serde(default)]
    pub interrupts: Vec<String>,
    /// What stopped the code inside the replica, and what to do about it: for the operator.
    #[serde(default)]
    pub hint: Option<String>,
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

impl Tuple {
    /// About how many bytes it takes in a frame, at least.
    pub fn bytes(&self) -> usize {
        let blobs = self.blobs.iter().map(|(_, _, value)| value.as_ref().map_or(0, |value| value.len()));
        let writes = self.writes.iter().map(|(_, _, _, value, _, _)| value.len());
        self.checkpoint.len() + self.metadata.len() + blobs.chain(writes).sum::<usize>()
    }
}

impl ToReplica {
    /// About how many bytes it takes, at least: known without encoding it.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Start(start) => {
                let tuple = start.state.as_ref().and_then(|state| state.tuple.as_ref());
                let parts = [&start.input, &start.command, &start.configurable, &start.context, &start.metadata];
                let json = parts.into_iter().map(|part| part.as_ref().map_or(0, |json| json.len()));
                let document = start
                    .state
                    .as_ref()
                    .and_then(|state| state.document.as_ref()?.as_ref())
                    .map_or(0, |json| json.len());
                tuple.map_or(0, Tuple::bytes) + document + json.sum::<usize>()
            }
            Self::Reply(reply) => reply.tuples.iter().map(Tuple::bytes).sum(),
            Self::Cancel(_) | Self::Drain(_) | Self::Ping(_) => 0,
        }
    }

    /// The run whose frames it may not overtake.
    pub fn run(&self) -> Option<&str> {
        match self {
            Self::Start(start) => Some(&start.run),
            Self::Cancel(cancel) => Some(&cancel.run),
            Self::Drain(drain) => drain.run.as_deref(),
            Self::Reply(_) | Self::Ping(_) => None,
        }
    }
}

impl FromReplica {
    /// The attempt that it names.
    pub fn attempt(&self) -> Option<(&str, u32)> {
        match self {
            Self::Ready(_) | Self::Pong(_) => None,
            Self::Event(body) => Some((&body.run, body.attempt)),
            Self::Checkpoint(body) => Some((&body.run, body.attempt)),
            Self::Writes(body) => Some((&body.run, body.attempt)),
            Self::Read(body) => Some((&body.run, body.attempt)),
            Self::Manage(body) => Some((&body.run, body.attempt)),
            Self::End(body) => Some((&body.run, body.attempt)),
        }
    }
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
