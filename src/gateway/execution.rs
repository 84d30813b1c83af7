//! One attempt at a run, from the replica's start frame to the committed end.

use super::Gateway;
use super::committer::{Ended, Item, chain, patiently};
use super::outcome::Outcome;
use super::replica::{Finish, Grant, Slot};
use super::route::{Route, Serving};
use crate::run::chat::message_input;
use crate::run::limits::ceiling;
use crate::run::loss::Loss;
use crate::runner::protocol::{Answer, Start, State, Tuple, Turn};
use crate::store::runs::{ChatMore, Requeued, RunRequest};
use serde_bytes::ByteBuf;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;
use uuid::Uuid;

/// What the gateway waits beyond `run_timeout` for the replica's own end.
const TIMEOUT_GRACE: Duration = Duration::from_secs(1);

/// Attempts up to this one go on elsewhere when another run holds them up; a later one stays.
const MOST_MOVED: i32 = 2;

/// What became of an attempt.
enum Attempt {
    /// The run has ended with it.
    Ended(Outcome),
    /// The run waits for its next one.
    Queued,
    /// Another attempt has the run: its end is the run's.
    Elsewhere,
}

/// What a run whose time is up is given all the same, so that it ends as one that ran out of time.
const LEAST_TIME: Duration = Duration::from_millis(1);

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
    /// Since its first attempt began.
    pub elapsed: Duration,
    /// Where it runs.
    pub slot: Slot,
    /// The release it runs on.
    pub serving: Arc<Serving>,
}

impl Execution {
    /// Executes the attempt. When the run's end is committed, whoever waits for it gets it; a run that
    /// goes on elsewhere is the queue's again.
    pub async fn run(self, gateway: &Gateway, route: &Route) {
        let executing = gateway.executes((self.run, self.attempt), self.slot.replica());
        let outcome = self.attempt(gateway, route).await;
        drop(executing);
        drop(self.slot);
        match outcome {
            Attempt::Ended(outcome) => gateway.deliver(self.run, outcome),
            Attempt::Queued => {
                // Whoever claims it: this gateway or another.
                gateway.follow(self.run);
                route.orphans.store(true, Ordering::Release);
                route.suspects.notify_one();
            }
            Attempt::Elsewhere => gateway.follow(self.run),
        }
        route.kick.notify_one();
    }

    async fn attempt(&self, gateway: &Gateway, route: &Route) -> Attempt {
        let start = match self.start_frame(gateway, route).await {
            Ok(start) => start,
            Err(outcome) => return self.end_ourselves(gateway, route, outcome).await,
        };
        let replica = self.slot.replica();
        let grant = Grant::Thread(self.thread.to_string());
        let Some(mut end) = replica.start(self.run, grant, start).await else {
            // The replica went before it had the run: no fault of the run.
            let (done, requeued) = oneshot::channel();
            let key = (self.run, self.attempt);
            gateway.committer().submit(Item::Requeue { key, loss: Loss::NONE, used: None, done }).await;
            return self.after_requeue(gateway, route, requeued).await;
        };
        let limit = self.time_left().map_or(Duration::MAX, |left| left + TIMEOUT_GRACE);
        let finish = tokio::select! {
            finish = &mut end => finish,
            () = tokio::time::sleep(limit) => {
                // A node that blocks cannot be stopped, but it loses the run.
                replica.take_away(self.run, Outcome::TimedOut).await;
                end.await
            }
            () = self.held_up(route) => {
                replica.move_away(self.run).await;
                end.await
            }
        };
        match finish {
            Ok(Finish::Ended(outcome, committed)) => match committed.await {
                Ok(Ended::Committed) => Attempt::Ended(outcome),
                // An error: this gateway ends before the database has taken it. The run is the next one's.
                Ok(Ended::Fenced) | Err(_) => Attempt::Elsewhere,
                Ok(Ended::Rejected(fault)) => Attempt::Ended(Outcome::Fault(fault)),
            },
            Ok(Finish::Requeued(requeued)) => self.after_requeue(gateway, route, requeued).await,
            Err(_) => Attempt::Elsewhere,
        }
    }

    /// Returns when another run of the replica holds this one up, and it can begin elsewhere at once. What it did since
    /// its last checkpoint is done again there, so it is moved a few times at most.
    async fn held_up(&self, route: &Route) {
        let mut holder = self.slot.replica().holder();
        while self.attempt <= MOST_MOVED && holder.changed().await.is_ok() {
            let is_held_up = holder.borrow_and_update().is_some_and(|holder| holder != self.run);
            let serving = is_held_up.then(|| route.serving()).flatten();
            if serving.is_some_and(|serving| serving.replicas.iter().any(|one| one.has_room())) {
                return;
            }
        }
        std::future::pending::<()>().await;
    }

    async fn after_requeue(&self, gateway: &Gateway, route: &Route, requeued: oneshot::Receiver<Requeued>) -> Attempt {
        match requeued.await {
            Ok(Requeued::GivenUp) => {
                let lost = Outcome::fault("ReplicaLost", "the run ended the replicas that it was tried on");
                self.end_ourselves(gateway, route, lost).await
            }
            Ok(Requeued::Waiting) => {
                tracing::info!(run_id = %self.run, attempt = self.attempt, "a run goes on with its next attempt");
                Attempt::Queued
            }
            Ok(Requeued::Fenced) | Err(_) => Attempt::Elsewhere,
        }
    }

    /// What is left of the run's `run_timeout`, over all its attempts.
    fn time_left(&self) -> Option<Duration> {
        self.serving.limits.run_timeout.map(|limit| limit.saturating_sub(self.elapsed).max(LEAST_TIME))
    }

    /// By the committer, which waits for a database that is away: a row that stayed `running` would lock its
    /// thread for as long as this gateway lives.
    async fn end_ourselves(&self, gateway: &Gateway, route: &Route, outcome: Outcome) -> Attempt {
        let ending = Box::new(super::outcome::ending(self.run, self.attempt, &outcome, None));
        let (done, committed) = tokio::sync::oneshot::channel();
        let schema = Arc::clone(&route.schema);
        gateway.committer().submit(Item::End { schema, ending, held: None, done }).await;
        match committed.await {
            Ok(Ended::Committed | Ended::Rejected(_)) => Attempt::Ended(outcome),
            Ok(Ended::Fenced) | Err(_) => Attempt::Elsewhere,
        }
    }

    /// The thread's state: its newest checkpoint, or the document of a target that keeps one.
    async fn state(&self, gateway: &Gateway, route: &Route, thread: &str, is_document: bool) -> Result<State, Outcome> {
        if self.new_thread {
            return Ok(State { tuple: None, document: is_document.then_some(None) });
        }
        let (store, schema) = (gateway.store(), &route.schema);
        let found = if is_document {
            let found = patiently(|| store.document(schema, thread, &self.graph)).await;
            found.map(|text| State { tuple: None, document: Some(text.map(|text| ByteBuf::from(text.into_bytes()))) })
        } else {
            patiently(|| store.newest_checkpoint(schema, thread)).await.map(|tuple| State { tuple, document: None })
        };
        found.map_err(|error| {
            tracing::error!(run_id = %self.run, error = %chain(&error), "the thread's state could not be read");
            Outcome::fault("StateUnreadable", "the thread's state could not be read")
        })
    }

    async fn start_frame(&self, gateway: &Gateway, route: &Route) -> Result<Start, Outcome> {
        let thread = self.thread.to_string();
        let graph = self.serving.graph(&self.graph);
        let state = self.state(gateway, route, &thread, graph.is_some_and(|graph| graph.is_document)).await?;
        let tuple = state.tuple.as_ref();
        let RunRequest::Chat { message, full, more } = &self.request;
        let nothing = ChatMore::default();
        let more = more.as_deref().unwrap_or(&nothing);
        let no_state = tuple.is_none();
        let has_begun = tuple.is_some_and(|tuple| self.has_begun(tuple));
        let chat = graph.map(|graph| graph.chat.as_ref());
        let said = (!message.is_empty()).then_some(message.as_str());
        let given = match (&more.input, said) {
            (Some(input), _) => Some(Value::Object(input.clone())),
            (None, Some(message)) => Some(message_input(self.run, message)),
            (None, None) => None,
        };
        let first = match (&more.input, chat) {
            (None, Some(Ok(shape))) => shape.first().clone(),
            _ => Map::new(),
        };
        let config = more.config.clone().unwrap_or_default();
        let turn = Turn {
            message: said,
            input: given.as_ref(),
            anew: more.input.is_some(),
            first: first.clone(),
            resume: more.resume.as_ref().map(|resume| std::slice::from_ref(&resume.value)).unwrap_or_default(),
            tags: &config.tags,
            not_chat: match chat {
                Some(Err(reason)) if more.input.is_none() => Some(reason),
                _ => None,
            },
        };
        let turn = serde_json::to_vec(&turn).ok().map(ByteBuf::from);
        // For runners that do not know turns.
        let (input, command) = if has_begun {
            // An attempt before this one left a checkpoint that holds the input: it goes on from there.
            (None, None)
        } else if self.interrupted && !no_state && more.input.is_none() {
            let answer = more.resume.as_ref().map_or_else(|| json!(message), |resume| resume.value.clone());
            (None, Some(json!({ "resume": answer })))
        } else {
            let input = given.clone().map(|mut input| {
                if let (Some(fields), true) = (input.as_object_mut(), no_state) {
                    fields.extend(first);
                }
                input
            });
            (input, None)
        };
        let metadata = self.metadata_over(config.metadata);
        Ok(Start {
            run: self.run.to_string(),
            attempt: u32::try_from(self.attempt).unwrap_or_default(),
            graph: self.graph.clone(),
            thread_id: Some(thread),
            input: input.map(|value| bytes(&value)),
            command: command.map(|value| bytes(&value)),
            state: Some(state),
            recursion_limit: ceiling(graph.and_then(|graph| graph.recursion_limit), config.recursion_limit),
            configurable: (!config.configurable.is_empty()).then(|| bytes(&Value::Object(config.configurable))),
            context: more.context.clone().map(|context| bytes(&Value::Object(context))),
            metadata: Some(bytes(&metadata)),
            state_bytes: self.serving.limits.state_bytes,
            timeout_ms: self.time_left().map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            answer: Answer::Chat,
            full: *full,
            turn,
            ..Start::default()
        })
    }
}

impl Execution {
    /// The run's metadata: what the request gives, what the run was accepted with, and what it is.
    fn metadata_over(&self, mut metadata: Map<String, Value>) -> Value {
        metadata.extend(self.metadata.as_object().cloned().unwrap_or_default());
        metadata.insert("run_id".into(), json!(self.run));
        metadata.insert("thread_id".into(), json!(self.thread.to_string()));
        metadata.insert("graph_id".into(), json!(self.graph));
        metadata.insert("release".into(), json!(format!("v{}", self.serving.version)));
        Value::Object(metadata)
    }

    /// Whether a checkpoint is of this run.
    fn has_begun(&self, tuple: &Tuple) -> bool {
        #[derive(serde::Deserialize)]
        struct Metadata<'a> {
            #[serde(borrow, default)]
            run_id: Option<std::borrow::Cow<'a, str>>,
        }
        let metadata: Option<Metadata> = serde_json::from_slice(&tuple.metadata).ok();
        metadata.and_then(|metadata| metadata.run_id).is_some_and(|id| id == self.run.to_string())
    }
}

fn bytes(value: &Value) -> ByteBuf {
    ByteBuf::from(value.to_string().into_bytes())
}
