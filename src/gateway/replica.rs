//! A connected replica: its runs in flight, and what is done with each frame it sends.

use super::committer::{Committer, Ended, Item};
use super::outcome::{self, Outcome};
use crate::runner::connection::{Connection, FrameSender, frames};
use crate::runner::protocol::{Cancel, FromReplica, Ping, Reply, Start, ToReplica};
use crate::store::checkpoints::{Change, Schema};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

/// How often a replica is asked whether it lives.
const PING_EVERY: Duration = Duration::from_secs(1);
/// How long it may be silent, though pinged, before it counts as lost (DESIGN.md 3).
const SILENCE: Duration = Duration::from_secs(10);

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
    sender: FrameSender,
    runs: Mutex<HashMap<Uuid, Active>>,
    committer: Committer,
    schema: Arc<Schema>,
    idle: watch::Sender<usize>,
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
    grant: Grant,
    finish: oneshot::Sender<Finish>,
}

/// A run's end as it was handed to the committer.
pub struct Finish {
    /// What the client gets when it is committed.
    pub outcome: Outcome,
    /// Whether it was.
    pub committed: oneshot::Receiver<Ended>,
}

/// A place for one run on a replica; given back when dropped.
pub struct Slot(Arc<Replica>);

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
    /// Takes a connection over. The future runs it until it breaks; what was in flight then ends as lost.
    /// `ready` gets the replica's description, once its graphs are loaded.
    pub fn attach(
        id: Uuid,
        capacity: u32,
        schema: Arc<Schema>,
        committer: Committer,
        connection: Connection,
        ready: oneshot::Sender<Vec<u8>>,
    ) -> (Arc<Self>, impl Future<Output = ()> + Send + 'static) {
        let (sender, outgoing) = frames();
        let replica = Arc::new(Self {
            id,
            capacity: capacity as usize,
            in_flight: AtomicUsize::new(0),
            last_begun: AtomicU64::new(0),
            alive: AtomicBool::new(true),
            sender,
            runs: Mutex::default(),
            committer,
            schema,
            idle: watch::Sender::new(0),
        });
        (Arc::clone(&replica), replica.run(connection, outgoing, ready))
    }

    async fn run(
        self: Arc<Self>,
        connection: Connection,
        outgoing: mpsc::Receiver<ToReplica>,
        ready: oneshot::Sender<Vec<u8>>,
    ) {
        let mut ready = Some(ready);
        let (mut reader, write) = connection.split(outgoing);
        let pings = async {
            let mut n = 0;
            loop {
                tokio::time::sleep(PING_EVERY).await;
                n += 1;
                if self.sender.send(ToReplica::Ping(Ping { n })).await.is_err() {
                    return;
                }
            }
        };
        let frames = async {
            loop {
                let frame = match tokio::time::timeout(SILENCE, reader.next()).await {
                    Ok(Some(frame)) => frame,
                    Ok(None) => return,
                    Err(_) => {
                        tracing::warn!(replica = %self.id, "the replica is silent: it counts as lost");
                        return;
                    }
                };
                match frame {
                    FromReplica::Ready(body) => {
                        if let Some(ready) = ready.take() {
                            let _ = ready.send(body.describe.into_vec());
                        }
                    }
                    frame => self.take(frame).await,
                }
            }
        };
        tokio::select! {
            () = write => {}
            () = pings => {}
            () = frames => {}
        }
        self.alive.store(false, Ordering::Release);
        self.lose_all().await;
    }

    /// Whether runs can be given to it.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// Runs in flight, reserved places included.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
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
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| (count < self.capacity).then_some(count + 1));
        taken.is_ok().then(|| Slot(Arc::clone(self)))
    }

    /// Gives a run to the replica. The receiver gets its end, once; nothing when the replica is gone.
    pub async fn start(&self, run: Uuid, grant: Grant, start: Start) -> Option<oneshot::Receiver<Finish>> {
        self.last_begun.store(BEGUN.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        let (finish, receiver) = oneshot::channel();
        let attempt = i32::try_from(start.attempt).unwrap_or(i32::MAX);
        self.active().insert(run, Active { attempt, grant, finish });
        if !self.is_alive() || self.sender.send(ToReplica::Start(Box::new(start))).await.is_err() {
            self.active().remove(&run);
            return None;
        }
        Some(receiver)
    }

    /// Takes a run away from the replica with an outcome of ours: what it still sends for it is dropped.
    /// Says whether the run was still its.
    pub async fn take_away(&self, run: Uuid, outcome: Outcome) -> bool {
        let Some(active) = self.active().remove(&run) else { return false };
        let attempt = u32::try_from(active.attempt).unwrap_or_default();
        self.finish(run, active, outcome).await;
        let cancel = Cancel { run: run.to_string(), attempt, action: "interrupt".into(), reason: "taken away".into() };
        let _ = self.sender.send(ToReplica::Cancel(cancel)).await;
        true
    }

    async fn finish(&self, run: Uuid, active: Active, outcome: Outcome) {
        let ending = outcome::ending(run, active.attempt, &outcome);
        let (done, committed) = oneshot::channel();
        self.committer.submit(Item::End { schema: Arc::clone(&self.schema), ending: Box::new(ending), done }).await;
        let _ = active.finish.send(Finish { outcome, committed });
    }

    async fn lose_all(&self) {
        let lost: Vec<(Uuid, Active)> = self.active().drain().collect();
        for (run, active) in lost {
            let outcome = Outcome::fault("ReplicaLost", "the replica that executed the run is gone");
            self.finish(run, active, outcome).await;
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

    async fn take(&self, frame: FromReplica) {
        let schema = Arc::clone(&self.schema);
        let sender = self.sender.clone();
        match frame {
            FromReplica::Ready(_) | FromReplica::Pong(_) | FromReplica::Event(_) => {}
            FromReplica::Checkpoint(body) => match self.granted(&body.run, body.attempt, Some(&body.thread_id)) {
                Some(key) => self.committer.submit(Item::Save { schema, key, op: (*body).into(), sender }).await,
                None => self.refuse(body.id).await,
            },
            FromReplica::Writes(body) => match self.granted(&body.run, body.attempt, Some(&body.thread_id)) {
                Some(key) => self.committer.submit(Item::Save { schema, key, op: body.into(), sender }).await,
                None => self.refuse(body.id).await,
            },
            FromReplica::Read(body) => match self.granted(&body.run, body.attempt, body.thread_id.as_deref()) {
                Some(key) => self.committer.submit(Item::Read { schema, key, read: Box::new(body), sender }).await,
                None => self.refuse(body.id).await,
            },
            FromReplica::Manage(body) => {
                let change = Change::parse(&body);
                match self.granted_change(&body.run, body.attempt, change.as_ref()).zip(change) {
                    Some(((key, only), change)) => {
                        let item = Item::Change { schema, key, id: body.id, change, only, sender };
                        self.committer.submit(item).await;
                    }
                    None => self.refuse(body.id).await,
                }
            }
            FromReplica::End(end) => {
                let Some(run) = Uuid::try_parse(&end.run).ok() else { return };
                let Some(active) = self.take_active(run, end.attempt) else { return };
                let (ending, outcome) = outcome::judge(run, active.attempt, self.id, *end);
                let (done, committed) = oneshot::channel();
                self.committer.submit(Item::End { schema, ending: Box::new(ending), done }).await;
                let _ = active.finish.send(Finish { outcome, committed });
            }
        }
    }

    fn take_active(&self, run: Uuid, attempt: u32) -> Option<Active> {
        let mut runs = self.active();
        let same = runs.get(&run).is_some_and(|active| u32::try_from(active.attempt) == Ok(attempt));
        if same { runs.remove(&run) } else { None }
    }

    async fn refuse(&self, id: u64) {
        if id != 0 {
            let error = Some("this run may not touch that thread, or is not this replica's any more".to_owned());
            let _ = self.sender.send(ToReplica::Reply(Reply { id, tuples: vec![], error })).await;
        }
    }
}
