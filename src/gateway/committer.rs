//! Commits what replicas send: many runs' checkpoints, writes and ends in one transaction each time.
//!
//! The frames of one run go through one worker in the order they came, so that a run's end is committed
//! with or after its last checkpoint. In each transaction the attempts are checked first: what an attempt
//! sends that is no longer live is dropped.

use crate::api::problem::RunFault;
use crate::base::shutdown::Shutdown;
pub use crate::base::telemetry::chain;
use crate::run::loss::Loss;
use crate::runner::protocol::{Read, Reply, ToReplica};
use crate::runner::session::{FrameSender, Held};
use crate::store::checkpoints::{self, Change, Op, Schema};
use crate::store::runs::{self, Ending, Requeued, RunStatus};
use crate::store::{Store, StoreError};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

/// Workers; each holds one database connection while it commits.
const WORKERS: usize = 4;
/// Items that wait for a worker; senders wait when there are more.
const QUEUE: usize = 1024;
/// Items of one transaction.
const BATCH: usize = 256;
/// How long checkpoints that nobody waits for may wait for what comes after them: most runs' next step, or
/// their end, comes sooner, and is committed with them. LangGraph's durability `async` promises no more.
const LINGER: Duration = Duration::from_millis(5);
/// How soon the database is asked again that was away. However long it is, what replicas sent waits for it:
/// this gateway holds the runs, and nobody else ends them.
const RETRY_EVERY: Duration = Duration::from_millis(500);
/// What a replica is told that sends for an attempt that is over.
const TAKEN_OVER: &str = "another attempt has taken the run over";

/// Run and number of an attempt.
pub type Key = (Uuid, i32);

/// What can be committed, in the order in which it happened.
pub enum Item {
    /// A checkpoint or a task's writes. Its bytes count as held until it is committed.
    Save { schema: Arc<Schema>, key: Key, op: Op, sender: FrameSender, held: Held },
    /// A question, answered when what came before it is committed.
    Read { schema: Arc<Schema>, key: Key, read: Box<Read>, sender: FrameSender },
    /// A change of threads as a whole.
    Change { schema: Arc<Schema>, key: Key, id: u64, change: Change, only: Option<String>, sender: FrameSender },
    /// The attempt is over and the run is not: it waits for its next one. `loss` is what is held against it.
    Requeue { key: Key, loss: Loss, done: oneshot::Sender<Requeued> },
    /// The run's end.
    End { schema: Arc<Schema>, ending: Box<Ending>, done: oneshot::Sender<Ended> },
}

/// What became of a run's end.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// It is committed.
    Committed,
    /// The attempt was not live any more: somebody else ends the run.
    Fenced,
    /// The database did not take what the run sent.
    Rejected,
}

/// Hands items to the workers. Clones share them.
#[derive(Clone)]
pub struct Committer(Arc<Vec<mpsc::Sender<Item>>>);

impl Committer {
    /// Starts the workers; they end when all senders are gone, after what was sent is committed.
    pub fn start(store: &Store, shutdown: &Shutdown) -> Self {
        let workers = (0..WORKERS).map(|_| {
            let (sender, receiver) = mpsc::channel(QUEUE);
            shutdown.spawn_until_cancelled(work(store.clone(), receiver));
            sender
        });
        Self(Arc::new(workers.collect()))
    }

    /// Queues an item behind all earlier ones of its run.
    pub async fn submit(&self, item: Item) {
        let run = item.run();
        let worker = usize::from(run.as_bytes()[15]) % self.0.len();
        let _ = self.0[worker].send(item).await;
    }
}

impl Item {
    fn run(&self) -> Uuid {
        match self {
            Self::Save { key, .. } | Self::Read { key, .. } | Self::Change { key, .. } | Self::Requeue { key, .. } => {
                key.0
            }
            Self::End { ending, .. } => ending.run,
        }
    }

    fn key(&self) -> Key {
        match self {
            Self::Save { key, .. } | Self::Read { key, .. } | Self::Change { key, .. } | Self::Requeue { key, .. } => {
                *key
            }
            Self::End { ending, .. } => (ending.run, ending.attempt),
        }
    }

    fn waits_for_what_came_before(&self) -> bool {
        matches!(self, Self::Read { .. } | Self::Change { .. } | Self::Requeue { .. })
    }

    /// Whether nobody waits for it to be committed.
    fn may_linger(&self) -> bool {
        matches!(self, Self::Save { op, .. } if op.id() == 0)
    }
}

async fn work(store: Store, mut inbox: mpsc::Receiver<Item>) {
    let mut rejected = Rejected::new();
    while let Some(first) = inbox.recv().await {
        let (batch, question) = collect(first, &mut inbox).await;
        if !batch.is_empty() {
            commit(&store, batch, &mut rejected).await;
        }
        if let Some(question) = question {
            if matches!(question, Item::Requeue { .. }) {
                // The next attempt goes on from what is there.
                rejected.remove(&question.key());
            }
            answer(&store, question).await;
        }
    }
}

/// What is committed together, and the question behind it. As long as nobody waits for any of it, more is
/// waited for, [`LINGER`] at most.
async fn collect(first: Item, inbox: &mut mpsc::Receiver<Item>) -> (Vec<Item>, Option<Item>) {
    let deadline = Instant::now() + LINGER;
    let (mut batch, mut may_linger) = (Vec::new(), true);
    let mut next = Some(first);
    while let Some(item) = next.take() {
        if item.waits_for_what_came_before() {
            return (batch, Some(item));
        }
        may_linger &= item.may_linger();
        batch.push(item);
        if batch.len() == BATCH {
            break;
        }
        next = match inbox.try_recv() {
            Ok(item) => Some(item),
            Err(_) if may_linger => timeout_at(deadline, inbox.recv()).await.ok().flatten(),
            Err(_) => None,
        };
    }
    (batch, None)
}

/// Attempts that sent what could not be committed, until they end: their later checkpoints would leave a
/// hole, and their end may not be a success.
type Rejected = HashSet<Key>;

/// Commits all of a batch; when that fails for what a run sent, each run for itself.
async fn commit(store: &Store, batch: Vec<Item>, rejected: &mut Rejected) {
    let (refused, batch): (Vec<Item>, Vec<Item>) = batch.into_iter().partition(|item| rejected.contains(&item.key()));
    reject(store, refused, rejected).await;
    if batch.is_empty() {
        return;
    }
    match persist(store, &batch).await {
        Ok(done) => tell(batch, &done),
        Err(error) => {
            let mut by_run: BTreeMap<Uuid, Vec<Item>> = BTreeMap::new();
            for item in batch {
                by_run.entry(item.run()).or_default().push(item);
            }
            let alone = by_run.len() == 1;
            for (run, items) in by_run {
                let done = if alone { Err(None) } else { persist(store, &items).await.map_err(Some) };
                match done {
                    Ok(done) => tell(items, &done),
                    Err(own) => {
                        let error: &dyn std::error::Error = own.as_ref().map_or(&error, |own| own);
                        tracing::error!(run_id = %run, error = %chain(error), "the database does not take what the run sent");
                        reject(store, items, rejected).await;
                    }
                }
            }
        }
    }
}

struct Done {
    live: HashSet<Key>,
    ended: HashSet<Uuid>,
}

/// One transaction; tried again while the database is away.
async fn persist(store: &Store, batch: &[Item]) -> Result<Done, StoreError> {
    patiently(|| transaction(store, batch)).await
}

/// Does what may be repeated, and again while the database is away, for as long as the gateway lives: a run
/// does not fail for that.
pub(super) async fn patiently<T, F>(mut work: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    loop {
        match work().await {
            Err(error) if error.is_passing() => {
                tracing::warn!(error = %chain(&error), "the database is away; it is tried again");
                tokio::time::sleep(RETRY_EVERY).await;
            }
            other => return other,
        }
    }
}

async fn transaction(store: &Store, batch: &[Item]) -> Result<Done, StoreError> {
    let keys: HashSet<Key> = batch.iter().map(Item::key).collect();
    let keys: Vec<Key> = keys.into_iter().collect();
    let mut transaction = store.pool().begin().await?;
    let live: HashSet<Key> = runs::live_attempts(&mut transaction, &keys).await?.into_iter().collect();
    let mut by_schema: BTreeMap<&str, (&Schema, Vec<&Op>)> = BTreeMap::new();
    let mut endings = Vec::new();
    for item in batch.iter().filter(|item| live.contains(&item.key())) {
        match item {
            Item::Save { schema, op, .. } => {
                by_schema.entry(schema.name()).or_insert_with(|| (schema, Vec::new())).1.push(op);
            }
            Item::End { ending, .. } => endings.push((**ending).clone()),
            Item::Read { .. } | Item::Change { .. } | Item::Requeue { .. } => {}
        }
    }
    for (schema, ops) in by_schema.into_values() {
        checkpoints::apply(&mut transaction, schema, ops).await?;
    }
    let ended = if endings.is_empty() { Vec::new() } else { runs::end(&mut transaction, &endings).await? };
    transaction.commit().await?;
    Ok(Done { live, ended: ended.into_iter().collect() })
}

fn tell(batch: Vec<Item>, done: &Done) {
    for item in batch {
        let live = done.live.contains(&item.key());
        match item {
            Item::Save { op, sender, .. } => {
                let error = (!live).then(|| TAKEN_OVER.to_owned());
                acknowledge(&sender, op.id(), error);
            }
            Item::End { ending, done: tell, .. } => {
                let ended = if done.ended.contains(&ending.run) { Ended::Committed } else { Ended::Fenced };
                let _ = tell.send(ended);
            }
            Item::Read { .. } | Item::Change { .. } | Item::Requeue { .. } => {}
        }
    }
}

/// Refuses what runs sent. A run whose end is or comes among it ends as an error.
async fn reject(store: &Store, items: Vec<Item>, rejected: &mut Rejected) {
    for item in items {
        match &item {
            Item::Save { .. } => rejected.insert(item.key()),
            // Questions are never among a batch.
            Item::End { .. } | Item::Requeue { .. } | Item::Read { .. } | Item::Change { .. } => {
                rejected.remove(&item.key())
            }
        };
        match item {
            Item::Save { op, sender, .. } => {
                acknowledge(&sender, op.id(), Some("the database does not take it".to_owned()));
            }
            Item::End { ending, done, .. } => {
                let fault = RunFault { kind: "CheckpointRejected".to_owned(), message: None };
                let failed = Ending { status: RunStatus::Error, answer: None, fault: Some(fault), ..*ending };
                let ended = patiently(|| store.end_runs(std::slice::from_ref(&failed))).await;
                if let Err(error) = ended {
                    tracing::error!(error = %chain(&error), "a run could not be ended");
                }
                let _ = done.send(Ended::Rejected);
            }
            Item::Read { .. } | Item::Change { .. } | Item::Requeue { .. } => {}
        }
    }
}

fn acknowledge(sender: &FrameSender, id: u64, error: Option<String>) {
    if id != 0 {
        let _ = sender.send(ToReplica::Reply(Reply { id, tuples: vec![], error }));
    }
}

async fn answer(store: &Store, question: Item) {
    let (id, sender, result) = match question {
        Item::Read { schema, read, sender, .. } => {
            let ask = async || Ok(checkpoints::read(store.pool(), &schema, &read).await?);
            let result = patiently(ask).await;
            (read.id, sender, result.map(|tuples| (tuples, None)))
        }
        Item::Change { schema, key, id, change, only, sender } => {
            let changed = patiently(|| carry_out(store, &schema, key, &change, only.as_deref())).await;
            let refusal = |live: bool| (!live).then(|| TAKEN_OVER.to_owned());
            (id, sender, changed.map(|live| (vec![], refusal(live))))
        }
        Item::Requeue { key: (run, attempt), loss, done } => {
            let _ = done.send(requeue(store, run, attempt, loss).await);
            return;
        }
        Item::Save { .. } | Item::End { .. } => return,
    };
    let reply = match result {
        Ok((tuples, error)) => Reply { id, tuples, error },
        Err(error) => {
            tracing::error!(error = %chain(&error), "a replica's question could not be answered");
            Reply { id, tuples: vec![], error: Some("the database could not answer".to_owned()) }
        }
    };
    let _ = sender.send(ToReplica::Reply(reply));
}

/// Tried again while the database is away: a run that is not put back waits for nobody.
async fn requeue(store: &Store, run: Uuid, attempt: i32, loss: Loss) -> Requeued {
    let requeued = patiently(|| store.requeue_run(run, attempt, loss)).await;
    requeued.unwrap_or_else(|error| {
        tracing::error!(run_id = %run, error = %chain(&error), "a run could not be put back");
        Requeued::Fenced
    })
}

/// Changes threads, if the attempt is live; says whether it was.
async fn carry_out(
    store: &Store,
    schema: &Schema,
    key: Key,
    change: &Change,
    only: Option<&str>,
) -> Result<bool, StoreError> {
    let mut transaction = store.pool().begin().await?;
    let live = !runs::live_attempts(&mut transaction, &[key]).await?.is_empty();
    if live {
        checkpoints::change(&mut transaction, schema, change, only).await?;
        transaction.commit().await?;
    }
    Ok(live)
}
