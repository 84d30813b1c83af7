//! The way of an image out of this machine's engine: into the server's registry, or into another one.

use crate::api::images::LayersRequest;
use crate::cli::exit::{Exit, Failure};
use crate::cli::ui::{Printer, Progress};
use crate::client::Client;
use crate::client::registry::{RegistryClientError, RepositoryClient};
use crate::engine::Engine;
use crate::engine::credentials::{self, DockerConfigError, Login};
use crate::engine::names::short;
use crate::image::Built;
use crate::image::push::{self, Known, LATEST, PushError, Pushed};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often the line that moves does.
const TICK: Duration = Duration::from_millis(200);
const MIB: u64 = 1 << 20;

/// An image that is in a registry.
pub struct Moved {
    /// What came of it.
    pub pushed: Pushed,
    /// `HOST/PATH@sha256:…`
    pub reference: String,
    /// How long it took.
    pub seconds: f64,
}

/// Pushes into the server's own registry what it lacks.
pub async fn to_server(
    client: &Client,
    docker: &Engine,
    agent: &str,
    built: &Built,
    printer: &Printer,
) -> Result<Moved, Failure> {
    let began = Instant::now();
    let diff_ids = push::layers(docker, &built.image_id).await?;
    let answer = client.layers(agent, &LayersRequest { diff_ids: diff_ids.clone() }).await?;
    let layers = diff_ids.into_iter().zip(answer.layers);
    let known: Known = layers.filter_map(|(id, layer)| Some((id, layer?))).collect();
    let repository = client.repository(&answer.repository)?;
    let sent = Arc::new(AtomicU64::new(0));
    let pushing = push::push(docker, built, &repository, &known, &[], &sent);
    let pushed = watched(pushing, &sent, &repository.shown(), &printer.progress()).await?;
    Ok(moved(&repository, pushed, began))
}

/// Whether that is the name of a registry and a path in it: said before anything is built.
pub fn check(registry: &str) -> Result<(), Failure> {
    RepositoryClient::of(registry, "agent", Login::None)?;
    Ok(())
}

/// Pushes into any registry (`HOST/PATH`), under the digest of the inputs and as the latest.
pub async fn to_registry(
    registry: &str,
    docker: &Engine,
    agent: &str,
    built: &Built,
    printer: &Printer,
) -> Result<Moved, Failure> {
    let began = Instant::now();
    let host = registry.split('/').next().unwrap_or_default();
    let login = match credentials::folder() {
        Some(folder) => credentials::login(&folder, host).await?,
        None => Login::None,
    };
    let repository = RepositoryClient::of(registry, agent, login)?;
    let known = push::known(&repository).await?;
    let tag = short(&built.inputs_digest);
    let sent = Arc::new(AtomicU64::new(0));
    let tags = [tag.as_str(), LATEST];
    let pushing = push::push(docker, built, &repository, &known, &tags, &sent);
    let pushed = watched(pushing, &sent, &repository.shown(), &printer.progress()).await?;
    Ok(moved(&repository, pushed, began))
}

fn moved(repository: &RepositoryClient, pushed: Pushed, began: Instant) -> Moved {
    let reference = format!("{}@{}", repository.shown(), pushed.digest);
    Moved { pushed, reference, seconds: began.elapsed().as_secs_f64() }
}

async fn watched<T>(
    pushing: impl Future<Output = Result<T, PushError>>,
    sent: &AtomicU64,
    to: &str,
    progress: &Progress,
) -> Result<T, PushError> {
    let mut pushing = std::pin::pin!(pushing);
    progress.passing(format!("push to {to}"));
    loop {
        tokio::select! {
            done = &mut pushing => return done,
            () = tokio::time::sleep(TICK) => {
                progress.passing(format!("push to {to}: {} MiB", sent.load(Ordering::Relaxed) / MIB));
            }
        }
    }
}

impl From<PushError> for Failure {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Registry(error) => error.into(),
            PushError::Disk { .. } => {
                Self::new(Exit::Failed, error).hint("make room there, or set TMPDIR to another folder")
            }
            error => Self::new(Exit::Failed, error),
        }
    }
}

impl From<RegistryClientError> for Failure {
    fn from(error: RegistryClientError) -> Self {
        let (exit, hint) = match &error {
            RegistryClientError::Name(_) => (Exit::Usage, Some("for example ghcr.io/team/agents".to_owned())),
            RegistryClientError::Unreachable { .. } => {
                let hint = "when it is back, the same command goes on: layers that have arrived are not sent again";
                (Exit::Unreachable, Some(hint.to_owned()))
            }
            RegistryClientError::Login { registry, .. } => {
                (Exit::NotAllowed, Some(format!("log in: `docker login {registry}`")))
            }
            RegistryClientError::Refused { status: 401 | 403, registry, .. } => {
                (Exit::NotAllowed, Some(format!("may this login push there? `docker login {registry}`")))
            }
            RegistryClientError::Refused { status: 507, .. } => {
                (Exit::Failed, Some("make room on the disk of the server's data folder, then try again".to_owned()))
            }
            _ => (Exit::Failed, None),
        };
        let failure = Self::new(exit, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<DockerConfigError> for Failure {
    fn from(error: DockerConfigError) -> Self {
        Self::new(Exit::Failed, error).hint("`docker login` writes it again")
    }
}
