//! `build`: the image, and what `deploy` needs to know of it.

use super::project::{Checked, check_loudly};
use super::push;
use crate::api::builds::BuildFault;
use crate::cli::args::{BuildArgs, BuildOptions, Global};
use crate::cli::exit::{Exit, Failure};
use crate::cli::session;
use crate::cli::ui::{BuildLines, Format, Printer};
use crate::engine::names::Scope;
use crate::engine::{self, Engine};
use crate::image::{self, BuildError, Built, Deployed, Plan, Project};
use crate::manifest::project;
use serde_json::json;
use std::time::Duration;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// How long a command waits for old images to go.
const TIDY: Duration = Duration::from_secs(2);

/// Builds, and prints the image.
pub async fn run(args: &BuildArgs, global: &Global, printer: &Printer) -> Result<Exit, Failure> {
    // An image holds no environment.
    let but = [project::ENV_UNREAD, project::ENV_MISSING];
    let checked = check_loudly(&args.build.manifest.manifest, &but, printer)?;
    if args.print_dockerfile {
        let project = project_of(&checked, &args.build);
        let base = image::base::name(&project.manifest, args.build.base_image.as_deref());
        let plan = Plan::of(&project, &base).map_err(|error| Failure::from(BuildError::from(error)))?;
        printer.line(plan.dockerfile.trim_end());
        return Ok(Exit::Done);
    }
    if let Some(registry) = &args.registry {
        push::check(registry)?;
    }
    let docker = engine::connect().await?;
    let built = build(&docker, &checked, &args.build, For::default(), global, printer).await?;
    let agent = &checked.loaded.manifest.name;
    let tidying = spawn_tidy(&docker, agent, Scope::of_project(&checked.folder), &built);
    let moved = match (&args.registry, args.push) {
        (Some(registry), _) => Some(push::to_registry(registry, &docker, agent, &built, printer).await?),
        (None, true) => Some(push::to_server(&session::client(global)?, &docker, agent, &built, printer).await?),
        (None, false) => None,
    };
    tidied(tidying).await;
    printer.result(json!({
        "agent": agent, "image": built.image_id, "tag": built.tag,
        "inputs_digest": built.inputs_digest, "cached": built.cached, "python": built.python,
        "seconds": built.seconds, "notes": built.notes,
        "pushed": moved.as_ref().map(|moved| &moved.reference),
        "pushed_bytes": moved.as_ref().map(|moved| moved.pushed.bytes),
    }));
    if printer.format() != Format::Json {
        let how = if built.cached { "nothing changed".to_owned() } else { format!("built in {:.1}s", built.seconds) };
        printer.line(format!("{} {} ({how})", built.tag, built.image_id));
        if let Some(moved) = moved {
            let push::Moved { pushed, reference, seconds } = moved;
            printer.line(format!("pushed: {reference} ({} bytes in {seconds:.1}s)", pushed.bytes));
        }
    }
    Ok(Exit::Done)
}

/// Builds a checked project's image; none where the one that is deployed was made from the same.
pub async fn build(
    docker: &Engine,
    checked: &Checked,
    options: &BuildOptions,
    whose: For,
    global: &Global,
    printer: &Printer,
) -> Result<Built, Failure> {
    let project = project_of(checked, options);
    let For { deployed, server } = whose;
    let how = image::BuildOptions { deployed, server, ..image_options(options) };
    let reporter = BuildLines::new(printer.progress(), global.verbose > 0);
    // An interruption waits until the engine is in order.
    let clearing = printer.clears_up();
    Ok(image::build(docker, &project, &how, &reporter, clearing.interrupted()).await?)
}

/// What a build is for.
#[derive(Debug, Clone, Default)]
pub struct For {
    /// The image that serves.
    pub deployed: Option<Deployed>,
    /// The server that it is deployed to.
    pub server: Option<Uuid>,
}

/// Has images of earlier builds taken away while something else goes on; nothing to do where nothing was built.
pub fn spawn_tidy(docker: &Engine, agent: &str, scope: Scope, built: &Built) -> JoinHandle<()> {
    let (docker, agent, cached) = (docker.clone(), agent.to_owned(), built.cached);
    tokio::spawn(async move {
        if !cached && let Err(error) = image::tidy(&docker, &agent, &scope).await {
            tracing::debug!(?error, "images of earlier builds stay");
        }
    })
}

/// Waits for it, for a moment: what is left the next build takes away.
pub async fn tidied(tidying: JoinHandle<()>) {
    let _ = tokio::time::timeout(TIDY, tidying).await;
}

/// The digest that its image would have among its labels: nothing is built.
pub async fn inputs_digest(
    docker: &Engine,
    checked: &Checked,
    options: &BuildOptions,
    printer: &Printer,
) -> Result<String, Failure> {
    let how = image_options(options);
    let reporter = BuildLines::new(printer.progress(), false);
    Ok(image::inputs_digest(docker, &project_of(checked, options), &how, &reporter).await?)
}

/// What builds are told.
pub fn image_options(options: &BuildOptions) -> image::BuildOptions {
    image::BuildOptions {
        base_image: options.base_image.clone(),
        proxies: image::proxies(),
        platform: options.platform.clone(),
        pull: options.pull,
        no_cache: options.no_cache,
        ..image::BuildOptions::default()
    }
}

/// The project as builds see it.
pub fn project_of(checked: &Checked, options: &BuildOptions) -> Project {
    let name = options.manifest.manifest.file_name();
    Project {
        manifest: checked.loaded.manifest.clone(),
        manifest_file: name.map(|name| checked.folder.join(name)),
        folder: checked.folder.clone(),
        private: checked.private.clone(),
        unsteady: checked.unsteady.clone(),
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        Self::from(BuildFault::from(&error))
    }
}

/// The same, whichever machine builds.
impl From<BuildFault> for Failure {
    fn from(fault: BuildFault) -> Self {
        let exit = match fault.code.as_str() {
            "javascript" => Exit::Usage,
            "plan" | "dependencies" => Exit::Invalid,
            "interrupted" => Exit::Interrupted,
            "engine-away" | "server-stopped" => Exit::Unreachable,
            _ => Exit::Failed,
        };
        let chain = [fault.message].into_iter().chain(fault.causes).rev();
        let error = chain.fold(None, |source: Option<anyhow::Error>, text| match source {
            Some(source) => Some(source.context(text)),
            None => Some(anyhow::Error::msg(text)),
        });
        let mut failure = Self::new(exit, error.unwrap_or_else(|| anyhow::anyhow!("the build failed")));
        if !fault.last_lines.is_empty() {
            failure.evidence = Some(format!("the step's last lines:\n  {}", fault.last_lines.join("\n  ")));
        }
        failure.hints = fault.hints;
        failure
    }
}
