//! Replicas as containers of a Docker Engine (API 1.41 and up): no network, a read-only root, no
//! capabilities, uid 10001, two mounted folders.

pub mod engine;
mod lines;
mod spec;

use super::{KnownReplica, LineRange, ReplicaExit, ReplicaSpec, Runtime, RuntimeError, Stage, WrittenLine};
use crate::api::control::EngineInfo;
use crate::base::shutdown::Shutdown;
use async_trait::async_trait;
use bollard::Docker;
use bollard::errors::Error as DockerError;
use bollard::models::{ContainerSummaryStateEnum, NetworkCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, EventsOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
};
use futures_util::StreamExt as _;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use uuid::Uuid;

/// The labels of what we make, so that a new start finds it again.
mod label {
    pub const SERVER: &str = "rapidclaw.server";
    pub const AGENT: &str = "rapidclaw.agent";
    pub const RELEASE: &str = "rapidclaw.release";
    pub const ROLLOUT: &str = "rapidclaw.rollout";
    pub const REPLICA: &str = "rapidclaw.replica";
    pub const VERSION: &str = "rapidclaw.version";
}

/// How long one call to the engine may take.
const CALL: Duration = Duration::from_secs(60);
/// How long to wait before the engine's events are asked for again.
const EVENTS_RETRY: Duration = Duration::from_secs(1);

/// The runtime on Docker Engine.
pub struct DockerRuntime {
    docker: Docker,
    server: Uuid,
    exits: std::sync::Mutex<Option<mpsc::Receiver<ReplicaExit>>>,
    networks: Mutex<()>,
}

impl DockerRuntime {
    /// Takes a connection to the engine; `server` is the label of all it makes.
    pub fn new(docker: Docker, server: Uuid, shutdown: &Shutdown) -> Self {
        let (sender, receiver) = mpsc::channel(256);
        shutdown.spawn_until_cancelled(watch_exits(docker.clone(), server, sender));
        Self { docker, server, exits: std::sync::Mutex::new(Some(receiver)), networks: Mutex::new(()) }
    }

    fn name(&self, id: Uuid) -> String {
        let (server, id) = (self.server.simple().to_string(), id.simple().to_string());
        format!("rapidclaw-{}-{}", &server[server.len() - 8..], &id[id.len() - 12..])
    }

    fn network(&self, agent: &str) -> String {
        let server = self.server.simple().to_string();
        format!("rapidclaw-{}-{agent}", &server[server.len() - 8..])
    }

    /// The bridge of an agent with `"egress": "open"`: its replicas do not see each other on it.
    async fn ensure_network(&self, agent: &str) -> Result<String, RuntimeError> {
        let name = self.network(agent);
        let _one_at_a_time = self.networks.lock().await;
        if bounded("looking for the agent's network", self.docker.inspect_network(&name, None)).await.is_ok() {
            return Ok(name);
        }
        let request = NetworkCreateRequest {
            name: name.clone(),
            driver: Some("bridge".to_owned()),
            options: Some(HashMap::from([("com.docker.network.bridge.enable_icc".to_owned(), "false".to_owned())])),
            labels: Some(HashMap::from([
                (label::SERVER.to_owned(), self.server.to_string()),
                (label::AGENT.to_owned(), agent.to_owned()),
            ])),
            ..NetworkCreateRequest::default()
        };
        bounded("making the agent's network", self.docker.create_network(request)).await?;
        Ok(name)
    }
}

#[async_trait]
impl Runtime for DockerRuntime {
    async fn start(&self, spec: &ReplicaSpec) -> Result<(), RuntimeError> {
        let network = if spec.open_network { Some(self.ensure_network(&spec.agent).await?) } else { None };
        let name = self.name(spec.id);
        let body = spec::container(spec, self.server, network.as_deref());
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        match bounded("making a replica", self.docker.create_container(Some(options), body)).await {
            Ok(_) => {}
            Err(RuntimeError::Refused { source, .. }) if status_of(source.as_ref()) == Some(404) => {
                return Err(RuntimeError::NoImage(spec.image.clone()));
            }
            Err(error) => return Err(error),
        }
        let started = bounded("starting a replica", self.docker.start_container(&name, None)).await;
        if started.is_err() {
            let _ = self.remove(spec.id, Duration::ZERO).await;
        }
        started
    }

    async fn remove(&self, id: Uuid, grace: Duration) -> Result<(), RuntimeError> {
        let name = self.name(id);
        if !grace.is_zero() {
            let seconds = i32::try_from(grace.as_secs().max(1)).unwrap_or(i32::MAX);
            let options = StopContainerOptionsBuilder::new().t(seconds).build();
            let stop = self.docker.stop_container(&name, Some(options));
            let _ = tokio::time::timeout(grace + CALL, stop).await;
        }
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let removed = bounded("removing a replica", self.docker.remove_container(&name, Some(options))).await;
        match removed {
            // Gone already, or on its way.
            Err(RuntimeError::Refused { source, .. }) if matches!(status_of(source.as_ref()), Some(404 | 409)) => {
                Ok(())
            }
            other => other,
        }
    }

    async fn list(&self) -> Result<Vec<KnownReplica>, RuntimeError> {
        let filter = HashMap::from([("label", vec![format!("{}={}", label::SERVER, self.server)])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filter).build();
        let all = bounded("listing replicas", self.docker.list_containers(Some(options))).await?;
        Ok(all
            .into_iter()
            .filter_map(|one| {
                let labels = one.labels?;
                Some(KnownReplica {
                    id: labels.get(label::REPLICA)?.parse().ok()?,
                    agent: labels.get(label::AGENT)?.clone(),
                    rollout: labels.get(label::ROLLOUT)?.parse().ok()?,
                    stage: match one.state? {
                        ContainerSummaryStateEnum::CREATED => Stage::Made,
                        ContainerSummaryStateEnum::EXITED | ContainerSummaryStateEnum::DEAD => Stage::Ended,
                        _ => Stage::Running,
                    },
                })
            })
            .collect())
    }

    async fn last_lines(&self, id: Uuid, lines: usize) -> Result<Vec<String>, RuntimeError> {
        let name = self.name(id);
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(&lines.to_string()).build();
        let mut stream = self.docker.logs(&name, Some(options));
        let mut text = String::new();
        let read = async {
            while let Some(chunk) = stream.next().await {
                match chunk {
                    Ok(chunk) => text.push_str(&String::from_utf8_lossy(&chunk.into_bytes())),
                    Err(error) => return Err(refused("reading a replica's log", error)),
                }
            }
            Ok(())
        };
        tokio::time::timeout(CALL, read).await.unwrap_or(Ok(()))?;
        let all: Vec<String> = text.lines().map(|line| line.trim_end().to_owned()).collect();
        Ok(all[all.len().saturating_sub(lines)..].to_vec())
    }

    async fn read_lines(
        &self,
        id: Uuid,
        range: LineRange,
        lines: mpsc::Sender<WrittenLine>,
    ) -> Result<(), RuntimeError> {
        lines::read(&self.docker, &self.name(id), range, &lines).await
    }

    async fn has_image(&self, image: &str) -> Result<bool, RuntimeError> {
        match bounded("looking for the image", self.docker.inspect_image(image)).await {
            Ok(_) => Ok(true),
            Err(RuntimeError::Refused { source, .. }) if status_of(source.as_ref()) == Some(404) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn remove_agent(&self, agent: &str) -> Result<(), RuntimeError> {
        match bounded("removing the agent's network", self.docker.remove_network(&self.network(agent))).await {
            Err(RuntimeError::Refused { source, .. }) if status_of(source.as_ref()) == Some(404) => Ok(()),
            other => other,
        }
    }

    fn exits(&self) -> mpsc::Receiver<ReplicaExit> {
        let mut taken = self.exits.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        taken.take().unwrap_or_else(|| mpsc::channel(1).1)
    }

    async fn engine(&self) -> Result<EngineInfo, RuntimeError> {
        engine_info(&self.docker).await
    }
}

/// What an engine is; the same for the server and for a CLI on the same machine.
pub async fn engine_info(docker: &Docker) -> Result<EngineInfo, RuntimeError> {
    let info = bounded("asking what the engine is", docker.info()).await?;
    let architecture = match info.architecture.unwrap_or_default().as_str() {
        "x86_64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        other => other.to_owned(),
    };
    Ok(EngineInfo { id: info.id.unwrap_or_default(), version: info.server_version.unwrap_or_default(), architecture })
}

/// Follows the engine's events for as long as the server lives. What happens while the engine is away is
/// found by [`Runtime::list`].
async fn watch_exits(docker: Docker, server: Uuid, sender: mpsc::Sender<ReplicaExit>) {
    let mut out_of_memory = std::collections::HashSet::new();
    loop {
        let filters = HashMap::from([
            ("type", vec!["container".to_owned()]),
            ("event", vec!["die".to_owned(), "oom".to_owned()]),
            ("label", vec![format!("{}={server}", label::SERVER)]),
        ]);
        let mut events = docker.events(Some(EventsOptionsBuilder::new().filters(&filters).build()));
        while let Some(Ok(event)) = events.next().await {
            let attributes = event.actor.and_then(|actor| actor.attributes).unwrap_or_default();
            let Some(id) = attributes.get(label::REPLICA).and_then(|id| id.parse::<Uuid>().ok()) else { continue };
            if event.action.as_deref() == Some("oom") {
                out_of_memory.insert(id);
                continue;
            }
            let code = attributes.get("exitCode").and_then(|code| code.parse().ok());
            let exit = ReplicaExit { id, code, out_of_memory: out_of_memory.remove(&id) };
            if sender.send(exit).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(EVENTS_RETRY).await;
    }
}

async fn bounded<T>(what: &'static str, call: impl Future<Output = Result<T, DockerError>>) -> Result<T, RuntimeError> {
    match tokio::time::timeout(CALL, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(refused(what, error)),
        Err(elapsed) => Err(RuntimeError::Unreachable(Box::new(elapsed))),
    }
}

fn refused(what: &'static str, error: DockerError) -> RuntimeError {
    match error {
        DockerError::DockerResponseServerError { .. } | DockerError::DockerStreamError { .. } => {
            RuntimeError::Refused { what, source: Box::new(error) }
        }
        other => RuntimeError::Unreachable(Box::new(other)),
    }
}

fn status_of(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<u16> {
    match error.downcast_ref::<DockerError>() {
        Some(DockerError::DockerResponseServerError { status_code, .. }) => Some(*status_code),
        _ => None,
    }
}
