//! A turn of `/v1/chat`: checked, accepted, executed or queued, answered.

use super::Gateway;
use super::committer::{Item, patiently};
use super::execution::Execution;
use super::outcome::{self, Answer, Outcome};
use super::route::{ChatGraphError, Route, Serving};
use crate::api::chat::ChatRequest;
use crate::base::ids;
use crate::run::chat::is_storable;
use crate::run::loss::Loss;
use crate::store::StoreError;
use crate::store::runs::{Acceptance, ChatMore, NewRun, Place, Resume, RunRequest, RunRow};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

/// How long a request waits for a replica to become ready before it is turned away.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a run waits in this gateway before its row is looked at: another gateway may claim it and end it.
const FOLLOWED_AFTER: Duration = Duration::from_secs(1);
/// How long a request waits to hear whether its run was accepted, when the database goes away in that moment.
const DOUBT: Duration = Duration::from_secs(90);
/// The longest `thread_id` and `user_id` that are taken, in bytes.
const NAME_BYTES: usize = 256;
/// How deep a caller's JSON may be nested.
const NESTED: usize = 100;

/// Why a turn was not made or gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// A field is missing or not acceptable.
    #[error("{0}")]
    Field(String),
    /// The graph cannot be talked to.
    #[error(transparent)]
    Graph(#[from] ChatGraphError),
    /// No replica is ready.
    #[error("no replica of the agent is ready")]
    NotReady,
    /// The database could not take the run.
    #[error("accepting the run")]
    Store(#[from] StoreError),
    /// The database went away while it was asked to take the run, and is not back to say whether it did.
    #[error("the database is away, and whether it took the run is not known")]
    InDoubt {
        /// The run, if there is one.
        run_id: Uuid,
    },
    /// The run was accepted and failed.
    #[error("the run failed")]
    Failed {
        /// The thread as the client named it.
        thread_id: String,
        /// The run.
        run_id: Uuid,
        /// How.
        outcome: Arc<Outcome>,
    },
    /// This server ends before the run has; the run goes on in the next one.
    #[error("the server stops before the run has ended; the run goes on when it is back")]
    ServerStopped {
        /// The run.
        run_id: Uuid,
    },
    /// The idempotency key was used for another request.
    #[error("the Idempotency-Key was used for another request")]
    KeyReused,
}

/// An answered turn.
#[derive(Debug)]
pub struct Turn {
    /// The thread as the client named it.
    pub thread_id: String,
    /// The run.
    pub run_id: Uuid,
    /// What the graph answered.
    pub answer: Answer,
}

impl Gateway {
    /// Makes a turn. Dropping the future does not stop a run that was accepted. With an idempotency key
    /// the same request again gets the same run's answer.
    pub async fn turn(
        &self,
        route: Arc<Route>,
        request: ChatRequest,
        idempotency_key: Option<String>,
    ) -> Result<Turn, TurnError> {
        let gateway = self.clone();
        let run_id = ids::new_id();
        let (doubt, in_doubt) = watch::channel(false);
        let task = self.spawn(async move { gateway.take_turn(run_id, &route, request, idempotency_key, &doubt).await });
        tokio::select! {
            turn = task => turn.unwrap_or(Err(TurnError::NotReady)),
            () = doubted_for_long(in_doubt) => Err(TurnError::InDoubt { run_id }),
        }
    }

    async fn take_turn(
        &self,
        run: Uuid,
        route: &Arc<Route>,
        request: ChatRequest,
        idempotency_key: Option<String>,
        doubt: &watch::Sender<bool>,
    ) -> Result<Turn, TurnError> {
        let wanted = chat_request(&request)?;
        let graph = request.graph;
        let user = required(request.user_id, "user_id", NAME_BYTES)?;
        let given = match request.thread_id {
            Some(given) => required(Some(given), "thread_id", NAME_BYTES)?,
            None => ids::new_id().to_string(),
        };
        let key = match idempotency_key {
            Some(key) => Some(required(Some(key), "Idempotency-Key", NAME_BYTES)?),
            None => None,
        };
        let serving = route.ready(PATIENCE).await.ok_or(TurnError::NotReady)?;
        let graph = serving.chat_graph(&route.name, graph.as_deref())?.id.clone();
        let metadata = json!({ "user_id": user });
        let new = NewRun {
            id: run,
            agent: route.agent,
            release: serving.release,
            thread: ids::thread_id(&given),
            given: &given,
            graph: &graph,
            request: &wanted,
            metadata: &metadata,
            idempotency_key: key.as_deref(),
            queue_limit: serving.limits.queue,
        };
        let (run, given, outcome) = match self.accept(route, &serving, &new, doubt).await? {
            Accept::New { mut waiting, queued } => {
                let told = if queued.is_some() {
                    let alone = if self.0.places.are_given() { FOLLOWED_AFTER } else { Duration::ZERO };
                    match tokio::time::timeout(alone, &mut waiting).await {
                        Ok(told) => told,
                        Err(_) => {
                            self.follow(run);
                            waiting.await
                        }
                    }
                } else {
                    waiting.await
                };
                (run, given, told.map_err(|_| TurnError::ServerStopped { run_id: run })?)
            }
            Accept::Known(known) => self.repeated(known, &new).await?,
        };
        match outcome.as_ref() {
            Outcome::Answer(answer) => Ok(Turn { thread_id: given, run_id: run, answer: answer.as_ref().clone() }),
            failed => {
                tracing::warn!(agent = route.name, thread_id = given, run_id = %run, outcome = ?failed, "a run failed");
                Err(TurnError::Failed { thread_id: given, run_id: run, outcome })
            }
        }
    }

    /// Accepts a run; begins it here and now where that can be.
    async fn accept(
        &self,
        route: &Arc<Route>,
        serving: &Arc<Serving>,
        new: &NewRun<'_>,
        doubt: &watch::Sender<bool>,
    ) -> Result<Accept, TurnError> {
        let giving = self.0.places.give().await;
        let slot = giving.as_ref().and_then(|_| serving.reserve());
        let place = slot.as_ref().map(|slot| Place { gateway: self.id(), replica: slot.replica().id });
        // Registered before the row is there: whoever claims it finds us.
        let waiting = self.wait_for(new.id);
        let accepted = self.accept_surely(new, place, doubt).await;
        drop(giving);
        let accepted = match accepted {
            Ok(Acceptance::Accepted(accepted)) => accepted,
            Ok(Acceptance::Repeated(own)) if own == new.id => {
                // It was accepted just when the database went away. Its attempt has not begun: the queue has it.
                let (done, requeued) = oneshot::channel();
                self.committer().submit(Item::Requeue { key: (own, 1), loss: Loss::NONE, used: None, done }).await;
                let _ = requeued.await;
                self.follow(own);
                let queued = Some(Queued::new(Arc::clone(route)));
                route.kick.notify_one();
                return Ok(Accept::New { waiting, queued });
            }
            Ok(Acceptance::Repeated(known)) => {
                self.forget(new.id);
                return Ok(Accept::Known(known));
            }
            Err(error) => {
                self.forget(new.id);
                return Err(error.into());
            }
        };
        if let (true, Some(slot)) = (accepted.running, slot) {
            let execution = Execution {
                run: new.id,
                attempt: 1,
                thread: new.thread,
                graph: new.graph.to_owned(),
                request: new.request.clone(),
                metadata: new.metadata.clone(),
                new_thread: accepted.created,
                interrupted: accepted.thread_status == "interrupted",
                elapsed: Duration::ZERO,
                slot,
                serving: Arc::clone(serving),
            };
            execution.run(self, route).await;
            return Ok(Accept::New { waiting, queued: None });
        }
        let queued = Some(Queued::new(Arc::clone(route)));
        route.kick.notify_one();
        Ok(Accept::New { waiting, queued })
    }

    /// Offers a run to the table until it is known whether it is in it: who hears that it was not accepted
    /// may say the same again. Says in `doubt` that it is not.
    async fn accept_surely(
        &self,
        new: &NewRun<'_>,
        place: Option<Place>,
        doubt: &watch::Sender<bool>,
    ) -> Result<Acceptance, StoreError> {
        doubt.send_replace(true);
        let known = match self.store().accept_run(new, place).await {
            Err(error) if error.leaves_open_whether_done() => patiently(|| self.store().accept_run(new, place)).await,
            known => known,
        };
        doubt.send_replace(false);
        known
    }

    /// The answer of a run that was accepted before under the same key.
    async fn repeated(&self, run: Uuid, new: &NewRun<'_>) -> Result<(Uuid, String, Arc<Outcome>), TurnError> {
        let waiting = self.wait_for(run);
        let known = self.store().find_run(run).await;
        let (given, ended) = match known {
            Ok(Some(row)) if is_same_request(&row, new) => {
                (row.given.clone().unwrap_or_default(), outcome::stored(&row))
            }
            other => {
                drop(waiting);
                self.forget_the_gone(run);
                other?.ok_or(TurnError::NotReady)?;
                return Err(TurnError::KeyReused);
            }
        };
        if let Some(outcome) = ended {
            drop(waiting);
            self.forget_the_gone(run);
            return Ok((run, given, Arc::new(outcome)));
        }
        // It is executed here, or by another gateway: then its row tells.
        self.follow(run);
        let outcome = waiting.await.map_err(|_| TurnError::ServerStopped { run_id: run })?;
        Ok((run, given, outcome))
    }
}

/// Whether a run is of the same request: an Idempotency-Key belongs to a thread, a user, a graph and what was asked.
fn is_same_request(row: &RunRow, new: &NewRun<'_>) -> bool {
    let named = |request: &RunRequest| {
        let RunRequest::Chat { more, .. } = request;
        more.as_ref().and_then(|more| more.thread.clone())
    };
    // A thread that the client did not name is another one each time.
    let same_thread = named(new.request).is_none() || row.given.as_deref() == Some(new.given);
    same_thread
        && row.graph == new.graph
        && row.metadata.0.get("user_id") == new.metadata.get("user_id")
        && row.request.0 == *new.request
}

/// What a request asks for, checked.
fn chat_request(request: &ChatRequest) -> Result<RunRequest, TurnError> {
    let field = |text: &str| Err(TurnError::Field(text.to_owned()));
    let message = match (&request.message, &request.input, &request.resume) {
        (Some(_), Some(_), _) => return field("send `message` or `input`, not both"),
        (None, Some(_), Some(_)) => return field("send `input` or `resume`, not both"),
        (None, None, None) => return field("`message` is required (or `input`, or `resume`)"),
        (None, _, _) => String::new(),
        (Some(message), None, _) => required(Some(message.clone()), "message", usize::MAX)?,
    };
    let objects = [&request.input, &request.context];
    let config = request.config.as_ref();
    let in_config = config.into_iter().flat_map(|config| [&config.configurable, &config.metadata]);
    let within = objects.into_iter().flatten().chain(in_config).flatten();
    let names = within.clone().map(|(name, _)| name);
    let tags = config.into_iter().flat_map(|config| &config.tags);
    if names.chain(tags).any(|name| name.contains('\0'))
        || !within.map(|(_, value)| value).chain(&request.resume).all(|value| is_storable(value, NESTED))
    {
        return Err(TurnError::Field(format!(
            "the body holds a NUL character, or is nested deeper than {NESTED} levels"
        )));
    }
    if config.is_some_and(|config| config.recursion_limit == Some(0)) {
        return field("`config.recursion_limit` is at least 1");
    }
    let more = ChatMore {
        thread: request.thread_id.clone(),
        input: request.input.clone(),
        resume: request.resume.clone().map(|value| Resume { value }),
        context: request.context.clone(),
        config: request.config.clone(),
    };
    let more = (more != ChatMore::default()).then(|| Box::new(more));
    Ok(RunRequest::Chat { message, full: request.full, more })
}

/// Returns when a turn was in doubt for [`DOUBT`]; never when it ends before.
async fn doubted_for_long(mut in_doubt: watch::Receiver<bool>) {
    while in_doubt.wait_for(|doubt| *doubt).await.is_ok() {
        match tokio::time::timeout(DOUBT, in_doubt.wait_for(|doubt| !*doubt)).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => break,
            Err(_) => return,
        }
    }
    std::future::pending::<()>().await;
}

/// What became of a request.
enum Accept {
    /// Its run's end will come here.
    New {
        /// Here.
        waiting: oneshot::Receiver<Arc<Outcome>>,
        /// While this is held the queue is looked at: the run has not begun.
        queued: Option<Queued>,
    },
    /// It was made before: this run.
    Known(Uuid),
}

/// Counts a turn among those that wait for their run to begin.
struct Queued(Arc<Route>);

impl Queued {
    fn new(route: Arc<Route>) -> Self {
        route.waiting.fetch_add(1, Ordering::AcqRel);
        Self(route)
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

fn required(value: Option<String>, name: &str, limit: usize) -> Result<String, TurnError> {
    match value {
        None => Err(TurnError::Field(format!("`{name}` is required"))),
        Some(text) if text.is_empty() => Err(TurnError::Field(format!("`{name}` is empty"))),
        Some(text) if text.len() > limit => Err(TurnError::Field(format!("`{name}` is longer than {limit} bytes"))),
        // Postgres stores no NUL character in text.
        Some(text) if text.contains('\0') => Err(TurnError::Field(format!("`{name}` holds a NUL character"))),
        Some(text) => Ok(text),
    }
}
