//! Builds on the server: what is sent, and what is shown of them.

use super::build::{image_options, project_of};
use super::project::Checked;
use crate::api::builds::{BuildCheck, BuildDone, BuildEvent, BuildRequest, PipConfig};
use crate::base::pipe::piped;
use crate::base::secret::ExposeSecret as _;
use crate::cli::args::{BuildOptions, Global};
use crate::cli::exit::{Exit, Failure};
use crate::cli::ui::{BuildLines, Printer, Progress};
use crate::client::{Client, ClientError};
use crate::image::archive::ArchiveError;
use crate::image::plan::recipe::Contents;
use crate::image::{self, BuildError, BuildReporter as _, Built, Plan, PlanError, READINGS, find_revision, sent};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often the line that moves does while something is sent.
const TICK: Duration = Duration::from_millis(200);
const MIB: u64 = 1 << 20;

/// What a build on the server needs from here.
pub struct Sending {
    request: BuildRequest,
    contents: Contents,
}

/// Reads the project: what is sent is what a build here would be made from.
pub async fn prepare(checked: &Checked, options: &BuildOptions) -> Result<Sending, Failure> {
    let (project, how) = (project_of(checked, options), image_options(options));
    let preparing = tokio::task::spawn_blocking(move || {
        let base_image = image::base::name(&project.manifest, how.base_image.as_deref());
        let plan = Plan::of(&project, &base_image)?;
        let (recipe, mut contents) = plan.recipe()?;
        let with_code = if plan.is_described {
            let (recipe, more) = Plan::with_code(&project, &base_image)?.recipe()?;
            contents.extend(more);
            Some(recipe)
        } else {
            None
        };
        let pip_config = plan.pip_config().map(|text| PipConfig(text.expose_secret().into()));
        let request = BuildRequest {
            manifest: project.manifest.raw.clone(),
            base_image,
            platform: how.platform,
            no_cache: how.no_cache,
            pull: how.pull,
            revision: find_revision(&project.folder),
            pip_config,
            recipe,
            with_code,
        };
        Ok::<_, PlanError>(Sending { request, contents })
    });
    match preparing.await {
        Ok(sending) => Ok(sending.map_err(BuildError::from)?),
        Err(error) => Err(Failure::new(Exit::Failed, error)),
    }
}

/// The image of a project: the one that the server has, else one that it makes. What changes while it is sent is read
/// again, as it is where it is built here.
pub async fn build(
    client: &Client,
    checked: &Checked,
    options: &BuildOptions,
    global: &Global,
    printer: &Printer,
) -> Result<Built, Failure> {
    let agent = &checked.loaded.manifest.name;
    let lines = BuildLines::new(printer.progress(), global.verbose > 0);
    let mut readings = 0;
    let built = loop {
        readings += 1;
        let sending = prepare(checked, options).await?;
        if let Some(there) = sending.check(client, agent).await?.image {
            break built(there);
        }
        match sending.send(client, agent, &lines).await? {
            Ended::Built(built) => break built,
            Ended::Changed(path) if readings < READINGS => {
                checked.unsteady.meet(&path);
                lines.output(&format!("{} was changed meanwhile; reading the project again", path.display()));
            }
            Ended::Changed(path) => return Err(BuildError::from(PlanError::from(ArchiveError::Changed(path))).into()),
        }
    };
    lines.finished(&built);
    Ok(built)
}

/// What came of sending a project.
enum Ended {
    Built(Built),
    /// A file of it was changed meanwhile.
    Changed(PathBuf),
}

impl Sending {
    /// What the server has of it already.
    pub async fn check(&self, client: &Client, agent: &str) -> Result<BuildCheck, Failure> {
        client.check_build(agent, &self.request).await.map_err(refused)
    }

    async fn send(self, client: &Client, agent: &str, lines: &BuildLines) -> Result<Ended, Failure> {
        let progress = lines.progress();
        let Self { request, contents } = self;
        let (writing, archive) = piped(move |pipe| sent::write(&request, &contents, pipe));
        let sent = Arc::new(AtomicU64::new(0));
        let is_sent = std::cell::Cell::new(false);
        let building = client.build(agent, archive, &sent, |event| {
            is_sent.set(true);
            show(event, lines, progress);
        });
        let mut building = std::pin::pin!(building);
        progress.step("sending the project to the server");
        let ended = loop {
            tokio::select! {
                ended = &mut building => break ended,
                () = tokio::time::sleep(TICK) => {
                    if is_sent.get() {
                        continue;
                    }
                    progress.passing(format!("{} MiB are sent", sent.load(Ordering::Relaxed) / MIB));
                }
            }
        };
        match ended {
            Ok(Ok(done)) => Ok(Ended::Built(built(done))),
            Ok(Err(fault)) => {
                let elsewhere = matches!(
                    fault.code.as_str(),
                    "disk-full" | "platform" | "base-image-unavailable" | "engine-away" | "engine"
                );
                let failure = Failure::from(fault);
                Err(if elsewhere {
                    failure.hint("the server builds: its engine and its machine are meant")
                } else {
                    failure
                })
            }
            Err(error) => {
                // Where a file could not be read the server's words only follow from it.
                match writing.await {
                    Ok(Err(ArchiveError::Changed(path))) => Ok(Ended::Changed(path)),
                    Ok(Err(error @ ArchiveError::File { .. })) => Err(BuildError::from(PlanError::from(error)).into()),
                    _ => Err(refused(error)),
                }
            }
        }
    }
}

fn show(event: BuildEvent, lines: &BuildLines, progress: &Progress) {
    match event {
        BuildEvent::Waiting { before: 1 } => progress.step("the server builds another image first"),
        BuildEvent::Waiting { before } => progress.step(format!("the server builds {before} other images first")),
        BuildEvent::Step { number, total, title } => lines.step_started(number, total, &title),
        BuildEvent::Cached { number, total, title } => lines.step_cached(number, total, &title),
        BuildEvent::Output { line } => lines.output(&line),
        BuildEvent::Done(_) | BuildEvent::Failed(_) => {}
    }
}

/// A server that does not know the way is older than this command line.
fn refused(error: ClientError) -> Failure {
    match &error {
        ClientError::Refused(problem) if problem.code == "no-such-route" => cannot(),
        ClientError::BrokenOff(_) | ClientError::Silent { .. } | ClientError::Unreachable { .. } => {
            Failure::from(error)
                .hint("deploy again when it answers: the build has ended, and steps that were done are not done again")
        }
        ClientError::Refused(problem) if problem.code == "dependencies" || problem.code == "plan" => {
            Failure { exit: Exit::Invalid, ..Failure::from(error) }
        }
        _ => Failure::from(error),
    }
}

/// The server builds no images.
pub fn cannot() -> Failure {
    Failure::said(Exit::Failed, "the server builds no images: it is older than this command line, or was told so")
        .hint("build here with --build local, which needs a Docker Engine; or bring the server up to date")
}

fn built(done: BuildDone) -> Built {
    Built {
        image_id: done.image,
        tag: done.tag,
        inputs_digest: done.inputs_digest,
        cached: done.cached,
        deployed: false,
        python: done.python,
        notes: done.notes,
        seconds: done.seconds + done.waited,
        code: None,
        config: None,
    }
}
