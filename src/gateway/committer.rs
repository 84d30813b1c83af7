//! Commits what replicas send: many runs' checkpoints, writes and ends in one statement each time.
//!
//! The frames of one run go through one worker in the order they came, so that a run's end is committed
//! with or after its last checkpoint. In each statement the attempts are checked first: what an attempt
//! sends that is no longer live is dropped. Workers do nothing but commit: questions are answered by tasks of
//! their own (`questions.rs`), once what came before them is committed, and nobody waits for a replica to
//! read its answers.

mod batch;
mod item;
mod questions;

use crate::base::shutdown::Shutdown;
use crate::base::tasks::{End, Tasks, panic_text};
pub use crate::base::telemetry::chain;
use crate::store::Store;
use batch::Rejected;
use futures_util::FutureExt as _;
pub(super) use item::patiently;
pub use item::{Ended, Item, Key};
use questions::Questions;
use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

/// Workers; each holds one database connection while it commits.
const WORKERS: usize = 4;
/// Items that wait for a worker; senders wait when there are more,
const QUEUE: usize = 1024;
/// or more kilobytes. One item that is larger takes all of it.
const QUEUE_KB: u32 = 64 << 10;
/// Items of one statement,
const BATCH: usize = 256;
/// and their bytes, unless it is one item alone.
const BATCH_BYTES: usize = 12 << 20;
/// How long checkpoints that nobody waits for may wait for what comes after them: most runs' next step, or
/// their end, comes sooner, and is committed with them. Whatever somebody waits for takes them along at once.
/// LangGraph's durability `async` promises no more.
const LINGER: Duration = Duration::from_millis(25);

/// Hands items to the workers. Clones share them.
#[derive(Clone)]
pub struct Committer {
    workers: Arc<Vec<Inbox>>,
    tasks: Tasks,
}

struct Inbox {
    items: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
}

/// An item and the room that it takes in its worker's queue.
struct Queued {
    item: Item,
    _room: Option<OwnedSemaphorePermit>,
}

impl Committer {
    /// Starts the workers; they end when all senders are gone, after what was sent is committed.
    pub fn start(store: &Store, shutdown: &Shutdown) -> Self {
        let questions = Arc::new(Questions::new(store.clone(), shutdown.clone()));
        let workers = (1..=WORKERS).map(|n| {
            let (items, inbox) = mpsc::channel(QUEUE);
            let worker = Arc::new(Mutex::new(Worker::new(store.clone(), Arc::clone(&questions), inbox)));
            let (name, tasks) = (format!("committer {n}"), shutdown.tasks().clone());
            shutdown.supervise(name.clone(), move || work(Arc::clone(&worker), name.clone(), tasks.clone()));
            Inbox { items, room: Arc::new(Semaphore::new(QUEUE_KB as usize)) }
        });
        Self { workers: Arc::new(workers.collect()), tasks: shutdown.tasks().clone() }
    }

    /// Where its workers' failures are told, and those of the connections that submit to it.
    pub(super) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Queues an item behind all earlier ones of its run.
    pub async fn submit(&self, item: Item) {
        let worker = &self.workers[usize::from(item.run().as_bytes()[15]) % self.workers.len()];
        let room = u32::try_from(item.bytes() >> 10).unwrap_or(QUEUE_KB).clamp(1, QUEUE_KB);
        let room = Arc::clone(&worker.room).acquire_many_owned(room).await.ok();
        let _ = worker.items.send(Queued { item, _room: room }).await;
    }
}

impl Item {
    fn run(&self) -> Uuid {
        self.key().0
    }

    fn key(&self) -> Key {
        match self {
            Self::Save { key, .. } | Self::Read { key, .. } | Self::Change { key, .. } | Self::Requeue { key, .. } => {
                *key
            }
            Self::End { ending, .. } => (ending.run, ending.attempt),
        }
    }

    /// Roughly the bytes that it holds.
    fn bytes(&self) -> usize {
        match self {
            Self::Save { op, .. } => op.bytes(),
            Self::End { ending, .. } => ending.bytes(),
            Self::Read { read, .. } => read.filter.as_ref().map_or(0, |filter| filter.len()),
            Self::Change { .. } | Self::Requeue { .. } => 0,
        }
    }

    /// Whether nobody waits for it to be committed.
    fn may_linger(&self) -> bool {
        matches!(self, Self::Save { op, .. } if op.id() == 0)
    }
}

struct Worker {
    store: Store,
    questions: Arc<Questions>,
    inbox: mpsc::Receiver<Queued>,
    /// What is next before the inbox.
    next: VecDeque<Queued>,
    /// Items of runs of which a change or a requeue is under way: they wait for it.
    parked: HashMap<Uuid, VecDeque<Queued>>,
    /// Runs whose change or requeue is done.
    done: (mpsc::UnboundedSender<Uuid>, mpsc::UnboundedReceiver<Uuid>),
    rejected: Rejected,
    /// Attempts whose items are being committed.
    in_hand: Vec<Key>,
}

/// Commits until nothing can come any more. A panic is told, and what waits is committed without a pause: whatever
/// panicked is gone.
async fn work(worker: Arc<Mutex<Worker>>, name: String, tasks: Tasks) -> End {
    let mut worker = worker.lock().await;
    loop {
        match AssertUnwindSafe(worker.round()).catch_unwind().await {
            Ok(true) => {}
            Ok(false) => return End::Done,
            Err(payload) => {
                tasks.failed(&name, &panic_text(payload.as_ref()));
                tasks.begins(&name);
                worker.lose_what_is_in_hand();
            }
        }
    }
}

impl Worker {
    fn new(store: Store, questions: Arc<Questions>, inbox: mpsc::Receiver<Queued>) -> Self {
        Self {
            store,
            questions,
            inbox,
            next: VecDeque::new(),
            parked: HashMap::new(),
            done: mpsc::unbounded_channel(),
            rejected: Rejected::new(),
            in_hand: Vec::new(),
        }
    }

    /// What was in hand is gone: a later checkpoint of those runs would leave a hole.
    fn lose_what_is_in_hand(&mut self) {
        tracing::error!(attempts = self.in_hand.len(), "a commit panicked; its runs end, the others go on");
        let lost = std::mem::take(&mut self.in_hand);
        self.rejected.extend(lost.into_iter().map(|key| (key, batch::fault("the run's state was lost"))));
    }

    /// Commits what there is; says whether more may come.
    async fn round(&mut self) -> bool {
        let Some(first) = self.receive().await else { return false };
        let (batch, questions) = self.collect(first).await;
        self.in_hand = batch.iter().map(Item::key).collect();
        if !batch.is_empty() {
            batch::commit(&self.store, batch, &mut self.rejected).await;
        }
        self.in_hand.clear();
        for question in questions {
            if matches!(question, Item::Requeue { .. }) {
                // The next attempt goes on from what is there.
                self.rejected.remove(&question.key());
            }
            self.questions.ask(question, self.done.0.clone());
        }
        true
    }

    /// The next item that may be committed.
    async fn receive(&mut self) -> Option<Queued> {
        loop {
            if let Some(next) = self.next.pop_front() {
                return Some(next);
            }
            tokio::select! {
                biased;
                Some(run) = self.done.1.recv() => self.unpark(run),
                queued = self.inbox.recv(), if !self.inbox.is_closed() || !self.inbox.is_empty() => match queued {
                    Some(queued) => if let Some(queued) = self.park(queued) { return Some(queued) },
                    None if self.parked.is_empty() => return None,
                    None => {}
                },
                else => return None,
            }
        }
    }

    /// The same, where there is one already.
    fn try_receive(&mut self) -> Option<Queued> {
        while let Ok(run) = self.done.1.try_recv() {
            self.unpark(run);
        }
        if let Some(next) = self.next.pop_front() {
            return Some(next);
        }
        loop {
            let queued = self.inbox.try_recv().ok()?;
            if let Some(queued) = self.park(queued) {
                return Some(queued);
            }
        }
    }

    /// Keeps it where its run waits; else gives it back.
    fn park(&mut self, queued: Queued) -> Option<Queued> {
        match self.parked.get_mut(&queued.item.run()) {
            // Its room is for those that do not wait.
            Some(behind) => {
                behind.push_back(Queued { item: queued.item, _room: None });
                None
            }
            None => Some(queued),
        }
    }

    fn unpark(&mut self, run: Uuid) {
        for queued in self.parked.remove(&run).into_iter().flatten().rev() {
            self.next.push_front(queued);
        }
    }

    /// What is committed together, and the questions behind it. As long as nobody waits for any of it, more is
    /// waited for, [`LINGER`] at most.
    async fn collect(&mut self, first: Queued) -> (Vec<Item>, Vec<Item>) {
        let deadline = Instant::now() + LINGER;
        let (mut batch, mut questions, mut may_linger, mut bytes) = (Vec::new(), Vec::new(), true, 0);
        let mut next = Some(first);
        while let Some(queued) = next.take() {
            // What was taken from behind a change may have another one before it.
            let Some(queued) = self.park(queued) else {
                next = self.try_receive();
                continue;
            };
            bytes += queued.item.bytes();
            if bytes > BATCH_BYTES && !batch.is_empty() {
                self.next.push_front(queued);
                break;
            }
            may_linger &= queued.item.may_linger();
            match queued.item {
                item @ (Item::Save { .. } | Item::End { .. }) => batch.push(item),
                item @ Item::Read { .. } => questions.push(item),
                item @ (Item::Change { .. } | Item::Requeue { .. }) => {
                    // What comes after it in its run must not be committed before it.
                    self.parked.insert(item.run(), VecDeque::new());
                    questions.push(item);
                }
            }
            if batch.len() + questions.len() >= BATCH {
                break;
            }
            next = match self.try_receive() {
                Some(queued) => Some(queued),
                None if may_linger => timeout_at(deadline, self.receive()).await.ok().flatten(),
                None => None,
            };
        }
        (batch, questions)
    }
}
