//! Images that the server builds for those who deploy: what they send lies in a private folder while it is built,
//! so many builds go on at once, and one whose client has gone ends.

mod queue;
mod run;
mod scratch;
mod ways;

pub use run::Building;

use super::{AgentSettings, Control, ControlError};
use crate::api::builds::{BuildCheck, BuildRequest};
use crate::base::{disk, machine, pipe};
use crate::egress::Policy;
use crate::engine::Engine;
use crate::image::plan::recipe::{self, Bounds, RecipeError};
use crate::image::sent::{self, SentError};
use crate::image::{self, BuildOptions, Deployed, Origin, Sent, StepBounds};
use crate::manifest::Manifest;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use queue::{Queue, Ticket};
use scratch::{Scratch, Scratches};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How long the next piece of what is sent may take.
const SILENCE: Duration = Duration::from_secs(60);
/// How long the rest of something refused is still taken, so that its sender reads the answer.
const REST: Duration = Duration::from_secs(30);
/// Bytes that stay free on the disk of the data folder.
const SPARE_BYTES: u64 = 512 << 20;

/// What builds may take.
#[derive(Debug, Clone)]
pub struct BuildLimits {
    /// How many at once, and how many may wait.
    pub at_once: usize,
    /// How many may wait.
    pub waiting: usize,
    /// Bytes of what is sent, packed.
    pub packed_bytes: u64,
    /// What it unpacks to.
    pub unpacked: Bounds,
    /// How long a build may take, beside the time in the queue.
    pub time: Duration,
    /// What its steps may take.
    pub steps: StepBounds,
}

impl BuildLimits {
    /// Those of this machine.
    pub fn here() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::of(processors, machine::total_memory())
    }

    /// Those of a machine with so many processors and so much memory: replicas keep the most of both.
    pub fn of(processors: usize, memory_bytes: Option<u64>) -> Self {
        /// Engines take no larger one by the API that we speak to them.
        const MOST_MEMORY: u64 = (2 << 30) - 1;
        Self {
            at_once: (processors / 2).max(1),
            waiting: 32,
            packed_bytes: 1 << 30,
            unpacked: Bounds { files: 50_000, bytes: 4 << 30 },
            time: Duration::from_secs(30 * 60),
            steps: StepBounds {
                memory: memory_bytes.map(|bytes| (bytes / 2).min(MOST_MEMORY)),
                cpu_shares: Some(256),
                way: None,
            },
        }
    }
}

/// The builder of a server. Clones are the same.
#[derive(Clone)]
pub struct Builds(Arc<Inner>);

struct Inner {
    engine: Engine,
    scratches: Scratches,
    limits: BuildLimits,
    queue: Queue,
    /// The proxies that steps of builds go through.
    proxies: Vec<(String, String)>,
}

/// Why nothing is built.
#[derive(Debug, thiserror::Error)]
pub enum BuildsError {
    /// It was told to build nothing.
    #[error("this server builds no images")]
    Off,
    /// As many builds wait as may.
    #[error("{0} builds wait already")]
    Busy(usize),
    /// It is larger than it may be.
    #[error("what is sent has more than {}", disk::size(*.0))]
    TooLarge(u64),
    /// It is larger than it may be.
    #[error(transparent)]
    TooMuch(RecipeError),
    /// The disk of the data folder has too little room.
    #[error("it takes {}, and {} is free where the server keeps it", disk::size(*needed), disk::size(*free))]
    DiskFull {
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// It came too slowly, or broke off.
    #[error("what is sent came no further for {} s", SILENCE.as_secs())]
    Silent,
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] super::SettingsError),
    /// What was sent cannot be built from.
    #[error(transparent)]
    Sent(SentError),
    /// The folder that it goes to.
    #[error("the folder of what is built")]
    Folder(#[source] io::Error),
    /// Looking for what is there already.
    #[error(transparent)]
    Build(#[from] image::BuildError),
}

impl From<SentError> for BuildsError {
    fn from(error: SentError) -> Self {
        match error {
            SentError::Recipe(error @ RecipeError::TooMany { .. }) => Self::TooMuch(error),
            error => Self::Sent(error),
        }
    }
}

/// Something to build that has come whole, and its place in the queue.
pub struct Received {
    sent: Arc<Sent>,
    /// What the agent may reach.
    policy: Policy,
    ticket: Ticket,
    scratch: Scratch,
}

impl Builds {
    /// A builder with this engine, whose folder is below the data folder. Blocks: it removes what builds of a killed
    /// server have left.
    pub fn open(
        engine: Engine,
        data_dir: &Path,
        limits: BuildLimits,
        proxies: Vec<(String, String)>,
    ) -> io::Result<Self> {
        let scratches = Scratches::open(&data_dir.join("builds"))?;
        let queue = Queue::new(limits.at_once, limits.waiting);
        Ok(Self(Arc::new(Inner { engine, scratches, limits, queue, proxies })))
    }

    /// [`Builds::open`] with this machine's limits, `jobs` at once where that is said.
    pub async fn start(engine: &Engine, data_dir: &Path, jobs: Option<u32>) -> io::Result<Self> {
        let (engine, folder, mut limits) = (engine.clone(), data_dir.to_owned(), BuildLimits::here());
        if let Some(jobs) = jobs {
            limits.at_once = usize::try_from(jobs).unwrap_or(usize::MAX);
        }
        let open = move || Self::open(engine, &folder, limits, image::proxies());
        tokio::task::spawn_blocking(open).await.map_err(io::Error::other)?
    }

    /// Whether it builds anything.
    pub fn is_on(&self) -> bool {
        self.0.limits.at_once > 0
    }

    fn options(&self, request: &BuildRequest, server: Uuid, deployed: Option<Deployed>) -> BuildOptions {
        BuildOptions {
            base_image: None,
            proxies: self.0.proxies.clone(),
            platform: request.platform.clone(),
            no_cache: request.no_cache,
            pull: request.pull,
            deployed,
            server: Some(server),
            bounds: self.0.limits.steps.clone(),
        }
    }

    /// Whether its steps go out through the server's own proxy: where that machine needs one itself, they use it.
    fn has_ways(&self) -> bool {
        !self.0.proxies.iter().any(|(name, _)| !name.eq_ignore_ascii_case("NO_PROXY"))
    }

    fn check_is_on(&self) -> Result<(), BuildsError> {
        if self.is_on() { Ok(()) } else { Err(BuildsError::Off) }
    }

    /// Whether there is room for so many bytes.
    fn admit(&self, bytes: u64) -> Result<(), BuildsError> {
        let needed = bytes.saturating_add(SPARE_BYTES);
        match disk::free_bytes(self.0.scratches.folder()) {
            Some(free) if free < needed => Err(BuildsError::DiskFull { needed, free }),
            _ => Ok(()),
        }
    }
}

fn settings_of(request: &BuildRequest, agent: &str) -> Result<(Manifest, Policy), BuildsError> {
    let (manifest, spec) = crate::control::resolve(&request.manifest, agent)?;
    Ok((manifest, AgentSettings::of(&spec).policy))
}

impl Control {
    /// The builder of images.
    pub fn builds(&self) -> &Builds {
        &self.0.parts.builds
    }

    /// What the server has already of a build: nothing has been sent for it.
    pub async fn check_build(&self, agent: &str, request: BuildRequest) -> Result<BuildCheck, ControlError> {
        let builds = self.builds();
        builds.check_is_on()?;
        let (manifest, _) = settings_of(&request, agent)?;
        let contents = recipe::check(&request, builds.0.limits.unpacked).map_err(SentError::from);
        builds.admit(contents.map_err(BuildsError::from)?.values().sum())?;
        // One that is built anyway needs no look.
        if request.no_cache || request.pull {
            return Ok(BuildCheck { image: None, inputs_digest: None });
        }
        let options = builds.options(&request, self.server(), self.deployed(agent).await?);
        let origin = Origin::Sent(Arc::new(Sent { request, manifest, folder: PathBuf::new() }));
        let found = image::find_built(&builds.0.engine, &origin, &options, &run::Said::default()).await;
        let (inputs_digest, built) = match found.map_err(BuildsError::from)? {
            Some((digest, built)) => (Some(digest), built),
            None => (None, None),
        };
        Ok(BuildCheck { image: built.map(|built| run::done(&built, Duration::ZERO)), inputs_digest })
    }

    /// The image that serves, where the engine has it.
    async fn deployed(&self, agent: &str) -> Result<Option<Deployed>, ControlError> {
        let Some(known) = self.store().find_agent(agent).await? else { return Ok(None) };
        let Some(serving) = known.serving_release else { return Ok(None) };
        let Some(release) = self.store().find_release(serving).await? else { return Ok(None) };
        let is_there = self.runtime().find_image(&release.image).await?.is_some();
        let (image_id, inputs_digest) = (release.image, release.inputs_digest);
        Ok(is_there.then_some(Deployed { image_id, inputs_digest }))
    }

    /// Takes what is sent. All of it is read, also what is refused: its sender reads no answer before.
    pub async fn receive_build(
        &self,
        agent: &str,
        body: impl Stream<Item = io::Result<Bytes>> + Send,
    ) -> Result<Received, ControlError> {
        let builds = self.builds().clone();
        builds.check_is_on()?;
        let (most, agent) = (builds.0.limits.packed_bytes, agent.to_owned());
        let (feed, incoming) = pipe::incoming();
        // Whoever waits has sent all, so that the order is that of those who are ready.
        let silent = Arc::new(AtomicBool::new(false));
        let own = builds.clone();
        let mut taking = tokio::task::spawn_blocking(move || take(&own, &agent, incoming));
        let mut body = std::pin::pin!(body);
        let (mut bytes, mut is_read) = (0_u64, true);
        let mut until = None;
        let too_large = loop {
            let patience = until.map_or(SILENCE, |until: Instant| until.saturating_duration_since(Instant::now()));
            let piece = match tokio::time::timeout(patience, body.next()).await {
                Ok(Some(Ok(piece))) => piece,
                Ok(None) => break false,
                // A client that went away has sent no end either: what has come is no whole archive.
                Ok(Some(Err(error))) => {
                    let _ = feed.hand(Err(error)).await;
                    break false;
                }
                Err(_) => {
                    silent.store(true, Ordering::Relaxed);
                    let _ = feed.hand(Err(io::ErrorKind::TimedOut.into())).await;
                    break false;
                }
            };
            bytes += piece.len() as u64;
            if bytes > most {
                break true;
            }
            if is_read && !feed.hand(Ok(piece)).await {
                (is_read, until) = (false, Some(Instant::now() + REST));
            }
        };
        drop(feed);
        let taken = (&mut taking).await;
        if too_large {
            return Err(BuildsError::TooLarge(most).into());
        }
        let taken = taken.map_err(|_| BuildsError::Folder(io::Error::other("the thread that writes it has ended")))?;
        match taken {
            Err(BuildsError::Sent(SentError::Unreadable(_))) if silent.load(Ordering::Relaxed) => {
                Err(BuildsError::Silent.into())
            }
            taken => {
                let (sent, policy, scratch) = taken?;
                let ticket = builds.0.queue.enter().ok_or(BuildsError::Busy(builds.0.limits.waiting))?;
                Ok(Received { sent: Arc::new(sent), policy, ticket, scratch })
            }
        }
    }
}

/// Reads what is sent into a folder of its own. Blocks.
fn take(builds: &Builds, agent: &str, incoming: pipe::Incoming) -> Result<(Sent, Policy, Scratch), BuildsError> {
    let scratch = builds.0.scratches.make().map_err(BuildsError::Folder)?;
    let mut settings = None;
    let request = sent::read(incoming, scratch.path(), builds.0.limits.unpacked, |request, bytes| {
        settings = Some(settings_of(request, agent)?);
        builds.admit(bytes)
    })?;
    let (manifest, policy) = settings.ok_or(SentError::Missing(1))?;
    let policy = ways::policy(&policy, &request, scratch.path());
    Ok((Sent { request, manifest, folder: scratch.path().to_owned() }, policy, scratch))
}
