//! A connected replica: its runs in flight, and what is done with each frame it sends.

mod conversation;

use super::committer::{Committer, Ended, Item};
use super::document::{self, Owner};
pub use super::liveness::Hung;
use super::liveness::Liveness;
use super::outcome::{self, Outcome};
use super::state_size::{StateSize, TooLarge};
use crate::base::redact::Redactor;
use crate::run::cost::Bill;
use crate::run::loss::{Death, Loss};
use crate::runner::connection::{Connection, Endpoint};
use crate::runner::protocol::{Cancel, Checkpoint, Drain, End, EndStatus, FromReplica, Reply, Start, ToReplica, Usage};
use crate::runner::session::{FrameSender, Held, SendError, Session};
use crate::store::checkpoints::{Change, Schema};
use crate::store::runs::{Ending, Requeued};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long a replica that was told from outside to end gets no runs: by then it has ended.
const DRAINS: Duration = Duration::from_secs(20);

/// Numbers the runs that begin, so that replicas take turns.
static BEGUN: AtomicU64 = AtomicU64::new(0);

/// One connected replica.
pub struct Replica {
    /// Its id.
    pub id: Uuid,
    capacity: usize,
    in_flight: AtomicUsize,
    last_begun: AtomicU64,
    alive: AtomicBool,
    responsive: AtomicBool,
    retired: AtomicBool,
    /// Since when it has ended runs as drained that nobody asked it to drain: it was told from outside to end.
    drains_since: Mutex<Option<Instant>>,
    /// Runs in flight that other gateways gave it.
    elsewhere: AtomicUsize,
    /// Whether it is kept for one run.
    apart: AtomicBool,
    liveness: Liveness,
    /// Whether it ended by itself, and was not killed.
    ended_by_itself: AtomicBool,
    /// Whether runs were lost with it.
    lost_runs: AtomicBool,
    sender: FrameSender,
    session: Arc<Session>,
    runs: Mutex<HashMap<Uuid, Active>>,
    committer: Committer,
    schema: Arc<Schema>,
    redactor: Redactor,
    idle: watch::Sender<usize>,
}

/// A connection that is to become a [`Replica`].
pub struct Attachment {
    /// The replica's id.
    pub id: Uuid,
    /// Runs at the same time.
    pub capacity: u32,
    /// Where its runs' checkpoints lie.
    pub schema: Arc<Schema>,
    /// Commits what it sends.
    pub committer: Committer,
    /// Blots the agent's secrets out of what its runs fail with.
    pub redactor: Redactor,
    /// Where its supervisor answers.
    pub endpoint: Endpoint,
    /// The connection.
    pub connection: Connection,
    /// Gets its description, once its graphs are loaded.
    pub ready: oneshot::Sender<Vec<u8>>,
    /// Cancelled when the replica has ended.
    pub dead: CancellationToken,
}

/// What a run may read and write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// Its own thread.
    Thread(String),
    /// Any thread: the conformance suite of checkpointers, nothing else.
    AnyThread,
}

struct Active {
    attempt: i32,
    /// Which of all runs it was to begin.
    begun: u64,
    grant: Grant,
    /// The target that it runs.
    graph: String,
    /// Of its thread's state.
    state: StateSize,
    /// What it has told of what it has used.
    used: Bill,
    /// Whether the replica was asked to stop it at its next super-step, so that it goes on elsewhere.
    handed_over: bool,
    finish: oneshot::Sender<Finish>,
}

/// The end of an attempt as it was handed to the committer.
pub enum Finish {
    /// The run has ended: what the client gets, and whether it is committed.
    Ended(Outcome, oneshot::Receiver<Ended>),
    /// The run goes on elsewhere.
    Requeued(oneshot::Receiver<Requeued>),
}

/// A place for one run on a replica; given back when dropped.
pub struct Slot(Arc<Replica>, #[expect(dead_code, reason = "dropped with the place")] Option<Apart>);

/// A replica that takes no other runs, until this is dropped.
pub struct Apart(Arc<Replica>);

impl Drop for Apart {
    fn drop(&mut self) {
        self.0.apart.store(false, Ordering::Release);
    }
}

impl Apart {
    /// The place, once those that were there have ended; nothing when the replica has.
    pub async fn alone(self) -> Option<Slot> {
        self.0.idle().await;
        self.0.in_flight.fetch_add(1, Ordering::AcqRel);
        let slot = Slot(Arc::clone(&self.0), Some(self));
        slot.0.is_alive().then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let left = self.0.in_flight.fetch_sub(1, Ordering::AcqRel) - 1;
        self.0.idle.send_replace(left);
    }
}

impl Slot {
    /// The replica.
    pub fn replica(&self) -> &Arc<Replica> {
        &self.0
    }
}

impl Replica {
    /// Takes a connection over. The future runs it until it is over for good, however it ends; what was in
    /// flight then goes on elsewhere: at once when `dead` says that the replica has ended, else when its runner
    /// has given it up.
    pub fn attach(attachment: Attachment) -> (Arc<Self>, impl Future<Output = ()> + Send + 'static) {
        let Attachment { id, capacity, schema, committer, redactor, endpoint, connection, ready, dead } = attachment;
        let session = Arc::clone(connection.session());
        let replica = Arc::new(Self {
            id,
            capacity: capacity as usize,
            in_flight: AtomicUsize::new(0),
            last_begun: AtomicU64::new(0),
            alive: AtomicBool::new(true),
            responsive: AtomicBool::new(true),
            retired: AtomicBool::new(false),
            drains_since: Mutex::default(),
            elsewhere: AtomicUsize::new(0),
            apart: AtomicBool::new(false),
            liveness: Liveness::new(),
            ended_by_itself: AtomicBool::new(false),
            lost_runs: AtomicBool::new(false),
            sender: FrameSender::new(Arc::clone(&session)),
            session,
            runs: Mutex::default(),
            committer,
            schema,
            redactor,
            idle: watch::Sender::new(0),
        });
        (Arc::clone(&replica), replica.serve(endpoint, connection, ready, dead))
    }

    /// Whether runs can be given to it.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire) && !self.retired.load(Ordering::Acquire) && !self.drains()
    }

    /// Whether it was told from outside to end. One that has not ended after all is given runs again.
    fn drains(&self) -> bool {
        let since = *self.drains_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() < DRAINS)
    }

    /// Says how many runs other gateways have given it: they take places too.
    pub fn set_elsewhere(&self, count: usize) {
        self.elsewhere.store(count, Ordering::Release);
    }

    /// Whether other gateways run something there.
    pub fn has_elsewhere(&self) -> bool {
        self.elsewhere.load(Ordering::Acquire) > 0
    }

    /// Drops a run whose attempt is not the run's any more, and asks the replica to end it.
    pub fn abandon(&self, run: Uuid, attempt: i32) {
        let is_this = self.active().get(&run).is_some_and(|active| active.attempt == attempt);
        if is_this && self.active().remove(&run).is_some() {
            self.cancel(run, attempt);
        }
    }

    /// Takes no runs from now on, whoever still knows it; those in flight go on.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Whether it has answered lately and its loop moves; one that does not is busy in a way that holds up whatever
    /// it is given.
    pub fn is_responsive(&self) -> bool {
        self.responsive.load(Ordering::Acquire) && !self.liveness.is_stalled()
    }

    /// The run that holds up all others here, told anew twice a second.
    pub fn holder(&self) -> watch::Receiver<Option<Uuid>> {
        self.liveness.holder()
    }

    /// Whether a run given to it would begin at once.
    pub fn has_room(&self) -> bool {
        self.is_alive() && self.is_responsive() && !self.is_apart() && self.has_place(self.in_flight())
    }

    /// Whether there is a place beside so many runs of this gateway.
    fn has_place(&self, in_flight: usize) -> bool {
        in_flight + self.elsewhere.load(Ordering::Acquire) < self.capacity
    }

    /// Runs in flight, reserved places included.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// How many bytes of what it sent wait here to be committed or answered.
    pub fn held_bytes(&self) -> u64 {
        self.session.held_bytes()
    }

    /// Which of all runs was the last to begin here: the smaller, the longer ago.
    pub fn last_begun(&self) -> u64 {
        self.last_begun.load(Ordering::Relaxed)
    }

    /// Returns when nothing is in flight.
    pub async fn idle(&self) {
        let mut watch = self.idle.subscribe();
        let _ = watch.wait_for(|_| self.in_flight() == 0).await;
    }

    /// A place for a run, when there is one.
    pub fn reserve(self: &Arc<Self>) -> Option<Slot> {
        let taken = self
            .in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| self.has_place(count).then_some(count + 1));
        let slot = taken.is_ok().then(|| Slot(Arc::clone(self), None))?;
        // Looked at once the place is taken: whoever retires it waits for that place.
        (!self.retired.load(Ordering::Acquire) && !self.is_apart()).then_some(slot)
    }

    /// Keeps new runs off it, for one that is to be alone here; nothing when another is.
    pub fn set_apart(self: &Arc<Self>) -> Option<Apart> {
        let set = self.apart.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire);
        set.is_ok().then(|| Apart(Arc::clone(self)))
    }

    /// Whether it is kept for one run.
    pub fn is_apart(&self) -> bool {
        self.apart.load(Ordering::Acquire)
    }

    /// Whether it has runs, or has lost them with its end.
    pub fn had_runs(&self) -> bool {
        self.lost_runs.load(Ordering::Acquire) || !self.active().is_empty()
    }

    /// Says that it ended by itself: an exit, a segmentation fault, its memory. Known before its runs are lost.
    pub fn ended_by_itself(&self) {
        self.ended_by_itself.store(true, Ordering::Release);
    }

    /// Gives a run to the replica. The receiver gets its end, once; nothing when the replica is gone.
    pub async fn start(&self, run: Uuid, grant: Grant, start: Start) -> Option<oneshot::Receiver<Finish>> {
        let begun = BEGUN.fetch_add(1, Ordering::Relaxed) + 1;
        self.last_begun.store(begun, Ordering::Relaxed);
        let (finish, receiver) = oneshot::channel();
        let attempt = i32::try_from(start.attempt).unwrap_or(i32::MAX);
        let stored = start.state.as_ref().and_then(|state| state.tuple.as_ref());
        let state = StateSize::new(stored, start.state_bytes);
        let (graph, used) = (start.graph.clone(), Bill::default());
        let active = Active { attempt, begun, grant, graph, state, used, handed_over: false, finish };
        self.active().insert(run, active);
        // A retired one still takes what was reserved on it before.
        let sent = if self.alive.load(Ordering::Acquire) {
            self.sender.send_when_there_is_room(ToReplica::Start(Box::new(start))).await
        } else {
            Err(SendError::Gone)
        };
        match sent {
            Ok(()) => Some(receiver),
            Err(SendError::Gone) => {
                // Whoever has taken the run meanwhile tells the receiver.
                let is_ours = self.active().remove(&run).is_some();
                (!is_ours).then_some(receiver)
            }
            Err(SendError::TooLarge { bytes, limit }) => {
                let active = self.active().remove(&run);
                if let Some(active) = active {
                    tracing::warn!(run_id = %run, bytes, limit, "a thread's state is too large for its replica");
                    let message = format!(
                        "the run's input and the thread's state have {bytes} bytes, and at most {limit} reach a replica"
                    );
                    self.finish(run, active, Outcome::fault(StateSize::FAULT, message)).await;
                }
                Some(receiver)
            }
        }
    }

    /// Takes a run away from the replica with an outcome of ours: what it still sends for it is dropped.
    /// Says whether the run was still its.
    pub async fn take_away(&self, run: Uuid, outcome: Outcome) -> bool {
        let Some(active) = self.active().remove(&run) else { return false };
        let attempt = active.attempt;
        if matches!(outcome, Outcome::TimedOut) {
            self.liveness.is_overdue(run);
        }
        self.finish(run, active, outcome).await;
        self.cancel(run, attempt);
        true
    }

    /// Takes a run away that another one holds up: it goes on elsewhere from its last checkpoint.
    pub async fn move_away(&self, run: Uuid) {
        let Some(active) = self.active().remove(&run) else { return };
        tracing::info!(replica = %self.id, run_id = %run, "a run that another one holds up goes on elsewhere");
        self.cancel(run, active.attempt);
        self.requeue(run, active, Loss::NONE).await;
    }

    /// Asks for all runs in flight to stop at their next super-step: they go on elsewhere.
    pub fn hand_over(&self, reason: &str) {
        let runs: Vec<(Uuid, i32)> = self
            .active()
            .iter_mut()
            .map(|(run, active)| {
                active.handed_over = true;
                (*run, active.attempt)
            })
            .collect();
        for (run, _) in runs {
            let drain = Drain { run: Some(run.to_string()), reason: reason.to_owned() };
            let _ = self.sender.send(ToReplica::Drain(drain));
        }
    }

    /// Takes all runs in flight away now: they go on elsewhere from their last checkpoint.
    pub async fn hand_over_now(&self) {
        let taken: Vec<(Uuid, Active)> = self.active().drain().collect();
        for (run, active) in taken {
            self.cancel(run, active.attempt);
            self.requeue(run, active, Loss::NONE).await;
        }
    }

    async fn finish(&self, run: Uuid, active: Active, outcome: Outcome) {
        let ending = outcome::ending(run, active.attempt, &outcome, Some(active.used));
        self.end(active, ending, None, outcome).await;
    }

    async fn end(&self, active: Active, ending: Ending, held: Option<Held>, outcome: Outcome) {
        let (done, committed) = oneshot::channel();
        let schema = Arc::clone(&self.schema);
        self.committer.submit(Item::End { schema, ending: Box::new(ending), held, done }).await;
        let _ = active.finish.send(Finish::Ended(outcome, committed));
    }

    async fn requeue(&self, run: Uuid, active: Active, loss: Loss) {
        let (done, requeued) = oneshot::channel();
        let (key, used) = ((run, active.attempt), Some(active.used));
        self.committer.submit(Item::Requeue { key, loss, used, done }).await;
        let _ = active.finish.send(Finish::Requeued(requeued));
    }

    fn cancel(&self, run: Uuid, attempt: i32) {
        let attempt = u32::try_from(attempt).unwrap_or_default();
        let cancel = Cancel { run: run.to_string(), attempt, action: "interrupt".into(), reason: "taken away".into() };
        let _ = self.sender.send(ToReplica::Cancel(cancel));
    }

    /// Why it is to be replaced though it runs, if it is.
    pub fn hung(&self) -> Option<Hung> {
        self.liveness.hung(std::time::Instant::now())
    }

    /// Gives up a replica that is hung: its runs go on elsewhere, and only the one that holds it pays for it.
    pub async fn give_up(&self, culprit: Option<Uuid>) {
        self.alive.store(false, Ordering::Release);
        self.ended_by_itself();
        let Some(culprit) = culprit else { return self.lose_all().await };
        self.lost_runs.store(true, Ordering::Release);
        let lost: Vec<(Uuid, Active)> = self.active().drain().collect();
        let death = Death { runs: 1, apart: self.is_apart(), by_itself: true };
        for (run, active) in lost {
            let held_against = if run == culprit { death.against(0) } else { Loss::NONE };
            self.requeue(run, active, held_against).await;
        }
    }

    async fn lose_all(&self) {
        let mut lost: Vec<(Uuid, Active)> = self.active().drain().collect();
        if !lost.is_empty() {
            self.lost_runs.store(true, Ordering::Release);
        }
        lost.sort_by_key(|(_, active)| active.begun);
        let by_itself = self.ended_by_itself.load(Ordering::Acquire);
        let death = Death { runs: lost.len(), apart: self.is_apart(), by_itself };
        for (nth, (run, active)) in lost.into_iter().enumerate() {
            self.requeue(run, active, death.against(nth)).await;
        }
    }

    fn active(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Active>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The attempt that a frame belongs to, when the run is this replica's and the thread is the run's.
    fn granted(&self, run: &str, attempt: u32, thread: Option<&str>) -> Option<(Uuid, i32)> {
        let run = Uuid::try_parse(run).ok()?;
        let runs = self.active();
        let active = runs.get(&run)?;
        let attempt = i32::try_from(attempt).ok()?;
        let allowed = match (&active.grant, thread) {
            (Grant::AnyThread, _) => true,
            (Grant::Thread(own), Some(asked)) => own == asked,
            (Grant::Thread(_), None) => false,
        };
        (allowed && active.attempt == attempt).then_some((run, attempt))
    }

    /// The attempt that a change belongs to, and the thread it is bound to.
    fn granted_change(
        &self,
        run: &str,
        attempt: u32,
        change: Option<&Change>,
    ) -> Option<((Uuid, i32), Option<String>)> {
        let run = Uuid::try_parse(run).ok()?;
        let grant = self.active().get(&run)?.grant.clone();
        match grant {
            Grant::AnyThread => Some((self.granted(&run.to_string(), attempt, None)?, None)),
            Grant::Thread(own) if change?.is_within(&own) => {
                Some((self.granted(&run.to_string(), attempt, Some(&own))?, Some(own)))
            }
            Grant::Thread(_) => None,
        }
    }

    async fn take(&self, frame: FromReplica, held: Held) {
        let schema = Arc::clone(&self.schema);
        let sender = self.sender.clone();
        match frame {
            FromReplica::Ready(_) | FromReplica::Event(_) => {}
            FromReplica::Pong(body) => self.liveness.told(body.stalled),
            FromReplica::Checkpoint(body) => match self.granted(&body.run, body.attempt, Some(&body.thread_id)) {
                Some(key) => match self.grow(key.0, &body) {
                    Ok(()) => {
                        let used = self.uses(key.0, &body.usage);
                        self.committer.submit(Item::Save { schema, key, op: (*body).into(), used, sender, held }).await;
                    }
                    Err(too_large) => {
                        let outcome = Outcome::fault(StateSize::FAULT, too_large.to_string());
                        self.take_away(key.0, outcome).await;
                    }
                },
                None => self.refuse(body.id),
            },
            FromReplica::Writes(body) => match self.granted(&body.run, body.attempt, Some(&body.thread_id)) {
                Some(key) => {
                    let used = self.uses(key.0, &body.usage);
                    self.committer.submit(Item::Save { schema, key, op: body.into(), used, sender, held }).await;
                }
                None => self.refuse(body.id),
            },
            FromReplica::Read(body) => match self.granted(&body.run, body.attempt, body.thread_id.as_deref()) {
                Some(key) => {
                    self.committer.submit(Item::Read { schema, key, read: Box::new(body), sender, held }).await;
                }
                None => self.refuse(body.id),
            },
            FromReplica::Manage(body) => {
                let change = Change::parse(&body);
                match self.granted_change(&body.run, body.attempt, change.as_ref()).zip(change) {
                    Some(((key, only), change)) => {
                        let item = Item::Change { schema, key, id: body.id, change, only, sender, held };
                        self.committer.submit(item).await;
                    }
                    None => self.refuse(body.id),
                }
            }
            FromReplica::End(end) => {
                let Some(run) = Uuid::try_parse(&end.run).ok() else { return };
                self.liveness.ended(run);
                let Some(mut active) = self.take_active(run, end.attempt) else { return };
                let stopped = match end.status {
                    EndStatus::Drained => true,
                    EndStatus::Cancelled => active.handed_over,
                    _ => false,
                };
                if end.status == EndStatus::Drained && !active.handed_over {
                    *self.drains_since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                }
                if stopped {
                    active.used = outcome::bill_of(&end);
                    self.requeue(run, active, Loss::NONE).await;
                } else {
                    let (ending, outcome) = self.judge(run, &active, *end).await;
                    self.end(active, ending, Some(held), outcome).await;
                }
            }
        }
    }

    /// What an `end` means, with the document that comes with it: one that cannot be kept ends the run.
    async fn judge(&self, run: Uuid, active: &Active, mut end: End) -> (Ending, Outcome) {
        let (document, used) = (end.document.take(), outcome::bill_of(&end));
        let (mut ending, outcome) = outcome::judge(run, active.attempt, self.id, end, &self.redactor);
        let (Some(document), Outcome::Answer(_), Grant::Thread(thread)) = (document, &outcome, &active.grant) else {
            return (ending, outcome);
        };
        let owner = Owner { run, thread_id: thread.clone(), target: active.graph.clone() };
        match document::kept(document, owner, &active.state).await {
            Ok(document) => {
                ending.document = Some(Box::new(document));
                (ending, outcome)
            }
            Err(fault) => (outcome::ending(run, active.attempt, &fault, Some(used)), fault),
        }
    }

    /// Counts a checkpoint to its thread's state.
    fn grow(&self, run: Uuid, checkpoint: &Checkpoint) -> Result<(), TooLarge> {
        self.active().get_mut(&run).map_or(Ok(()), |active| active.state.take(checkpoint))
    }

    /// Counts what a run has used since it told it before. Says all of it where that is news.
    fn uses(&self, run: Uuid, calls: &[Usage]) -> Option<Bill> {
        let bill = (!calls.is_empty()).then(|| outcome::bill(calls))?;
        let mut runs = self.active();
        let active = runs.get_mut(&run)?;
        active.used = active.used.plus(bill);
        Some(active.used)
    }

    fn take_active(&self, run: Uuid, attempt: u32) -> Option<Active> {
        let mut runs = self.active();
        let same = runs.get(&run).is_some_and(|active| u32::try_from(active.attempt) == Ok(attempt));
        if same { runs.remove(&run) } else { None }
    }

    fn refuse(&self, id: u64) {
        self.fail(id, "this run may not touch that thread, or is not this replica's any more");
    }

    /// Answers a frame that wanted a reply with an error.
    fn fail(&self, id: u64, why: &str) {
        if id != 0 {
            let reply = Reply { id, error: Some(why.to_owned()), ..Reply::default() };
            let _ = self.sender.send(ToReplica::Reply(reply));
        }
    }
}
