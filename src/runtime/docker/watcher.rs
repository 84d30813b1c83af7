//! Follows an engine's events: which replicas end, and whether the engine itself is there.

use super::calls::bounded;
use super::replicas::{container_name, label, list};
use crate::base::telemetry::chain;
use crate::runtime::{ReplicaExit, RuntimeError, Stage};
use bollard::Docker;
use bollard::models::{ContainerState, EventMessage};
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::StreamExt as _;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

/// How often an engine that is away is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often replicas are listed, for what the events missed.
const LIST_EVERY: Duration = Duration::from_secs(5);
/// An engine that came back ends what ran under the one before; this long its exits count as that.
const AFTERMATH: Duration = Duration::from_secs(5);
/// Exit codes of SIGKILL and SIGTERM, and the one of a container whose end nobody saw.
const KILLED: [i64; 3] = [137, 143, 255];
/// The code of what the kernel ended for its memory: it is killed.
const OUT_OF_MEMORY: i64 = 137;

/// Follows one engine for one server.
pub(super) struct Watcher {
    pub docker: Docker,
    pub server: Uuid,
    pub exits: mpsc::Sender<ReplicaExit>,
    pub away_since: watch::Sender<Option<Instant>>,
}

impl Watcher {
    /// Runs for as long as the server lives.
    pub async fn run(self: Arc<Self>) {
        let mut broke = false;
        loop {
            if let Err(error) = self.ask().await {
                self.away_since.send_if_modified(|since| {
                    let news = since.is_none();
                    if news {
                        tracing::error!(error = %chain(&error), "Docker Engine cannot be reached; what runs goes on without it");
                        *since = Some(Instant::now());
                    }
                    news
                });
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
            if self.away_since.send_replace(None).is_some() {
                tracing::info!("Docker Engine is back");
            }
            if self.follow(broke).await.is_err() {
                return;
            }
            // The stream has broken: the engine has ended, or begun anew already.
            broke = true;
        }
    }

    async fn ask(&self) -> Result<(), RuntimeError> {
        bounded("asking whether the engine is there", self.docker.ping()).await.map(drop)
    }

    /// Until the engine's events end. What they missed is found by listing.
    async fn follow(&self, broke: bool) -> Result<(), mpsc::error::SendError<ReplicaExit>> {
        let filters = HashMap::from([
            ("type", vec!["container".to_owned()]),
            ("event", vec!["die".to_owned(), "oom".to_owned()]),
            ("label", vec![format!("{}={}", label::SERVER, self.server)]),
        ]);
        let mut events = self.docker.events(Some(EventsOptionsBuilder::new().filters(&filters).build()));
        let mut out_of_memory = HashSet::new();
        let mut tick = tokio::time::interval(LIST_EVERY);
        let began = Instant::now();
        loop {
            let exits = tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => exit_of(&event, &mut out_of_memory).into_iter().collect(),
                    _ => return Ok(()),
                },
                _ = tick.tick() => self.ended().await,
            };
            let aftermath = broke && began.elapsed() < AFTERMATH;
            for mut exit in exits {
                exit.with_engine =
                    aftermath && exit.code.is_none_or(|code| KILLED.contains(&code)) && !exit.out_of_memory;
                if exit.code == Some(OUT_OF_MEMORY) && !exit.out_of_memory && !exit.with_engine {
                    // Its event may come later, or never; the engine has written it down.
                    exit.out_of_memory = self.state(exit.id).await.oom_killed == Some(true);
                }
                self.exits.send(exit).await?;
            }
        }
    }

    /// Those that have ended and are there still.
    async fn ended(&self) -> Vec<ReplicaExit> {
        let mut exits = Vec::new();
        let known = list(&self.docker, self.server).await.unwrap_or_default();
        for one in known.iter().filter(|one| one.stage == Stage::Ended) {
            let state = self.state(one.id).await;
            let out_of_memory = state.oom_killed == Some(true);
            exits.push(ReplicaExit { id: one.id, code: state.exit_code, out_of_memory, with_engine: false });
        }
        exits
    }

    async fn state(&self, replica: Uuid) -> ContainerState {
        let name = container_name(self.server, replica);
        let found = bounded("inspecting a replica", self.docker.inspect_container(&name, None)).await;
        found.ok().and_then(|found| found.state).unwrap_or_default()
    }
}

/// What an event says of a replica that ended.
fn exit_of(event: &EventMessage, out_of_memory: &mut HashSet<Uuid>) -> Option<ReplicaExit> {
    let attributes = event.actor.as_ref()?.attributes.as_ref()?;
    let id = attributes.get(label::REPLICA)?.parse::<Uuid>().ok()?;
    if event.action.as_deref() == Some("oom") {
        out_of_memory.insert(id);
        return None;
    }
    let code = attributes.get("exitCode").and_then(|code| code.parse().ok());
    Some(ReplicaExit { id, code, out_of_memory: out_of_memory.remove(&id), with_engine: false })
}
