//! Has a Docker Engine build an image, by its classic builder: it is in every engine, and nothing of
//! the plan needs more.

use crate::base::shutdown::CancellationToken;
use crate::image::archive::{self, ArchiveError};
use crate::image::base;
use crate::image::context::Project;
use crate::image::output::{Event, Parser};
use crate::image::plan::{DOCKERFILE, Plan, PlanError};
use crate::image::revision::find_revision;
use bollard::errors::Error as DockerError;
use bollard::models::BuildInfo;
use bollard::query_parameters::{BuildImageOptionsBuilder, ListImagesOptionsBuilder};
use bollard::{Docker, body_try_stream};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;

/// The agent that an image is of.
pub const LABEL_AGENT: &str = "rapidclaw.agent";
/// The digest of all that an image was built from.
pub const LABEL_INPUTS: &str = "rapidclaw.inputs";
/// The commit of its source.
pub const LABEL_REVISION: &str = "org.opencontainers.image.revision";

/// How many of the last lines of a failed step an error holds.
const LAST_LINES: usize = 50;

/// What a build may differ in.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// The base image that a flag or the environment names.
    pub base_image: Option<String>,
    /// Builds whether or not there is an image of the same inputs, using no layer of before.
    pub no_cache: bool,
}

/// Hears how a build goes on. It is called between two lines of output and should not block.
pub trait BuildReporter: Send + Sync {
    /// A step began. `title` is empty for those that are not worth a word.
    fn step_started(&self, number: usize, total: usize, title: &str);
    /// The step that began is the same as in an earlier build.
    fn step_cached(&self, number: usize, total: usize, title: &str);
    /// A line that the current step printed.
    fn output(&self, line: &str);
    /// The image is there.
    fn finished(&self, built: &Built);
}

/// What came of a build.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// The engine's id of the image: `sha256:…`.
    pub image_id: String,
    /// Its tag: `rapidclaw/AGENT:` and the first 12 digits of the inputs' digest.
    pub tag: String,
    /// The digest of the inputs: `sha256:…`.
    pub inputs_digest: String,
    /// Whether it was there already.
    pub cached: bool,
    /// The Python in it, `3.13.5`; empty where it is not known.
    pub python: String,
    /// What should be said.
    pub notes: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The base image is neither here nor to be had.
    #[error("the base image {image} is not on this machine and cannot be pulled: {message}")]
    BaseImageUnavailable {
        /// Its name.
        image: String,
        /// What the engine says.
        message: String,
    },
    /// The project cannot be made an image of.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The dependencies do not resolve.
    #[error("the dependencies do not resolve:\n{0}")]
    Dependencies(String),
    /// A step failed.
    #[error("the step `{step}` failed: {message}")]
    Step {
        /// What the step does, or its instruction.
        step: String,
        /// What the engine says.
        message: String,
        /// The last lines of its output.
        last_lines: Vec<String>,
    },
    /// The engine failed.
    #[error("{doing}")]
    Engine {
        /// What it was doing.
        doing: &'static str,
        /// What it says.
        source: Box<DockerError>,
    },
    /// It was cancelled.
    #[error("the build was interrupted")]
    Interrupted,
}

impl BuildError {
    pub(crate) fn engine(doing: &'static str, source: DockerError) -> Self {
        Self::Engine { doing, source: Box::new(source) }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::BaseImageUnavailable { image, .. } => Some(format!(
                "try `docker pull {image}` (it knows your registry logins); without a registry make one with \
                 scripts/base-image.sh and give it with --base-image or RAPIDCLAW_BASE_IMAGE"
            )),
            Self::Dependencies(_) => Some("change the versions that the project asks for until they agree".into()),
            Self::Step { message, .. } if message.contains("requires BuildKit") => {
                Some("`dockerfile_lines` may not use what only BuildKit knows (RUN --mount, heredocs)".into())
            }
            Self::Step { .. } => {
                Some("mend what the step says, then try again; -v shows all that the build prints".into())
            }
            _ => None,
        }
    }
}

/// Builds the image of a project, unless one of the same inputs is there. Dropping the future or
/// cancelling ends the build at the engine, too, which takes its containers away.
pub async fn build(
    docker: &Docker,
    project: &Project,
    options: &BuildOptions,
    reporter: &dyn BuildReporter,
    cancel: &CancellationToken,
) -> Result<Built, BuildError> {
    let work = Work { docker, project, options, reporter, started: Instant::now() };
    cancel.run_until_cancelled(work.run()).await.unwrap_or(Err(BuildError::Interrupted))
}

struct Work<'a> {
    docker: &'a Docker,
    project: &'a Project,
    options: &'a BuildOptions,
    reporter: &'a dyn BuildReporter,
    started: Instant,
}

impl Work<'_> {
    async fn run(&self) -> Result<Built, BuildError> {
        let manifest = &self.project.manifest;
        let base_name = base::name(manifest, self.options.base_image.as_deref());
        let base = base::ensure(self.docker, &base_name, self.reporter).await?;
        let (plan, digest) = {
            let (project, base) = (self.project.clone(), base.clone());
            blocking(move || {
                let plan = Plan::of(&project, &base.name)?;
                let digest = plan.inputs_digest(&base.id, &base.platform)?;
                Ok::<_, PlanError>((plan, digest))
            })
            .await?
        };
        let mut notes: Vec<String> = base::python_note(&base.python, manifest).into_iter().collect();
        notes.extend(plan.notes.iter().cloned());
        let short: String = digest.trim_start_matches("sha256:").chars().take(12).collect();
        let tag = format!("rapidclaw/{}:{short}", manifest.name);
        let existing = if self.options.no_cache { None } else { self.find_image(&digest).await? };
        let cached = existing.is_some();
        let image_id = match existing {
            Some(id) => id,
            None => self.build_twice(&Arc::new(plan), &digest, &tag).await?,
        };
        let seconds = self.started.elapsed().as_secs_f64();
        let built = Built { image_id, tag, inputs_digest: digest, cached, python: base.python, notes, seconds };
        self.reporter.finished(&built);
        Ok(built)
    }

    /// The image that was built from the same inputs.
    async fn find_image(&self, digest: &str) -> Result<Option<String>, BuildError> {
        let filters = HashMap::from([("label".to_owned(), vec![format!("{LABEL_INPUTS}={digest}")])]);
        let options = ListImagesOptionsBuilder::new().filters(&filters).build();
        let found = self.docker.list_images(Some(options)).await;
        let found = found.map_err(|source| BuildError::engine("looking for an image of the same inputs", source))?;
        Ok(found.into_iter().max_by_key(|image| image.created).map(|image| image.id))
    }

    /// Builds, and once more where somebody else took a layer away that the build stood on (`docker
    /// rmi` removes untagged parents, which are what the classic builder's cache consists of).
    async fn build_twice(&self, plan: &Arc<Plan>, digest: &str, tag: &str) -> Result<String, BuildError> {
        match self.build(plan, digest, tag).await {
            Err(BuildError::Step { message, .. }) if message.contains("unknown parent image ID") => {
                self.reporter.output("a layer of the cache was removed meanwhile; building again");
                self.build(plan, digest, tag).await
            }
            other => other,
        }
    }

    async fn build(&self, plan: &Arc<Plan>, digest: &str, tag: &str) -> Result<String, BuildError> {
        let mut labels = HashMap::from([
            (LABEL_AGENT.to_owned(), self.project.manifest.name.clone()),
            (LABEL_INPUTS.to_owned(), digest.to_owned()),
        ]);
        labels.extend(find_revision(&self.project.folder).map(|commit| (LABEL_REVISION.to_owned(), commit)));
        let options = BuildImageOptionsBuilder::new()
            .dockerfile(DOCKERFILE)
            .t(tag)
            .labels(&labels)
            .nocache(self.options.no_cache)
            .rm(true)
            .forcerm(true)
            .build();
        let (sender, receiver) = mpsc::channel(16);
        let writing = {
            let plan = Arc::clone(plan);
            tokio::task::spawn_blocking(move || {
                let writer = io::BufWriter::with_capacity(64 << 10, Pipe(sender.clone()));
                let written = archive::write(&plan.entries, writer);
                if written.is_err() {
                    let _ = sender.blocking_send(Err(io::Error::other("the archive is incomplete")));
                }
                written
            })
        };
        let parts = stream::unfold(receiver, async |mut receiver: mpsc::Receiver<io::Result<Bytes>>| {
            let part = receiver.recv().await?;
            Some((part, receiver))
        });
        let output = self.docker.build_image(options, None, Some(body_try_stream(parts)));
        let result = self.follow(plan, output).await;
        if result.is_err()
            && let Ok(Err(error @ ArchiveError::File { .. })) = writing.await
        {
            return Err(PlanError::from(error).into());
        }
        result
    }

    /// Reads the engine's output to its end and returns the image's id.
    async fn follow(
        &self,
        plan: &Plan,
        output: impl Stream<Item = Result<BuildInfo, DockerError>>,
    ) -> Result<String, BuildError> {
        let mut stream = std::pin::pin!(output);
        let mut parser = Parser::default();
        let mut progress = Progress { plan, reporter: self.reporter, step: None, lines: VecDeque::new() };
        let mut image = None;
        while let Some(part) = stream.next().await {
            match part {
                Ok(info) => {
                    for event in parser.push(info.stream.as_deref().unwrap_or_default()) {
                        progress.take(event);
                    }
                    image = info.aux.and_then(|aux| aux.id).or(image);
                    if let Some(error) = info.error_detail {
                        return Err(progress.failure(error.message.unwrap_or_default()));
                    }
                }
                Err(DockerError::DockerStreamError { error }) => {
                    for event in parser.finish() {
                        progress.take(event);
                    }
                    return Err(progress.failure(error));
                }
                Err(DockerError::DockerResponseServerError { message, .. }) => return Err(progress.failure(message)),
                Err(error) => return Err(BuildError::engine("building the image", error)),
            }
        }
        image.ok_or_else(|| progress.failure("the engine ended the build without an image".into()))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PlanError> + Send + 'static,
) -> Result<T, BuildError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(BuildError::Interrupted),
    }
}

/// The way of the archive from a thread that may block to the connection. It ends where nobody reads.
struct Pipe(mpsc::Sender<io::Result<Bytes>>);

impl io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where the build is.
struct Progress<'a> {
    plan: &'a Plan,
    reporter: &'a dyn BuildReporter,
    /// Number, total, instruction.
    step: Option<(usize, usize, String)>,
    lines: VecDeque<String>,
}

impl Progress<'_> {
    fn title(&self) -> &'static str {
        let instruction = self.step.as_ref().map(|(_, _, text)| text.as_str());
        instruction.and_then(|text| self.plan.layer(text)).map_or("", |layer| layer.title)
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Step { number, total, instruction } => {
                self.lines.clear();
                self.step = Some((number, total, instruction));
                self.reporter.step_started(number, total, self.title());
            }
            Event::Cached => {
                if let Some((number, total, _)) = &self.step {
                    self.reporter.step_cached(*number, *total, self.title());
                }
            }
            Event::Output(line) => {
                self.reporter.output(&line);
                if self.lines.len() == LAST_LINES {
                    self.lines.pop_front();
                }
                self.lines.push_back(line);
            }
        }
    }

    fn failure(&self, message: String) -> BuildError {
        let instruction = self.step.as_ref().map_or("", |(_, _, text)| text.as_str());
        let layer = self.plan.layer(instruction);
        let last_lines: Vec<String> = self.lines.iter().cloned().collect();
        if layer.is_some_and(|layer| layer.dependencies)
            && let Some(said) = super::output::resolution_failure(&last_lines)
        {
            return BuildError::Dependencies(said);
        }
        let title = layer.map(|layer| layer.title).filter(|title| !title.is_empty() && *title != "dockerfile_lines");
        let step = title.map_or_else(|| instruction.to_owned(), ToOwned::to_owned);
        let step = if step.is_empty() { "reading the Dockerfile".to_owned() } else { step };
        // The engine repeats the whole instruction; of that only the end tells anything.
        let message = match message.rsplit_once("returned a non-zero code: ") {
            Some((_, code)) => format!("exit code {code}"),
            None => message,
        };
        BuildError::Step { step, message, last_lines }
    }
}
