//! Where replicas run, behind one trait: `docker` now; `kubernetes` and `process` take the same place.

pub mod docker;
pub mod folders;
pub mod kept;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use tokio::sync::mpsc;
use uuid::Uuid;

/// What a replica shall be.
#[derive(Debug, Clone)]
pub struct ReplicaSpec {
    /// Its id.
    pub id: Uuid,
    /// Its agent's name.
    pub agent: String,
    /// Its release.
    pub release: Uuid,
    /// Its release's number.
    pub version: i32,
    /// The rollout that makes it.
    pub rollout: Uuid,
    /// Digest of its image.
    pub image: String,
    /// Processors.
    pub cpu: f64,
    /// Bytes.
    pub memory_bytes: u64,
    /// Whether it may reach what it likes: a bridge network of the agent's own. Otherwise it has no network.
    pub open_network: bool,
    /// Names on its own loopback.
    pub hosts: Vec<(String, IpAddr)>,
    /// What is mounted into it.
    pub folders: ReplicaFolders,
}

/// The two folders that are mounted into a replica.
#[derive(Debug, Clone)]
pub struct ReplicaFolders {
    /// Read-only: the server's sockets and `replica.json`.
    pub server: PathBuf,
    /// Writable for it: its own socket.
    pub replica: PathBuf,
}

/// A replica that the runtime knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownReplica {
    /// Its id.
    pub id: Uuid,
    /// Its agent's name.
    pub agent: String,
    /// The release that it was made for.
    pub release: Uuid,
    /// The rollout that made it.
    pub rollout: Uuid,
    /// How far it is.
    pub stage: Stage,
}

/// How far a replica's container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Made, and not started yet, or never.
    Made,
    /// It runs.
    Running,
    /// It has ended.
    Ended,
}

/// A replica that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaExit {
    /// Which.
    pub id: Uuid,
    /// The code of its process.
    pub code: Option<i64>,
    /// Whether it ran out of memory.
    pub out_of_memory: bool,
    /// Whether it ended with its engine: a crash of that, and no fault of the replica's.
    pub with_engine: bool,
}

/// Codes of what was killed or asked to end from outside, and the one of a container whose end nobody saw.
const FROM_OUTSIDE: [i64; 3] = [137, 143, 255];

impl ReplicaExit {
    /// Whether it ended by its own doing: an exit, a crash, its memory.
    pub fn is_by_itself(&self) -> bool {
        let killed = self.code.is_none_or(|code| FROM_OUTSIDE.contains(&code));
        !self.with_engine && (self.out_of_memory || !killed)
    }
}

/// A line that a replica wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenLine {
    /// When the runtime got it.
    pub at: jiff::Timestamp,
    /// What it says.
    pub text: String,
}

/// Which of a replica's lines are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LineRange {
    /// Of those that are there only the last; none: all.
    pub last: Option<usize>,
    /// Only those written after this time.
    pub after: Option<jiff::Timestamp>,
    /// Whether to go on with those that are written from now on, until the replica ends.
    pub follow: bool,
}

/// What can go wrong in a runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The image is not where replicas run.
    #[error("the image {0} is not in the engine")]
    NoImage(String),
    /// The engine could not be reached.
    #[error("Docker Engine cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The engine refused.
    #[error("{what}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// What the engine said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The replica's folders could not be made.
    #[error("the replica's folder {path}")]
    Folder {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// An image on its way in.
pub type ImageArchive = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// An image that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundImage {
    /// For which processor it is (`amd64`); empty where it does not say.
    pub architecture: String,
    /// The agent that it was built for, where it says.
    pub agent: Option<String>,
}

/// Where replicas run. All calls may be repeated; each has a time-out of its own.
#[async_trait]
pub trait Runtime: Send + Sync {
    /// Makes and starts a replica.
    async fn start(&self, spec: &ReplicaSpec) -> Result<(), RuntimeError>;
    /// Asks a replica to end and kills it after `grace`; it stays with all that it wrote.
    async fn end(&self, id: Uuid, grace: std::time::Duration) -> Result<(), RuntimeError>;
    /// Asks a replica to end, kills it after `grace`, removes what is left of it.
    async fn remove(&self, id: Uuid, grace: std::time::Duration) -> Result<(), RuntimeError>;
    /// All replicas of this server.
    async fn list(&self) -> Result<Vec<KnownReplica>, RuntimeError>;
    /// The last lines that a replica wrote, oldest first; also after it ended.
    async fn last_lines(&self, id: Uuid, lines: usize) -> Result<Vec<String>, RuntimeError>;
    /// Hands a replica's lines on, oldest first, as fast as they are taken; ends when nobody takes them any more.
    async fn read_lines(
        &self,
        id: Uuid,
        range: LineRange,
        lines: mpsc::Sender<WrittenLine>,
    ) -> Result<(), RuntimeError>;
    /// What is known of an image; nothing where it is not there.
    async fn find_image(&self, image: &str) -> Result<Option<FoundImage>, RuntimeError>;
    /// Takes an image in, as `docker save` writes one, and says by which id it is known here under its tag.
    async fn load_image(&self, archive: ImageArchive, tag: &str) -> Result<String, RuntimeError>;
    /// This server's own name for an agent's image of that id.
    fn image_name(&self, agent: &str, image: &str) -> String;
    /// Gives an image that name: it stays here, whatever builders and other servers remove.
    async fn keep_image(&self, agent: &str, image: &str) -> Result<(), RuntimeError>;
    /// Takes those names from all images of the agent but these, and says from how many. What has no other name
    /// and is in no use is removed.
    async fn release_images(&self, agent: &str, kept: &HashSet<String>) -> Result<usize, RuntimeError>;
    /// Digests of an image's layers, uncompressed, lowest first; none where it is not there, or where images can
    /// only be taken in whole.
    async fn shared_layers(&self, image: &str) -> Result<Vec<String>, RuntimeError>;
    /// Removes what belongs to an agent as a whole: its network, its images.
    async fn remove_agent(&self, agent: &str) -> Result<(), RuntimeError>;
    /// Replicas as they end, from now on.
    fn exits(&self) -> mpsc::Receiver<ReplicaExit>;
    /// Since when the engine cannot be reached; nothing while it can. What runs may go on meanwhile.
    fn away_since(&self) -> Option<std::time::Instant>;
    /// Whether whoever answers for the engine has the same file system at this path as this process.
    async fn sees(&self, path: &Path) -> bool;
    /// Whether a replica that runs has `folder`, as it is here, for its own; nothing where that cannot be told.
    async fn has_folder(&self, id: Uuid, folder: &Path) -> Option<bool>;
    /// What the engine is.
    async fn engine(&self) -> Result<crate::api::control::EngineInfo, RuntimeError>;
}
