//! Has a Docker Engine make an image. Everything but the code its classic builder builds (it is in
//! every engine, and nothing of the plan needs more); that image is kept, and the code is laid on it as
//! one more layer, without a builder. Where an engine does not take that the builder makes the rest, too.

use crate::base::pipe::piped;
use crate::base::shutdown::CancellationToken;
use crate::engine::images::{
    LABEL_AGENT, LABEL_BASE, LABEL_DEPS, LABEL_INPUTS, LABEL_REVISION, LABEL_STANDS_ON, can_append,
};
use crate::engine::names::{self, Scope};
use crate::image::append::{Addition, Appended};
use crate::image::archive::{self, ArchiveError, Entry};
use crate::image::base;
use crate::image::bounds::StepBounds;
use crate::image::context::Project;
use crate::image::error::BuildError;
use crate::image::origin::Origin;
use crate::image::output::Parser;
use crate::image::plan::{COPY_DEPS, DOCKERFILE, Digests, Plan, PlanError, READY};
use crate::image::progress::Progress;
use crate::image::report::{BuildReporter, Built};
use crate::image::steps_left::{self, Replaced, Steps};
use crate::image::unsteady::READINGS;
use crate::image::way::Way;
use bollard::errors::Error as DockerError;
use bollard::models::{BuildInfo, ImageInspect};
use bollard::query_parameters::{BuildImageOptionsBuilder, ImportImageOptionsBuilder};
use bollard::{Docker, body_try_stream};
use futures_util::{Stream, StreamExt as _};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How long a build may take to put the engine in order behind it.
const CLEAR_UP: Duration = Duration::from_secs(10);
/// What engines say of a layer of their cache that somebody has removed meanwhile.
const LAYER_GONE: [&str; 3] = ["unknown parent image ID", "No such image: sha256:", "layer does not exist"];

/// What a build may differ in.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// The base image that a flag or the environment names.
    pub base_image: Option<String>,
    /// The proxies that steps of the build go through: variables and their values.
    pub proxies: Vec<(String, String)>,
    /// The platform that the image shall be for; none: whatever the base image is for.
    pub platform: Option<String>,
    /// Fetches the base image anew, whether or not it is there.
    pub pull: bool,
    /// Builds whether or not there is an image of the same inputs, using no layer of before.
    pub no_cache: bool,
    /// The image that serves: from the same inputs no other is made, on whichever machine this is.
    pub deployed: Option<Deployed>,
    /// The server that the image is for, whose names it gets; none: those of the project's folder.
    pub server: Option<Uuid>,
    /// What the steps may take of the engine's machine.
    pub bounds: StepBounds,
}

impl BuildOptions {
    /// Whose names the images of a project get.
    pub fn scope(&self, project: &Project) -> Scope {
        self.server.map_or_else(|| Scope::of_project(&project.folder), Scope::of_server)
    }
}

/// An image that was made somewhere, and from what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// The id of the image; this machine's engine need not have it.
    pub image_id: String,
    /// The digest of its inputs.
    pub inputs_digest: String,
}

/// The digest that an image of the project would have among its labels: nothing is built.
pub async fn inputs_digest(
    docker: &Docker,
    project: &Project,
    options: &BuildOptions,
    reporter: &dyn BuildReporter,
) -> Result<String, BuildError> {
    let base_name = base::name(&project.manifest, options.base_image.as_deref());
    let base = base::ensure(docker, &base_name, options.platform.as_deref(), false, reporter).await?;
    let project = project.clone();
    let digests = move || {
        let mut plan = Plan::of(&project, &base.name)?;
        plan.check_python(&base.python)?;
        plan.digests(&base.identity, &base.platform)
    };
    Ok(blocking(digests).await?.inputs)
}

/// What there is of an image without building it: the digest of its inputs, and itself, where the engine has it.
/// Nothing where the base image is not there: it is not fetched.
pub async fn find_built(
    docker: &Docker,
    origin: &Origin,
    options: &BuildOptions,
    reporter: &dyn BuildReporter,
) -> Result<Option<(String, Option<Built>)>, BuildError> {
    let base_name = origin.base_name(options.base_image.as_deref());
    let Some(base) = base::find(docker, &base_name, options.platform.as_deref()).await? else { return Ok(None) };
    let work = Work::new(docker, origin, options, reporter);
    let prepared = work.prepare(&base).await?;
    let digest = prepared.digests.inputs.clone();
    let existing = work.find_existing(&prepared).await?;
    Ok(Some((digest, existing.map(|(id, is_deployed)| work.finished(prepared, (id, None), true, is_deployed)))))
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
    build_from(docker, &Origin::project(project), options, reporter, cancel).await
}

/// [`build`], of whatever there is a plan of.
pub async fn build_from(
    docker: &Docker,
    origin: &Origin,
    options: &BuildOptions,
    reporter: &dyn BuildReporter,
    cancel: &CancellationToken,
) -> Result<Built, BuildError> {
    let work = Work::new(docker, origin, options, reporter);
    let done = cancel.run_until_cancelled(work.run()).await;
    work.clear_up(matches!(done, Some(Ok(_)))).await;
    match done {
        Some(Ok(built)) => Ok(built),
        Some(Err(error)) => Err(error.on_disk(docker).await),
        None => Err(BuildError::Interrupted),
    }
}

struct Work<'a> {
    docker: &'a Docker,
    origin: &'a Origin,
    options: &'a BuildOptions,
    reporter: &'a dyn BuildReporter,
    scope: Scope,
    started: Instant,
    /// How many steps were counted before the code, which is one more where it is laid on apart.
    counted: AtomicUsize,
    /// What the builder has made.
    steps: Mutex<Steps>,
    /// Whether the builder has laid the code in: the next change needs all stages again.
    is_whole: AtomicBool,
}

impl<'a> Work<'a> {
    fn new(docker: &'a Docker, origin: &'a Origin, options: &'a BuildOptions, reporter: &'a dyn BuildReporter) -> Self {
        Self {
            docker,
            origin,
            options,
            reporter,
            scope: options.server.map_or_else(|| Scope::of_project(origin.folder()), Scope::of_server),
            started: Instant::now(),
            counted: AtomicUsize::new(0),
            steps: Mutex::default(),
            is_whole: AtomicBool::new(false),
        }
    }

    fn agent(&self) -> &str {
        &self.origin.manifest().name
    }

    /// What was built in the project's folder for nobody yet is the server's from now on.
    async fn claim(&self) -> Result<(), BuildError> {
        let (Some(_), Origin::Project(project)) = (self.options.server, self.origin) else { return Ok(()) };
        let unclaimed = Scope::of_project(&project.folder);
        let moved = steps_left::rename(self.docker, self.agent(), &unclaimed, &self.scope).await;
        moved.map_err(|source| BuildError::engine("naming the images of earlier builds", source))
    }

    /// Takes away what the steps have left, however the build ended.
    async fn clear_up(&self, is_done: bool) {
        let steps = std::mem::take(&mut *self.steps.lock().unwrap_or_else(PoisonError::into_inner));
        if steps.is_empty() {
            return;
        }
        let tools = (is_done && !self.is_whole.load(Ordering::Relaxed)).then_some(COPY_DEPS);
        let clearing = steps_left::clear_up(self.docker, self.agent(), &self.scope, &steps, tools);
        let cleared = tokio::time::timeout(CLEAR_UP, clearing).await;
        if !matches!(cleared, Ok(Ok(()))) {
            tracing::debug!(?cleared, "images of a build's steps stay");
        }
    }

    async fn run(&self) -> Result<Built, BuildError> {
        let base_name = self.origin.base_name(self.options.base_image.as_deref());
        let BuildOptions { platform, pull, .. } = self.options;
        let base = base::ensure(self.docker, &base_name, platform.as_deref(), *pull, self.reporter).await?;
        for _ in 1..READINGS {
            match self.read_and_make(&base).await {
                Err(BuildError::Plan(PlanError::Archive(ArchiveError::Changed(path)))) => {
                    self.origin.meets_unsteady(&path);
                    self.reporter
                        .output(&format!("{} was changed meanwhile; reading the project again", path.display()));
                }
                made => return made,
            }
        }
        self.read_and_make(&base).await
    }

    async fn read_and_make(&self, base: &base::Base) -> Result<Built, BuildError> {
        let mut prepared = self.prepare(base).await?;
        let (made, cached, is_deployed) = match self.find_existing(&prepared).await? {
            Some((id, is_deployed)) => ((id, None), true, is_deployed),
            None => (self.make_somehow(&mut prepared).await?, false, false),
        };
        let built = self.finished(prepared, made, cached, is_deployed);
        self.reporter.finished(&built);
        Ok(built)
    }

    async fn prepare(&self, base: &base::Base) -> Result<Prepared, BuildError> {
        let (plan, digests) = {
            let (origin, base) = (self.origin.clone(), base.clone());
            blocking(move || {
                let mut plan = origin.plan(&base.name)?;
                plan.check_python(&base.python)?;
                let digests = plan.digests(&base.identity, &base.platform)?;
                Ok::<_, PlanError>((plan, digests))
            })
            .await?
        };
        let mut notes: Vec<String> = base::python_note(&base.python, self.origin.manifest()).into_iter().collect();
        notes.extend(plan.notes.iter().cloned());
        let tag = self.scope.built(self.agent(), &digests.inputs);
        let code = plan.code_entries().map(Arc::new);
        Ok(Prepared { base: base.clone(), plan: Arc::new(plan), digests, notes, tag, code })
    }

    /// The image of these inputs, and whether it is the one that serves.
    async fn find_existing(&self, prepared: &Prepared) -> Result<Option<(String, bool)>, BuildError> {
        if self.options.no_cache {
            return Ok(None);
        }
        let digest = &prepared.digests.inputs;
        if let Some(there) = self.options.deployed.as_ref().filter(|there| there.inputs_digest == *digest) {
            return Ok(Some((there.image_id.clone(), true)));
        }
        self.claim().await?;
        let found = self.find_image(&prepared.tag, LABEL_INPUTS, digest).await?;
        Ok(found.and_then(|image| image.id).map(|id| (id, false)))
    }

    async fn make_somehow(&self, prepared: &mut Prepared) -> Result<Made, BuildError> {
        let (plan, code) = (Arc::clone(&prepared.plan), prepared.code.clone());
        match self.make(&plan, &prepared.digests, &prepared.tag, code.as_deref()).await {
            Err(BuildError::Step { .. }) if plan.is_described => {
                self.reporter.output("a package could not be described without its code; building with it");
                let (whole, digests) = self.with_code(&prepared.base, prepared.digests.clone()).await?;
                let new: Vec<String> =
                    whole.notes.iter().filter(|note| !prepared.notes.contains(note)).cloned().collect();
                prepared.notes.extend(new);
                self.make(&Arc::new(whole), &digests, &prepared.tag, code.as_deref()).await
            }
            made => made,
        }
    }

    fn finished(&self, prepared: Prepared, made: Made, cached: bool, deployed: bool) -> Built {
        let (image_id, config) = made;
        let Prepared { base, digests, notes, tag, code, .. } = prepared;
        let seconds = self.started.elapsed().as_secs_f64();
        let (inputs_digest, python) = (digests.inputs, base.python);
        Built { image_id, tag, inputs_digest, cached, deployed, python, notes, seconds, code, config }
    }

    /// The plan with the packages' code, under the inputs' digest of the one without.
    async fn with_code(&self, base: &base::Base, digests: Digests) -> Result<(Plan, Digests), BuildError> {
        let (origin, base) = (self.origin.clone(), base.clone());
        blocking(move || {
            let mut plan = origin.plan_with_code(&base.name)?;
            let deps = plan.digests(&base.identity, &base.platform)?.deps;
            Ok((plan, Digests { deps, ..digests }))
        })
        .await
    }

    /// The image of this tag, where it is labelled so. Not by the label alone: an engine reads all its
    /// images for that (80 ms with 500 of them).
    async fn find_image(&self, tag: &str, label: &str, digest: &str) -> Result<Option<ImageInspect>, BuildError> {
        let found = match self.docker.inspect_image(tag).await {
            Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => return Ok(None),
            other => other.map_err(|source| BuildError::engine("looking for an image of the same inputs", source))?,
        };
        let labels = found.config.as_ref().and_then(|config| config.labels.as_ref());
        let same = labels.and_then(|labels| labels.get(label)).is_some_and(|value| value == digest);
        Ok(Some(found).filter(|_| same))
    }

    /// Lays the code on the image of everything else, which is built where it is not there.
    async fn make(
        &self,
        plan: &Arc<Plan>,
        digests: &Digests,
        tag: &str,
        code: Option<&Vec<Entry>>,
    ) -> Result<Made, BuildError> {
        let mut labels = HashMap::from([
            (LABEL_AGENT.to_owned(), self.agent().to_owned()),
            (LABEL_INPUTS.to_owned(), digests.inputs.clone()),
            (LABEL_STANDS_ON.to_owned(), digests.deps.clone()),
            (LABEL_BASE.to_owned(), plan.base_image.clone()),
        ]);
        labels.extend(self.origin.revision().map(|commit| (LABEL_REVISION.to_owned(), commit)));
        let whole = Target { stage: "", tag: tag.to_owned(), labels, no_cache: self.options.no_cache };
        let replaced = Replaced::find(self.docker, tag, self.options.no_cache).await;
        let Some(code) = code else {
            let id = self.build_twice(plan, &whole).await?;
            replaced.clear_up(self.docker, &id).await;
            return Ok((id, None));
        };
        let deps = self.ensure_deps(plan, &digests.deps).await?;
        let addition = Addition {
            entries: code.clone(),
            seen: Arc::clone(&plan.seen),
            workdir: plan.workdir().to_owned(),
            labels: whole.labels.clone(),
            without_label: LABEL_DEPS,
            tag: tag.to_owned(),
            created: jiff::Timestamp::now().to_string(),
        };
        let made = match self.append(deps, addition).await {
            Ok((id, config)) => (id, Some(config)),
            Err(NotAppended::Archive(error @ (ArchiveError::Changed(_) | ArchiveError::File { .. }))) => {
                return Err(PlanError::from(error).into());
            }
            Err(why) => {
                tracing::debug!(?why, "the code layer could not be handed over; the builder makes it");
                // What it shall not find in its cache is new by now.
                (self.build_twice(plan, &Target { no_cache: false, ..whole }).await?, None)
            }
        };
        replaced.clear_up(self.docker, &made.0).await;
        Ok(made)
    }

    /// Those of the plan and the proxies: engines keep these out of the image, its history and their cache.
    fn arguments(&self, plan: &Plan) -> HashMap<String, String> {
        let mut arguments = plan.build_arguments();
        match self.options.bounds.way {
            Some(_) => arguments.extend(Way::arguments()),
            None => arguments.extend(self.options.proxies.iter().cloned()),
        }
        arguments
    }

    /// The image of everything but the code. Its tag keeps it from those who clear away what has none.
    async fn ensure_deps(&self, plan: &Arc<Plan>, digest: &str) -> Result<ImageInspect, BuildError> {
        let tag = names::dependencies(digest);
        if !self.options.no_cache
            && let Some(image) = self.find_image(&tag, LABEL_DEPS, digest).await?
        {
            return Ok(image);
        }
        let labels = HashMap::from([(LABEL_DEPS.to_owned(), digest.to_owned())]);
        let replaced = Replaced::find(self.docker, &tag, self.options.no_cache).await;
        let target = Target { stage: READY, tag, labels, no_cache: self.options.no_cache };
        let id = self.build_twice(plan, &target).await?;
        replaced.clear_up(self.docker, &id).await;
        let image = self.docker.inspect_image(&id).await;
        image.map_err(|source| BuildError::engine("inspecting the image of the dependencies", source))
    }

    /// Makes the code layer and hands it to the engine.
    async fn append(&self, deps: ImageInspect, addition: Addition) -> Result<(String, Arc<Vec<u8>>), NotAppended> {
        if !can_append(&deps) {
            return Err(NotAppended::Unsuited);
        }
        let last = self.counted.load(Ordering::Relaxed) + 1;
        self.reporter.step_started(last, last, "the code");
        let history = match &deps.id {
            Some(id) => self.docker.image_history(id).await?,
            None => Vec::new(),
        };
        let appended = tokio::task::spawn_blocking(move || Appended::make(&deps, &history, &addition));
        let appended = appended.await.map_err(|_| NotAppended::Incomplete)??;
        let (id, config) = (appended.image_id.clone(), Arc::new(appended.config().to_vec()));
        let (writing, parts) = piped(move |pipe| appended.write(pipe));
        let options = ImportImageOptionsBuilder::new().quiet(true).build();
        let mut said = std::pin::pin!(self.docker.import_image(options, body_try_stream(parts), None));
        while let Some(part) = said.next().await {
            part?;
        }
        writing.await.map_err(|_| NotAppended::Incomplete)??;
        // An engine that names the image otherwise has not understood it as it was meant.
        let there = self.docker.inspect_image(&id).await?;
        if there.id.as_ref() == Some(&id) { Ok((id, config)) } else { Err(NotAppended::Incomplete) }
    }

    /// Builds, and once more where somebody else took a layer away that the build stood on (`docker
    /// rmi` removes untagged parents, which are what the classic builder's cache consists of).
    async fn build_twice(&self, plan: &Arc<Plan>, target: &Target) -> Result<String, BuildError> {
        match self.build(plan, target).await {
            Err(BuildError::Step { message, .. }) if LAYER_GONE.iter().any(|words| message.contains(words)) => {
                self.reporter.output("a layer of the cache was removed meanwhile; building again");
                self.build(plan, target).await
            }
            other => other,
        }
    }

    async fn build(&self, plan: &Arc<Plan>, target: &Target) -> Result<String, BuildError> {
        let options = BuildImageOptionsBuilder::new()
            .dockerfile(DOCKERFILE)
            .target(target.stage)
            .t(&target.tag)
            .labels(&target.labels)
            .buildargs(&self.arguments(plan))
            .nocache(target.no_cache)
            .rm(true)
            .forcerm(true);
        let way = match &self.options.bounds.way {
            Some(folder) => Some(Box::pin(Way::open(self.docker, &plan.base_image, folder, self.agent())).await?),
            None => None,
        };
        let options = self.options.bounds.of(options, way.as_ref()).build();
        let whole = target.stage.is_empty();
        self.is_whole.fetch_or(whole, Ordering::Relaxed);
        let (writing, parts) = {
            let plan = Arc::clone(plan);
            piped(move |pipe| {
                if whole {
                    archive::write(plan.entries_for(&plan.whole_dockerfile()), &plan.seen, pipe)
                } else {
                    archive::write(plan.deps_entries_for(&plan.deps_dockerfile()), &plan.seen, pipe)
                }
            })
        };
        let output = self.docker.build_image(options, None, Some(body_try_stream(parts)));
        let result = self.follow(plan, output, usize::from(!whole)).await;
        if let Ok(Err(error @ (ArchiveError::File { .. } | ArchiveError::Changed(_)))) = writing.await {
            return Err(PlanError::from(error).into());
        }
        result
    }

    /// Reads the engine's output to its end and returns the image's id.
    async fn follow(
        &self,
        plan: &Plan,
        output: impl Stream<Item = Result<BuildInfo, DockerError>>,
        more: usize,
    ) -> Result<String, BuildError> {
        let mut stream = std::pin::pin!(output);
        let mut parser = Parser::default();
        let mut progress = Progress {
            plan,
            reporter: self.reporter,
            steps: &self.steps,
            step: None,
            more,
            lines: VecDeque::new(),
            resolution: Vec::new(),
        };
        let mut image = None;
        while let Some(part) = stream.next().await {
            match part {
                Ok(info) => {
                    for event in parser.push(info.stream.as_deref().unwrap_or_default()) {
                        progress.take(event);
                    }
                    self.counted.store(progress.step.as_ref().map_or(0, |step| step.0), Ordering::Relaxed);
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

/// All that is known before anything is built.
struct Prepared {
    base: base::Base,
    plan: Arc<Plan>,
    digests: Digests,
    notes: Vec<String>,
    tag: String,
    code: Option<Arc<Vec<Entry>>>,
}

/// An image's id, and its config where that was made here.
type Made = (String, Option<Arc<Vec<u8>>>);

/// What a build makes.
struct Target {
    /// The stage that it ends with; empty for the last.
    stage: &'static str,
    tag: String,
    labels: HashMap<String, String>,
    no_cache: bool,
}

/// Why the code could not be laid on the image of everything else.
#[derive(Debug, thiserror::Error)]
enum NotAppended {
    #[error("the engine takes whole images only")]
    Unsuited,
    #[error("what the engine took is not the image")]
    Incomplete,
    #[error("the engine refuses it")]
    Engine(#[from] DockerError),
    #[error("the layer")]
    Archive(#[from] ArchiveError),
}
