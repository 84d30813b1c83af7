//! The way of a run: key, limits, lock, queue, dispatch, commit, answer.
//!
//! A run is a row in Postgres before it is work. The gateway that accepts it holds the connection to the
//! replica that executes it; what the replica sends is committed in the order it was sent, and the client
//! is answered when the run's end is committed.

pub mod committer;
pub mod dispatch;
mod document;
pub mod execution;
mod follow;
pub mod lease;
mod liveness;
pub mod outcome;
mod places;
pub mod replica;
pub mod route;
mod start;
pub mod state_size;
pub mod suspects;
mod takeover;
pub mod turn;

use crate::base::secret::token_hash;
use crate::base::shutdown::Shutdown;
use crate::store::{Store, StoreError};
use committer::{Committer, Key};
use outcome::Outcome;
use places::Places;
use replica::Replica;
use route::Route;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

/// One gateway. Clones are the same one.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    id: Uuid,
    store: Store,
    committer: Committer,
    routes: RwLock<HashMap<String, Arc<Route>>>,
    keys: RwLock<HashMap<[u8; 32], Uuid>>,
    waiting: Mutex<HashMap<Uuid, Vec<oneshot::Sender<Arc<Outcome>>>>>,
    /// Runs that are waited for here and may end elsewhere: one task looks at their rows.
    followed: Mutex<HashSet<Uuid>>,
    follows: Notify,
    /// Attempts that are executed here.
    executing: Mutex<HashMap<Key, Arc<Replica>>>,
    /// Whether runs get their places here.
    places: Places,
    shutdown: Shutdown,
    /// Tasks of runs: they end when their runs are committed, not when they are asked to.
    runs: Shutdown,
}

/// Whom a key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOwner {
    /// Nobody.
    Unknown,
    /// Another agent.
    Another,
    /// The agent that was asked for.
    This,
}

impl Gateway {
    /// Its id: leases and attempts bear it.
    pub fn id(&self) -> Uuid {
        self.0.id
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// What commits the frames of replicas.
    pub fn committer(&self) -> &Committer {
        &self.0.committer
    }

    /// The way to an agent, where it has one.
    pub fn route(&self, agent: &str) -> Option<Arc<Route>> {
        self.0.routes.read().unwrap_or_else(PoisonError::into_inner).get(agent).cloned()
    }

    /// Closes the way to an agent that is gone.
    pub fn remove_route(&self, agent: &str) {
        if let Some(route) = self.0.routes.write().unwrap_or_else(PoisonError::into_inner).remove(agent) {
            route.close();
        }
    }

    /// Reads the keys anew.
    pub async fn reload_keys(&self) -> Result<(), StoreError> {
        let keys = self.0.store.live_keys().await?.into_iter().collect();
        *self.0.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// Whom a presented key belongs to.
    pub fn key_owner(&self, agent: Uuid, key: &str) -> KeyOwner {
        // The lookup is by the key's hash: what its timing tells is of no use.
        match self.0.keys.read().unwrap_or_else(PoisonError::into_inner).get(&token_hash(key)) {
            None => KeyOwner::Unknown,
            Some(owner) if *owner == agent => KeyOwner::This,
            Some(_) => KeyOwner::Another,
        }
    }

    /// Spawns a task that belongs to a run: a client that goes away does not stop it.
    fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.runs.spawn(task)
    }

    /// Waits for the runs that this gateway executes, `grace` at most: the server is being stopped.
    pub async fn settle(&self, grace: std::time::Duration) {
        self.0.runs.finish(grace).await;
    }

    /// Tells all who wait that this process ends: their runs go on in the next one.
    pub fn dismiss(&self) {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Counts an attempt among those that are executed here, until what is returned is dropped.
    fn executes(&self, key: Key, replica: &Arc<Replica>) -> Executing {
        let replica = Arc::clone(replica);
        self.0.executing.lock().unwrap_or_else(PoisonError::into_inner).insert(key, replica);
        Executing(self.clone(), key)
    }

    fn is_executing(&self, key: Key) -> bool {
        self.0.executing.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&key)
    }

    fn is_executing_some(&self, run: Uuid) -> bool {
        self.0.executing.lock().unwrap_or_else(PoisonError::into_inner).keys().any(|key| key.0 == run)
    }

    /// What is executed here, and where.
    fn executed(&self) -> Vec<(Key, Arc<Replica>)> {
        let executing = self.0.executing.lock().unwrap_or_else(PoisonError::into_inner);
        executing.iter().map(|(key, replica)| (*key, Arc::clone(replica))).collect()
    }

    /// Counts the places that other gateways have taken on the replicas that serve, or on this one alone.
    pub async fn count_places(&self, only: Option<&Replica>) -> Result<(), StoreError> {
        let taken: HashMap<Uuid, usize> = self.store().places_of_others(self.id()).await?.into_iter().collect();
        let count = |replica: &Replica| replica.set_elsewhere(taken.get(&replica.id).copied().unwrap_or_default());
        if let Some(replica) = only {
            count(replica);
            return Ok(());
        }
        for route in self.0.routes.read().unwrap_or_else(PoisonError::into_inner).values() {
            if let Some(serving) = route.serving() {
                serving.replicas.iter().for_each(|replica| count(replica));
            }
        }
        Ok(())
    }

    /// Registers a client that waits for a run's end.
    fn wait_for(&self, run: Uuid) -> oneshot::Receiver<Arc<Outcome>> {
        let (sender, receiver) = oneshot::channel();
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).entry(run).or_default().push(sender);
        receiver
    }

    /// Another gateway has the run, or may have it: its row tells those who wait here how it ends.
    fn follow(&self, run: Uuid) {
        self.0.followed.lock().unwrap_or_else(PoisonError::into_inner).insert(run);
        self.0.follows.notify_one();
    }

    /// Gives a run's outcome to whoever waits for it.
    fn deliver(&self, run: Uuid, outcome: Outcome) {
        let waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
        let outcome = Arc::new(outcome);
        for sender in waiting.into_iter().flatten() {
            let _ = sender.send(Arc::clone(&outcome));
        }
    }

    fn forget(&self, run: Uuid) {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
    }

    /// Forgets those who waited for a run and wait no more.
    fn forget_the_gone(&self, run: Uuid) {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(senders) = waiting.get_mut(&run) {
            senders.retain(|sender| !sender.is_closed());
            if senders.is_empty() {
                waiting.remove(&run);
            }
        }
    }

    /// Whether anybody waits here for the run's end.
    fn is_waited_for(&self, run: Uuid) -> bool {
        self.forget_the_gone(run);
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&run)
    }

    /// How many runs are waited for here.
    pub fn waited_for(&self) -> usize {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// An attempt that is executed here.
struct Executing(Gateway, Key);

impl Drop for Executing {
    fn drop(&mut self) {
        self.0.0.executing.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}
