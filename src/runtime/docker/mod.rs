//! Replicas as containers of a Docker Engine (API 1.41 and up): no network, a read-only root, no
//! capabilities, uid 10001, two mounted folders.

mod calls;
mod images;
mod lines;
pub mod programs;
mod replicas;
mod spec;
mod watcher;

use self::calls::{CALL, bounded, refused, status_of};
use self::replicas::{container_name, label, list};
use self::watcher::Watcher;
use super::folders::REPLICA_SIDE;
use super::{
    FoundImage, ImageArchive, KnownReplica, LineRange, ReplicaExit, ReplicaSpec, Runtime, RuntimeError, WrittenLine,
};
use crate::api::control::EngineInfo;
use crate::base::shutdown::Shutdown;
use crate::engine::images::{LABEL_AGENT, can_append};
use async_trait::async_trait;
use bollard::errors::Error as DockerError;
use bollard::models::NetworkCreateRequest;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ImportImageOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    StopContainerOptionsBuilder,
};
use bollard::{Docker, body_try_stream};
use futures_util::StreamExt as _;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, mpsc, watch};
use uuid::Uuid;

/// How long an image may take on its way in.
const LOAD: Duration = Duration::from_secs(600);

/// The runtime on Docker Engine.
pub struct DockerRuntime {
    docker: Docker,
    server: Uuid,
    exits: std::sync::Mutex<Option<mpsc::Receiver<ReplicaExit>>>,
    away_since: watch::Receiver<Option<Instant>>,
    networks: Mutex<()>,
}

impl DockerRuntime {
    /// Takes a connection to the engine; `server` is the label of all it makes.
    pub fn new(docker: Docker, server: Uuid, shutdown: &Shutdown) -> Self {
        let (sender, receiver) = mpsc::channel(256);
        let (tell_away, away_since) = watch::channel(None);
        let watcher = Arc::new(Watcher { docker: docker.clone(), server, exits: sender, away_since: tell_away });
        shutdown.supervise("watcher of Docker Engine", move || Arc::clone(&watcher).run());
        Self { docker, server, exits: std::sync::Mutex::new(Some(receiver)), away_since, networks: Mutex::new(()) }
    }

    fn name(&self, id: Uuid) -> String {
        container_name(self.server, id)
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
            // Made by a call before this one, whose answer was lost.
            Err(RuntimeError::Refused { source, .. }) if status_of(source.as_ref()) == Some(409) => {}
            Err(error) => return Err(error),
        }
        let started = bounded("starting a replica", self.docker.start_container(&name, None)).await;
        if matches!(started, Err(RuntimeError::Refused { .. })) {
            let _ = self.remove(spec.id, Duration::ZERO).await;
        }
        started
    }

    async fn end(&self, id: Uuid, grace: Duration) -> Result<(), RuntimeError> {
        let name = self.name(id);
        let ended = if grace.is_zero() {
            bounded("ending a replica", self.docker.kill_container(&name, None)).await
        } else {
            let seconds = i32::try_from(grace.as_secs().max(1)).unwrap_or(i32::MAX);
            let options = StopContainerOptionsBuilder::new().t(seconds).build();
            let stop = self.docker.stop_container(&name, Some(options));
            match tokio::time::timeout(grace + CALL, stop).await {
                Ok(stopped) => stopped.map_err(|error| refused("ending a replica", error)),
                Err(elapsed) => Err(RuntimeError::Unreachable(Box::new(elapsed))),
            }
        };
        match ended {
            // Ended already, gone already.
            Err(RuntimeError::Refused { source, .. })
                if matches!(status_of(source.as_ref()), Some(304 | 404 | 409)) =>
            {
                Ok(())
            }
            other => other,
        }
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
        list(&self.docker, self.server).await
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

    async fn find_image(&self, image: &str) -> Result<Option<FoundImage>, RuntimeError> {
        match bounded("looking for the image", self.docker.inspect_image(image)).await {
            Ok(found) => {
                let mut labels = found.config.and_then(|config| config.labels).unwrap_or_default();
                let architecture = found.architecture.unwrap_or_default();
                Ok(Some(FoundImage { architecture, agent: labels.remove(LABEL_AGENT) }))
            }
            Err(RuntimeError::Refused { source, .. }) if status_of(source.as_ref()) == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn load_image(&self, archive: ImageArchive, tag: &str) -> Result<String, RuntimeError> {
        let load = async {
            let options = ImportImageOptionsBuilder::new().quiet(true).build();
            let mut said = std::pin::pin!(self.docker.import_image(options, body_try_stream(archive), None));
            while let Some(part) = said.next().await {
                if let Some(error) = part?.error_detail {
                    return Err(DockerError::DockerStreamError { error: error.message.unwrap_or_default() });
                }
            }
            Ok(())
        };
        match tokio::time::timeout(LOAD, load).await {
            Ok(loaded) => loaded.map_err(|error| refused("taking an image in", error))?,
            Err(elapsed) => return Err(RuntimeError::Unreachable(Box::new(elapsed))),
        }
        let found = bounded("looking for the image", self.docker.inspect_image(tag)).await?;
        found.id.ok_or_else(|| RuntimeError::NoImage(tag.to_owned()))
    }

    async fn shared_layers(&self, image: &str) -> Result<Vec<String>, RuntimeError> {
        match bounded("looking for the image", self.docker.inspect_image(image)).await {
            Ok(found) if can_append(&found) => Ok(found.root_fs.and_then(|root| root.layers).unwrap_or_default()),
            Ok(_) => Ok(Vec::new()),
            Err(RuntimeError::Refused { source, .. }) if status_of(source.as_ref()) == Some(404) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn image_name(&self, agent: &str, image: &str) -> String {
        images::name(self.server, agent, image)
    }

    async fn keep_image(&self, agent: &str, image: &str) -> Result<(), RuntimeError> {
        images::keep(&self.docker, self.server, agent, image).await
    }

    async fn release_images(&self, agent: &str, kept: &HashSet<String>) -> Result<usize, RuntimeError> {
        images::release(&self.docker, self.server, agent, kept).await
    }

    async fn remove_agent(&self, agent: &str) -> Result<(), RuntimeError> {
        images::release_all(&self.docker, self.server, agent).await?;
        match bounded("removing the agent's network", self.docker.remove_network(&self.network(agent))).await {
            Err(RuntimeError::Refused { source, .. }) if status_of(source.as_ref()) == Some(404) => Ok(()),
            other => other,
        }
    }

    fn exits(&self) -> mpsc::Receiver<ReplicaExit> {
        let mut taken = self.exits.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        taken.take().unwrap_or_else(|| mpsc::channel(1).1)
    }

    fn away_since(&self) -> Option<Instant> {
        *self.away_since.borrow()
    }

    async fn sees(&self, path: &Path) -> bool {
        crate::engine::sees(path).await
    }

    async fn has_folder(&self, id: Uuid, folder: &Path) -> Option<bool> {
        let name = self.name(id);
        let found = bounded("looking at a replica", self.docker.inspect_container(&name, None)).await.ok()?;
        let pid = found.state?.pid.filter(|pid| *pid > 0)?;
        let there = format!("/proc/{pid}/root{REPLICA_SIDE}");
        let (here, there) = (rustix::fs::stat(folder).ok()?, rustix::fs::stat(there.as_str()).ok()?);
        Some((here.st_dev, here.st_ino) == (there.st_dev, there.st_ino))
    }

    async fn engine(&self) -> Result<EngineInfo, RuntimeError> {
        engine_info(&self.docker).await
    }
}

/// Whose users containers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Users {
    /// The machine's.
    Machine,
    /// Others (`userns-remap`): replicas are asked for with the machine's.
    Remapped,
    /// Those of one user who runs the engine without root: a replica's is never the one that the server waits for.
    Rootless,
}

/// Whose users an engine's containers have, by what it says of itself (`docker info`, `SecurityOptions`).
pub async fn users(docker: &Docker) -> Result<Users, RuntimeError> {
    let info = bounded("asking what the engine is", docker.info()).await?;
    Ok(users_of(&info.security_options.unwrap_or_default()))
}

fn users_of(options: &[String]) -> Users {
    let has = |name: &str| options.iter().any(|option| option.split(',').any(|part| part == name));
    match (has("name=rootless"), has("name=userns")) {
        (true, _) => Users::Rootless,
        (false, true) => Users::Remapped,
        (false, false) => Users::Machine,
    }
}

/// What an engine is; the same for the server and for a CLI on the same machine.
pub async fn engine_info(docker: &Docker) -> Result<EngineInfo, RuntimeError> {
    let info = bounded("asking what the engine is", docker.info()).await?;
    let architecture = match info.architecture.unwrap_or_default().as_str() {
        // The kernel's names, as images name them.
        "x86_64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        "armv6l" | "armv7l" => "arm".to_owned(),
        "i386" | "i686" => "386".to_owned(),
        other => other.to_owned(),
    };
    Ok(EngineInfo { id: info.id.unwrap_or_default(), version: info.server_version.unwrap_or_default(), architecture })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_says_whose_users_its_containers_have() {
        let of = |options: &[&str]| users_of(&options.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["name=seccomp,profile=default"]), Users::Machine);
        assert_eq!(of(&["name=seccomp,profile=default", "name=userns"]), Users::Remapped);
        assert_eq!(of(&["name=seccomp,profile=default", "name=rootless", "name=cgroupns"]), Users::Rootless);
    }
}
