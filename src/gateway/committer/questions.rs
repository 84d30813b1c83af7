//! What replicas ask, answered on tasks of their own: never more at once than leaves connections for others, and
//! of one agent never so many that others wait for it.

use super::item::{Item, Key, TAKEN_OVER, patiently, reply};
use crate::base::shutdown::Shutdown;
use crate::base::telemetry::chain;
use crate::run::cost::Bill;
use crate::run::loss::Loss;
use crate::runner::protocol::Reply;
use crate::store::checkpoints::{self, Change, Page, Schema};
use crate::store::runs::{self, Requeued};
use crate::store::{Store, StoreError};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, mpsc};
use uuid::Uuid;

/// Questions that are answered at once: each holds a connection, and an answer's bytes.
const AT_ONCE: usize = 4;
/// Of these, one agent's.
const OF_AN_AGENT: usize = 2;
/// One agent's that wait; more are refused.
const WAITING: usize = 1024;

pub struct Questions {
    store: Store,
    shutdown: Shutdown,
    places: Arc<Semaphore>,
    agents: Mutex<HashMap<String, Arc<Lane>>>,
}

/// One agent's way to an answer.
struct Lane {
    places: Semaphore,
    waiting: Semaphore,
}

impl Questions {
    pub fn new(store: Store, shutdown: Shutdown) -> Self {
        Self { store, shutdown, places: Arc::new(Semaphore::new(AT_ONCE)), agents: Mutex::default() }
    }

    /// Answers a question, in its turn. `done` hears of it where the run's next items wait for that.
    pub fn ask(self: &Arc<Self>, question: Item, done: mpsc::UnboundedSender<Uuid>) {
        let questions = Arc::clone(self);
        self.shutdown.spawn_until_cancelled(async move {
            let told = (!matches!(question, Item::Read { .. })).then(|| Told(question.run(), done));
            questions.answer(question).await;
            drop(told);
        });
    }

    fn lane(&self, schema: &Schema) -> Arc<Lane> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = || Arc::new(Lane { places: Semaphore::new(OF_AN_AGENT), waiting: Semaphore::new(WAITING) });
        Arc::clone(agents.entry(schema.name().to_owned()).or_insert_with(lane))
    }

    async fn answer(&self, question: Item) {
        match question {
            Item::Read { schema, read, sender, held: _held, .. } => {
                let result = self.in_turn(&schema, || self.store.read_checkpoints(&schema, &read));
                let answer = match result.await {
                    Ok(Page { tuples, more }) => Reply { id: read.id, tuples, more, error: None },
                    Err(refusal) => Reply { id: read.id, error: Some(refusal), ..Reply::default() },
                };
                reply(&sender, answer);
            }
            Item::Change { schema, key, id, change, only, sender, held: _held } => {
                let result = self.in_turn(&schema, || carry_out(&self.store, &schema, key, &change, only.as_deref()));
                let error = match result.await {
                    Ok(live) => (!live).then(|| TAKEN_OVER.to_owned()),
                    Err(refusal) => Some(refusal),
                };
                reply(&sender, Reply { id, error, ..Reply::default() });
            }
            // Of few words, and others wait for it.
            Item::Requeue { key: (run, attempt), loss, used, done } => {
                let _ = done.send(requeue(&self.store, run, attempt, loss, used).await);
            }
            Item::Save { .. } | Item::End { .. } => {}
        }
    }

    /// Asks the database when the agent's turn has come; or says what the replica is told.
    async fn in_turn<T, F>(&self, schema: &Schema, ask: impl FnMut() -> F) -> Result<T, String>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let lane = self.lane(schema);
        let Ok(_waiting) = lane.waiting.try_acquire() else {
            return Err(format!("{WAITING} questions of the agent wait already"));
        };
        let _own = lane.places.acquire().await;
        let _place = self.places.acquire().await;
        patiently(ask).await.map_err(|error| match error {
            StoreError::Checkpoints(error @ checkpoints::CheckpointError::TooMuch(_)) => error.to_string(),
            error => {
                tracing::error!(error = %chain(&error), "a replica's question could not be answered");
                "the database could not answer".to_owned()
            }
        })
    }
}

/// Says that a question was answered, also where its task panicked.
struct Told(Uuid, mpsc::UnboundedSender<Uuid>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.1.send(self.0);
    }
}

/// Tried again while the database is away: a run that is not put back waits for nobody.
async fn requeue(store: &Store, run: Uuid, attempt: i32, loss: Loss, used: Option<Bill>) -> Requeued {
    let requeued = patiently(|| store.requeue_run(run, attempt, loss, used)).await;
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
    let mut transaction = store.begin_slow().await?;
    let live = !runs::live_attempts(&mut transaction, &[key]).await?.is_empty();
    if live {
        checkpoints::change(&mut transaction, schema, change, only).await?;
        transaction.commit().await?;
    }
    Ok(live)
}
