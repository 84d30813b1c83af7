//! One attempt at a run, from the replica's start frame to the committed end.

use super::Gateway;
use super::committer::{Ended, Item, chain};
use super::outcome::Outcome;
use super::replica::{Grant, Slot};
use super::route::{Route, Serving};
use crate::run::chat::ChatShape;
use crate::runner::protocol::{Answer, Start, State};
use crate::store::checkpoints;
use crate::store::runs::RunRequest;
use serde_bytes::ByteBuf;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// What the gateway waits beyond `run_timeout` for the replica's own end.
const TIMEOUT_GRACE: Duration = Duration::from_secs(1);

/// An attempt that has begun.
pub struct Execution {
    /// The run.
    pub run: Uuid,
    /// The attempt's number.
    pub attempt: i32,
    /// The run's thread.
    pub thread: Uuid,
    /// Which graph.
    pub graph: String,
    /// What to do.
    pub request: RunRequest,
    /// Kept with the run.
    pub metadata: Value,
    /// Whether the thread was made with this run: it has no checkpoint.
    pub new_thread: bool,
    /// Whether the thread waits for a human: the message resumes it.
    pub interrupted: bool,
    /// Where it runs.
    pub slot: Slot,
    /// The release it runs on.
    pub serving: Arc<Serving>,
}

impl Execution {
    /// Executes the run and returns when its end is committed.
    pub async fn run(self, gateway: &Gateway, route: &Route) -> Outcome {
        let outcome = self.attempt(gateway, route).await;
        drop(self.slot);
        route.kick.notify_one();
        outcome
    }

    async fn attempt(&self, gateway: &Gateway, route: &Route) -> Outcome {
        let start = match self.start_frame(gateway, route).await {
            Ok(start) => start,
            Err(outcome) => return self.end_ourselves(gateway, route, outcome).await,
        };
        let replica = self.slot.replica();
        let grant = Grant::Thread(self.thread.to_string());
        let Some(mut end) = replica.start(self.run, grant, start).await else {
            let lost = Outcome::fault("ReplicaLost", "the replica that was to execute the run is gone");
            return self.end_ourselves(gateway, route, lost).await;
        };
        let limit = self.serving.limits.run_timeout.map(|limit| limit + TIMEOUT_GRACE);
        let finish = match limit {
            None => end.await,
            Some(limit) => match tokio::time::timeout(limit, &mut end).await {
                Ok(finish) => finish,
                Err(_) => {
                    // A node that blocks cannot be stopped, but it loses the run.
                    replica.take_away(self.run, Outcome::TimedOut).await;
                    end.await
                }
            },
        };
        let Ok(finish) = finish else { return Outcome::fault("ReplicaLost", "the replica's connection is gone") };
        match finish.committed.await {
            Ok(Ended::Committed) => finish.outcome,
            Ok(Ended::Fenced) => Outcome::fault("RunTakenOver", "another attempt has taken the run over"),
            Ok(Ended::Rejected) | Err(_) => Outcome::fault("CheckpointRejected", "the run's state could not be stored"),
        }
    }

    /// By the committer, which tries again while the database is away: a row that stayed `running` would
    /// lock its thread for as long as this gateway lives.
    async fn end_ourselves(&self, gateway: &Gateway, route: &Route, outcome: Outcome) -> Outcome {
        let ending = Box::new(super::outcome::ending(self.run, self.attempt, &outcome));
        let (done, committed) = tokio::sync::oneshot::channel();
        gateway.committer().submit(Item::End { schema: Arc::clone(&route.schema), ending, done }).await;
        let _ = committed.await;
        outcome
    }

    async fn start_frame(&self, gateway: &Gateway, route: &Route) -> Result<Start, Outcome> {
        let thread = self.thread.to_string();
        let tuple = if self.new_thread {
            None
        } else {
            checkpoints::get(gateway.store().pool(), &route.schema, &thread, "", None).await.map_err(|error| {
                tracing::error!(run_id = %self.run, error = %chain(&error), "the thread's state could not be read");
                Outcome::fault("StateUnreadable", "the thread's state could not be read")
            })?
        };
        let (input, command, answer, full) = match &self.request {
            RunRequest::Chat { message, full } => {
                let no_state = tuple.is_none();
                let shape = self.serving.shapes.get(&self.graph).and_then(|shape| shape.as_ref().ok());
                let (input, command) = chat(shape, self.run, message, no_state, self.interrupted && !no_state);
                (input, command, Answer::Chat, *full)
            }
        };
        let mut metadata = self.metadata.clone();
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("run_id".into(), json!(self.run));
            metadata.insert("thread_id".into(), json!(thread));
            metadata.insert("graph_id".into(), json!(self.graph));
            metadata.insert("release".into(), json!(format!("v{}", self.serving.version)));
        }
        let limits = self.serving.limits;
        Ok(Start {
            run: self.run.to_string(),
            attempt: u32::try_from(self.attempt).unwrap_or_default(),
            graph: self.graph.clone(),
            thread_id: Some(thread),
            input: input.map(|value| bytes(&value)),
            command: command.map(|value| bytes(&value)),
            state: Some(State { tuple }),
            recursion_limit: limits.recursion_limit,
            metadata: Some(bytes(&metadata)),
            timeout_ms: limits.run_timeout.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
            answer,
            full,
            ..Start::default()
        })
    }
}

fn chat(
    shape: Option<&ChatShape>,
    run: Uuid,
    message: &str,
    new_thread: bool,
    interrupted: bool,
) -> (Option<Value>, Option<Value>) {
    if interrupted {
        return (None, Some(json!({ "resume": message })));
    }
    let plain = || json!({ "messages": [{ "role": "user", "content": message }] });
    (Some(shape.map_or_else(plain, |shape| shape.input(run, message, new_thread))), None)
}

fn bytes(value: &Value) -> ByteBuf {
    ByteBuf::from(value.to_string().into_bytes())
}
