//! One build, from its place in the queue to its end, as a stream of what it says. Whoever drops the stream ends the
//! build: the engine's, too, and what was sent is removed.

use super::{BuildsError, Control, Received};
use crate::api::builds::{BuildDone, BuildEvent, BuildFault};
use crate::engine::names::Scope;
use crate::image::{self, BuildReporter, Built, Origin};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// After so long without a word an empty line says that it goes on.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The most that waits to be read; lines that steps print are left out beyond it.
const EVENTS: usize = 2_000;

/// What a build says, until somebody takes it.
#[derive(Debug, Default)]
pub struct Said {
    events: Mutex<VecDeque<BuildEvent>>,
    news: Notify,
}

impl Said {
    fn say(&self, event: BuildEvent) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() < EVENTS || !matches!(event, BuildEvent::Output { .. }) {
            events.push_back(event);
        }
        self.news.notify_one();
    }

    fn take(&self) -> Vec<BuildEvent> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }
}

impl BuildReporter for Said {
    fn step_started(&self, number: usize, total: usize, title: &str) {
        self.say(BuildEvent::Step { number, total, title: title.to_owned() });
    }

    fn step_cached(&self, number: usize, total: usize, title: &str) {
        self.say(BuildEvent::Cached { number, total, title: title.to_owned() });
    }

    fn output(&self, line: &str) {
        self.say(BuildEvent::Output { line: line.to_owned() });
    }

    fn finished(&self, _: &Built) {}
}

/// A build that is under way.
pub struct Building {
    work: Pin<Box<dyn Future<Output = BuildEvent> + Send>>,
    said: Arc<Said>,
    is_over: bool,
}

impl Building {
    /// What it has said since it was asked last; empty: nothing for a while. Nothing: it is over.
    pub async fn next(&mut self) -> Option<Vec<BuildEvent>> {
        if self.is_over {
            return None;
        }
        let silence = tokio::time::sleep(HEARTBEAT);
        tokio::pin!(silence);
        loop {
            let events = self.said.take();
            if !events.is_empty() {
                return Some(events);
            }
            tokio::select! {
                biased;
                last = &mut self.work => {
                    self.is_over = true;
                    let mut events = self.said.take();
                    events.push(last);
                    return Some(events);
                }
                () = self.said.news.notified() => {}
                () = &mut silence => return Some(Vec::new()),
            }
        }
    }
}

impl Control {
    /// Builds what has come, when it is its turn.
    pub fn build(&self, agent: &str, received: Received) -> Building {
        let said = Arc::new(Said::default());
        let (control, agent, own) = (self.clone(), agent.to_owned(), Arc::clone(&said));
        let work = Box::pin(async move {
            let ending = control.0.parts.shutdown.token().clone();
            let built = ending.run_until_cancelled(Box::pin(control.build_received(&agent, received, &own))).await;
            match built.unwrap_or_else(|| Err(stopped())) {
                Ok(done) => BuildEvent::Done(done),
                Err(fault) => {
                    let why = fault.message.lines().next().unwrap_or_default();
                    tracing::info!(agent, code = fault.code, why, "a build has failed");
                    BuildEvent::Failed(fault)
                }
            }
        });
        Building { work, said, is_over: false }
    }

    async fn build_received(&self, agent: &str, received: Received, said: &Said) -> Result<BuildDone, BuildFault> {
        let builds = self.builds();
        let Received { sent, policy, ticket, scratch } = received;
        let came = Instant::now();
        ticket.turn(|before| said.say(BuildEvent::Waiting { before })).await;
        let waited = came.elapsed();
        tracing::info!(agent, waited = waited.as_secs_f64(), "a build begins");
        let deployed = self.deployed(agent).await.map_err(|error| failed(&error))?;
        let mut options = builds.options(&sent.request, self.server(), deployed);
        let way = if builds.has_ways() {
            let way = self.open_way(agent, policy, scratch.path()).map_err(|error| no_way(&error))?;
            options.bounds.way = Some(way.folder.clone());
            Some(way)
        } else {
            None
        };
        let origin = Origin::Sent(sent);
        let cancel = self.0.parts.shutdown.token();
        let mut tidying = Tidying { control: self, agent, is_needed: true };
        let building = image::build_from(&builds.0.engine, &origin, &options, said, cancel);
        let limit = builds.0.limits.time;
        let built = tokio::time::timeout(limit, building).await.map_err(|_| too_long(limit))?;
        let built = built.map_err(|error| walled(BuildFault::from(&error), way.is_some()))?;
        tidying.is_needed = !built.cached;
        drop((tidying, way, ticket, scratch));
        tracing::info!(agent, image = built.image_id, seconds = built.seconds, "a build has ended");
        Ok(done(&built, waited))
    }
}

/// Has images of earlier builds taken away, and what the steps of one have left that was dropped, at its end.
struct Tidying<'a> {
    control: &'a Control,
    agent: &'a str,
    is_needed: bool,
}

impl Drop for Tidying<'_> {
    fn drop(&mut self) {
        if !self.is_needed {
            return;
        }
        let (engine, agent) = (self.control.builds().0.engine.clone(), self.agent.to_owned());
        let scope = Scope::of_server(self.control.server());
        self.control.0.parts.shutdown.spawn_until_cancelled(async move {
            if let Err(error) = image::tidy(&engine, &agent, &scope).await {
                tracing::debug!(?error, "images of earlier builds stay");
            }
        });
    }
}

/// A build's end as it is told.
pub fn done(built: &Built, waited: Duration) -> BuildDone {
    BuildDone {
        image: built.image_id.clone(),
        tag: built.tag.clone(),
        inputs_digest: built.inputs_digest.clone(),
        cached: built.cached,
        python: built.python.clone(),
        notes: built.notes.clone(),
        seconds: built.seconds,
        waited: waited.as_secs_f64(),
    }
}

fn fault(code: &str, message: String, hint: &str) -> BuildFault {
    BuildFault {
        code: code.to_owned(),
        message,
        causes: Vec::new(),
        hints: vec![hint.to_owned()],
        last_lines: Vec::new(),
    }
}

fn stopped() -> BuildFault {
    let hint = "deploy again when it is back: steps that were done are not done again";
    fault("server-stopped", "the server stops, and the build with it".to_owned(), hint)
}

fn too_long(limit: Duration) -> BuildFault {
    let message = format!("the build took longer than {} min, and was ended", limit.as_secs() / 60);
    fault(
        "build-timeout",
        message,
        "deploy again: steps that were done are not done again; or build with --build local",
    )
}

/// A step that got nowhere is told what it may reach.
fn walled(mut fault: BuildFault, is_walled: bool) -> BuildFault {
    if is_walled && fault.code == "step" {
        fault.hints.push(
            "on the server steps reach PyPI, the distributions' packages, the indexes that the project names, and the \
             hosts of rapidclaw.security.allowed_hosts"
                .to_owned(),
        );
    }
    fault
}

fn no_way(error: &std::io::Error) -> BuildFault {
    tracing::warn!(%error, "the way out of a build cannot be opened");
    fault("server", format!("the way out of the build cannot be opened: {error}"), "the server's log says more")
}

fn failed(error: &super::ControlError) -> BuildFault {
    tracing::warn!(error = %crate::gateway::committer::chain(error), "a build could not begin");
    fault("server", "the server could not look for what serves".to_owned(), "try again; the server's log says more")
}

impl From<BuildsError> for super::ControlError {
    fn from(error: BuildsError) -> Self {
        Self::Build(error)
    }
}
