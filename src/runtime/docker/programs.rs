//! Programs out of an image, where this machine has none: run to their end, or left running beside the server.
//! They see folders of this machine under the same paths, its processes, and no network.

use super::calls::{bounded, refused, status_of};
use crate::engine::{self, PullError};
use crate::runtime::RuntimeError;
use bollard::Docker;
use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder,
};
use futures_util::StreamExt as _;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long an image may take to be fetched.
const PULL: Duration = Duration::from_mins(15);
/// How long a container that is being removed may keep its name.
const REMOVAL: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The most that is kept of what a program says.
const MOST_BYTES: usize = 1 << 20;
/// Memory that its processes may share.
const SHARED_BYTES: i64 = 256 << 20;

/// Why a program of an image could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ProgramsError {
    /// The engine has not the image, and cannot get it.
    #[error("{0}")]
    Unavailable(String),
    /// No engine.
    #[error(transparent)]
    NoEngine(#[from] engine::EngineError),
    /// The engine refused, or was lost.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// It took too long.
    #[error("it took longer than {0} s")]
    TimedOut(u64),
}

/// An image that the engine has.
#[derive(Debug, Clone)]
pub struct ImagePrograms {
    docker: Docker,
    image: String,
}

/// One program of it.
#[derive(Debug, Clone)]
pub struct Program {
    /// The container's name: there is one of it at a time.
    pub name: String,
    /// Its label.
    pub label: (&'static str, String),
    /// The program and its arguments. No secret is among them.
    pub words: Vec<String>,
    /// Who runs it: user and group.
    pub user: (u32, u32),
    /// What it sees of this machine: where, under which path, and whether it may only read.
    pub mounts: Vec<(PathBuf, PathBuf, bool)>,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// 0 when it did what it was to do.
    pub code: i64,
    /// What it wrote to stdout.
    pub out: String,
    /// What it wrote to stderr.
    pub err: String,
}

impl ImagePrograms {
    /// Whether an engine answers that has the image already.
    pub async fn has(image: &str) -> Result<bool, ProgramsError> {
        Ok(engine::has_image(&engine::connect().await?, image).await?)
    }

    /// The image, fetched where the engine has not got it.
    pub async fn of(image: &str) -> Result<Self, ProgramsError> {
        let docker = engine::connect().await?;
        if !engine::has_image(&docker, image).await? {
            tracing::info!(image, "fetching an image");
            match tokio::time::timeout(PULL, engine::pull(&docker, image, None)).await {
                Ok(Ok(())) => {}
                Ok(Err(PullError::Unavailable { message, .. })) => return Err(ProgramsError::Unavailable(message)),
                Ok(Err(PullError::Engine(source))) => return Err(refused("fetching an image", source).into()),
                Err(_) => return Err(ProgramsError::TimedOut(PULL.as_secs())),
            }
        }
        Ok(Self { docker, image: image.to_owned() })
    }

    /// Its name.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// Runs a program to its end.
    pub async fn run(&self, program: &Program, limit: Duration) -> Result<Ended, ProgramsError> {
        self.create(program, false).await?;
        let ended = tokio::time::timeout(limit, self.watch(&program.name)).await;
        let removed = self.remove(&program.name).await;
        let ended = ended.map_err(|_| ProgramsError::TimedOut(limit.as_secs()))??;
        removed?;
        Ok(ended)
    }

    async fn watch(&self, name: &str) -> Result<Ended, RuntimeError> {
        let lost = |error| refused("reading what a program says", error);
        // Attached before the start, so that nothing is missed.
        let options = AttachContainerOptionsBuilder::new().stdout(true).stderr(true).stream(true).build();
        let attach = self.docker.attach_container(name, Some(options));
        let mut output = bounded("listening to a program", attach).await?.output;
        bounded("starting a program", self.docker.start_container(name, None)).await?;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        while let Some(part) = output.next().await {
            use bollard::container::LogOutput;
            let (to, part) = match part.map_err(lost)? {
                LogOutput::StdErr { message } => (&mut err, message),
                LogOutput::StdOut { message } | LogOutput::Console { message } | LogOutput::StdIn { message } => {
                    (&mut out, message)
                }
            };
            to.extend_from_slice(&part[..part.len().min(MOST_BYTES.saturating_sub(to.len()))]);
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        loop {
            let found = bounded("asking how a program ended", self.docker.inspect_container(name, None)).await?;
            let state = found.state.unwrap_or_default();
            if state.running != Some(true) {
                return Ok(Ended { code: state.exit_code.unwrap_or(-1), out: text(&out), err: text(&err) });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Starts a program that goes on without us; the engine removes its container at its end. One of that name
    /// that is still there is ended.
    pub async fn start(&self, program: &Program) -> Result<(), ProgramsError> {
        self.create(program, true).await?;
        let started = bounded("starting a program", self.docker.start_container(&program.name, None)).await;
        if started.is_err() {
            let _ = self.remove(&program.name).await;
        }
        Ok(started?)
    }

    /// Whether a program that was started still runs.
    pub async fn runs(&self, name: &str) -> Result<bool, ProgramsError> {
        match bounded("looking for a program", self.docker.inspect_container(name, None)).await {
            Ok(found) => Ok(found.state.is_some_and(|state| state.running == Some(true))),
            Err(error) if status(&error) == Some(404) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn create(&self, program: &Program, stays: bool) -> Result<(), ProgramsError> {
        let deadline = Instant::now() + REMOVAL;
        loop {
            let options = CreateContainerOptionsBuilder::new().name(&program.name).build();
            let create = self.docker.create_container(Some(options), self.body(program, stays));
            match bounded("making a container", create).await {
                Ok(_) => return Ok(()),
                // What a killed server has left, or one that is on its way out.
                Err(error) if status(&error) == Some(409) && Instant::now() < deadline => {
                    self.remove(&program.name).await?;
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn remove(&self, name: &str) -> Result<(), RuntimeError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match bounded("removing a container", self.docker.remove_container(name, Some(options))).await {
            // Gone already, or on its way.
            Err(error) if matches!(status(&error), Some(404 | 409)) => Ok(()),
            other => other,
        }
    }

    fn body(&self, program: &Program, stays: bool) -> ContainerCreateBody {
        let mount = |(source, target, read_only): &(PathBuf, PathBuf, bool)| Mount {
            target: Some(target.display().to_string()),
            source: Some(source.display().to_string()),
            typ: Some(MountType::BIND),
            read_only: Some(*read_only),
            ..Mount::default()
        };
        let (user, group) = program.user;
        let host = HostConfig {
            network_mode: Some("none".to_owned()),
            // Its processes are this machine's: they are looked for and ended by their numbers, as those of
            // programs that lie on this machine.
            pid_mode: Some("host".to_owned()),
            // An engine with users of its own (userns-remap) shares its processes with none but these.
            userns_mode: Some("host".to_owned()),
            readonly_rootfs: Some(true),
            tmpfs: Some(HashMap::from([("/tmp".to_owned(), "rw,nosuid,nodev,mode=1777".to_owned())])),
            mounts: Some(program.mounts.iter().map(mount).collect()),
            cap_drop: Some(vec!["ALL".to_owned()]),
            // Root reaches folders of others, as it does outside.
            cap_add: (user == 0).then(|| vec!["DAC_OVERRIDE".to_owned()]),
            security_opt: Some(vec!["no-new-privileges:true".to_owned()]),
            shm_size: Some(SHARED_BYTES),
            auto_remove: Some(stays),
            // Who started it looks after it.
            restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(HashMap::from([("max-size".to_owned(), "1m".to_owned())])),
            }),
            ..HostConfig::default()
        };
        ContainerCreateBody {
            image: Some(self.image.clone()),
            user: Some(format!("{user}:{group}")),
            entrypoint: Some(program.words.clone()),
            cmd: Some(Vec::new()),
            env: Some(vec!["LC_ALL=C".to_owned(), "TZ=UTC".to_owned()]),
            labels: Some(HashMap::from([(program.label.0.to_owned(), program.label.1.clone())])),
            attach_stdout: Some(!stays),
            attach_stderr: Some(!stays),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        }
    }
}

/// The engine's status code.
fn status(error: &RuntimeError) -> Option<u16> {
    match error {
        RuntimeError::Refused { source, .. } => status_of(source.as_ref()),
        _ => None,
    }
}
