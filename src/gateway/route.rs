//! The way to an agent: the release that serves and its ready replicas, swapped in one step.

use super::replica::{Replica, Slot};
use crate::run::chat::{ChatInputError, ChatShape, choose_graph};
use crate::store::agents::Agent;
use crate::store::checkpoints::{CheckpointError, Schema};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

/// The way to one agent.
pub struct Route {
    /// The agent's id.
    pub agent: Uuid,
    /// The agent's name.
    pub name: String,
    /// Where its checkpoints lie.
    pub schema: Arc<Schema>,
    serving: watch::Sender<Option<Arc<Serving>>>,
    /// Woken when a waiting run may begin.
    pub(super) kick: Notify,
    /// Woken when a run may wait for a replica for itself.
    pub(super) suspects: Notify,
    /// How many replicas there are to be.
    wanted: AtomicU32,
    /// Runs that wait in this gateway.
    pub(super) waiting: AtomicUsize,
    /// Whether the table may hold waiting runs that no client of this gateway waits for.
    pub(super) orphans: AtomicBool,
}

/// The release that serves, with its ready replicas.
pub struct Serving {
    /// Which release.
    pub release: Uuid,
    /// Its number.
    pub version: i32,
    /// What its runs may do.
    pub limits: RunLimits,
    /// Its graphs, in the manifest's order.
    pub graphs: Vec<ServedGraph>,
    /// Ready ones.
    pub replicas: Vec<Arc<Replica>>,
}

/// A graph as it is served.
pub struct ServedGraph {
    /// Its id.
    pub id: String,
    /// How `/v1/chat` talks to it, or why it cannot.
    pub chat: Result<ChatShape, String>,
    /// What its input holds, where that is no messages.
    pub input: Vec<String>,
    /// Whether it keeps its state as one document, and writes no checkpoints.
    pub is_document: bool,
    /// Super-steps of its runs: the manifest's ceiling, else its own.
    pub recursion_limit: Option<u32>,
}

/// Ceilings of the manifest.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunLimits {
    /// Super-steps of a run.
    pub recursion_limit: Option<u32>,
    /// From start to end of a run.
    pub run_timeout: Option<Duration>,
    /// Given to graphs that ask for a `tokens_budget`.
    pub tokens_per_run: Option<u64>,
    /// Runs of the agent that may wait.
    pub queue: Option<u32>,
    /// Encoded channel values of a thread's newest root checkpoint.
    pub state_bytes: Option<u64>,
}

impl Route {
    pub(super) fn new(agent: &Agent) -> Result<Self, CheckpointError> {
        Ok(Self {
            agent: agent.id,
            name: agent.name.clone(),
            schema: Arc::new(Schema::new(&agent.schema_name)?),
            serving: watch::Sender::new(None),
            kick: Notify::new(),
            suspects: Notify::new(),
            wanted: AtomicU32::new(1),
            waiting: AtomicUsize::new(0),
            orphans: AtomicBool::new(true),
        })
    }

    /// Moves traffic: what comes from now on goes to `serving`.
    pub fn serve(&self, serving: Option<Serving>) {
        self.serving.send_replace(serving.map(Arc::new));
        self.kick.notify_one();
    }

    /// Says how many replicas there are to be, however many serve now.
    pub fn set_wanted(&self, replicas: u32) {
        self.wanted.store(replicas, Ordering::Release);
    }

    pub(super) fn wanted(&self) -> u32 {
        self.wanted.load(Ordering::Acquire)
    }

    pub(super) fn may_hold_waiting_runs(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0 || self.orphans.load(Ordering::Acquire)
    }

    /// Has the table looked at for waiting runs, whoever waits for them.
    pub(super) fn look_for_waiting(&self) {
        self.orphans.store(true, Ordering::Release);
        self.kick.notify_one();
        self.suspects.notify_one();
    }

    pub(super) fn close(&self) {
        self.serving.send_replace(None);
    }

    /// What serves now.
    pub fn serving(&self) -> Option<Arc<Serving>> {
        self.serving.borrow().clone()
    }

    /// The release of that number, once it serves; nothing after `patience`.
    pub async fn serves(&self, version: i32, patience: Duration) -> Option<Arc<Serving>> {
        let mut watch = self.serving.subscribe();
        let serves = watch.wait_for(|serving| serving.as_ref().is_some_and(|serving| serving.version == version));
        tokio::time::timeout(patience, serves).await.ok()?.ok()?.clone()
    }

    /// What serves, once a replica of it is ready; nothing after `patience`.
    pub async fn ready(&self, patience: Duration) -> Option<Arc<Serving>> {
        let mut watch = self.serving.subscribe();
        let ready = watch.wait_for(|serving| serving.as_ref().is_some_and(|serving| serving.is_ready()));
        tokio::time::timeout(patience, ready).await.ok()?.ok()?.clone()
    }
}

impl Serving {
    /// A place on the least busy ready replica; ties go round in turn.
    pub fn reserve(&self) -> Option<Slot> {
        let mut order: Vec<&Arc<Replica>> = self.replicas.iter().filter(|one| one.is_alive()).collect();
        // Those that answer first. Of equally busy ones the one whose last run began first. A place that is reserved and not used
        // (the queue was empty) does not count as a turn.
        order.sort_by_cached_key(|one| (!one.is_responsive(), one.in_flight(), one.last_begun()));
        order.into_iter().find_map(Replica::reserve)
    }

    /// Whether a run can be given to one of them.
    pub fn is_ready(&self) -> bool {
        self.replicas.iter().any(|one| one.is_alive())
    }

    /// The graph a turn talks to.
    pub fn chat_graph(&self, agent: &str, asked: Option<&str>) -> Result<&ServedGraph, ChatGraphError> {
        let ids: Vec<String> = self.graphs.iter().map(|graph| graph.id.clone()).collect();
        let chosen = choose_graph(&ids, agent, asked)?;
        self.graph(chosen).ok_or_else(|| ChatGraphError::Shape("the graph described nothing".to_owned()))
    }

    /// The graph of that id.
    pub fn graph(&self, id: &str) -> Option<&ServedGraph> {
        self.graphs.iter().find(|graph| graph.id == id)
    }
}

/// Why a turn cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ChatGraphError {
    /// Which graph is meant is not clear.
    #[error(transparent)]
    Choice(#[from] ChatInputError),
    /// The graph does not take messages.
    #[error("{0}")]
    Shape(String),
}
