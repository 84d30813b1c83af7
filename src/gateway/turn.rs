//! A turn of `/v1/chat`: checked, accepted, executed or queued, answered.

use super::Gateway;
use super::committer::chain;
use super::execution::Execution;
use super::outcome::{Answer, Outcome};
use super::route::{ChatGraphError, Route, Serving};
use crate::api::chat::ChatRequest;
use crate::base::ids;
use crate::store::StoreError;
use crate::store::runs::{NewRun, Place, RunRequest};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use uuid::Uuid;

/// How long a request waits for a replica to become ready before it is turned away.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest `thread_id` and `user_id` that are taken, in bytes.
const NAME_BYTES: usize = 256;

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
    /// The run was accepted and failed.
    #[error("the run failed")]
    Failed {
        /// The thread as the client named it.
        thread_id: String,
        /// The run.
        run_id: Uuid,
        /// How.
        outcome: Box<Outcome>,
    },
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
    /// Makes a turn. Dropping the future does not stop a run that was accepted.
    pub async fn turn(&self, route: Arc<Route>, request: ChatRequest) -> Result<Turn, TurnError> {
        let gateway = self.clone();
        let task = self.spawn(async move { gateway.take_turn(&route, request).await });
        task.await.unwrap_or_else(|_| Err(TurnError::NotReady))
    }

    async fn take_turn(&self, route: &Arc<Route>, request: ChatRequest) -> Result<Turn, TurnError> {
        let run = ids::new_id();
        let user = required(request.user_id, "user_id", NAME_BYTES)?;
        let message = required(request.message, "message", usize::MAX)?;
        let given = match request.thread_id {
            Some(given) => required(Some(given), "thread_id", NAME_BYTES)?,
            None => ids::new_id().to_string(),
        };
        let serving = route.ready(PATIENCE).await.ok_or(TurnError::NotReady)?;
        let graph = serving.chat_graph(&route.name, request.graph.as_deref())?.0.to_owned();
        let request = RunRequest::Chat { message, full: request.full };
        let metadata = json!({ "user_id": user });
        let new = NewRun {
            id: run,
            agent: route.agent,
            release: serving.release,
            thread: ids::thread_id(&given),
            given: &given,
            graph: &graph,
            request: &request,
            metadata: &metadata,
        };
        let outcome = self.accept(route, &serving, &new).await?;
        match outcome {
            Outcome::Answer(answer) => Ok(Turn { thread_id: given, run_id: run, answer: *answer }),
            failed => {
                tracing::warn!(agent = route.name, thread_id = given, run_id = %run, outcome = ?failed, "a run failed");
                Err(TurnError::Failed { thread_id: given, run_id: run, outcome: Box::new(failed) })
            }
        }
    }

    async fn accept(&self, route: &Arc<Route>, serving: &Arc<Serving>, new: &NewRun<'_>) -> Result<Outcome, TurnError> {
        let slot = serving.reserve();
        let place = slot.as_ref().map(|slot| Place { gateway: self.id(), replica: slot.replica().id });
        // Registered before the row is there: whoever claims it finds us.
        let waiting = self.wait_for(new.id);
        let accepted = match self.store().accept_run(new, place).await {
            Ok(accepted) => accepted,
            Err(error) => {
                self.forget(new.id);
                tracing::error!(run_id = %new.id, error = %chain(&error), "a run could not be accepted");
                return Err(error.into());
            }
        };
        if let (true, Some(slot)) = (accepted.running, slot) {
            self.forget(new.id);
            let execution = Execution {
                run: new.id,
                attempt: 1,
                thread: new.thread,
                graph: new.graph.to_owned(),
                request: new.request.clone(),
                metadata: new.metadata.clone(),
                new_thread: accepted.created,
                interrupted: accepted.thread_status == "interrupted",
                slot,
                serving: Arc::clone(serving),
            };
            return Ok(execution.run(self, route).await);
        }
        route.waiting.fetch_add(1, Ordering::AcqRel);
        route.kick.notify_one();
        let outcome = waiting.await;
        route.waiting.fetch_sub(1, Ordering::AcqRel);
        Ok(outcome.unwrap_or_else(|_| Outcome::fault("ServerStopped", "the server stopped before the run ended")))
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
