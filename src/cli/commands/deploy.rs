//! `deploy`: validate, build, hand over, roll out, wait for the switch.

use super::build::For;
use super::builder::{Builder, Work};
use super::project::{Checked, check_loudly, python_only};
use super::{build, push, watch};
use crate::api::control::{
    AgentStatus, DeployOutcome, DeployRequest, DeployResponse, GraphView, PhaseTime, SecretMap, Whoami,
};
use crate::base::secret::ExposeSecret as _;
use crate::base::{env, ids};
use crate::cli::args::{BuildOptions, DeployArgs, Global};
use crate::cli::exit::{Exit, Failure};
use crate::cli::session;
use crate::cli::ui::{Format, Printer, ways};
use crate::client::{Client, ClientError};
use crate::engine::names::Scope;
use crate::image::{Built, Deployed, find_revision};
use crate::manifest::{EnvSource, database, dotenv, folders, left_out, project};
use crate::release::state::Phase;
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// How often a deploy that waits for another is handed in again.
const AGAIN: Duration = Duration::from_secs(1);

/// Exit 0 when the new release serves, or when nothing changed.
pub async fn run(args: &DeployArgs, global: &Global, printer: &Printer) -> Result<Exit, Failure> {
    // Without the file the values last deployed stay, or the deploy fails for it.
    let but = [Some(project::ENV_MISSING), args.env_file.as_ref().map(|_| project::ENV_UNREAD)];
    let but: Vec<&str> = but.into_iter().flatten().collect();
    let mut checked = check_loudly(&args.build.manifest.manifest, &but, printer)?;
    // It may lie in the project, and its own place may be behind a link there.
    checked
        .private
        .extend(args.env_file.iter().flat_map(|path| [std::path::absolute(path), path.canonicalize()]).flatten());
    python_only(&checked)?;
    let name = checked.loaded.manifest.name.clone();
    if let Some(registry) = &args.registry {
        push::check(registry)?;
    }
    let client = session::client(global)?;
    let who = client.whoami().await?;
    let options = right_processor(&args.build, &who)?;
    let known = client.agent(&name).await?;
    let secrets = secrets(&checked, args.env_file.as_deref(), known.is_some(), printer)?;
    let builder = Builder::choose(args, &who, printer).await?;
    let work = Work { client: &client, checked: &checked, options: &options, global, printer };
    if args.dry_run {
        let digest = builder.inputs_digest(work).await?;
        return dry_run(&client, request(&checked, "", &digest, secrets, 0.0), &name, args.exit_code, printer).await;
    }
    // What goes into another registry has to be here.
    let deployed = known.as_ref().filter(|_| args.registry.is_none()).and_then(deployed);
    let mut built = builder.build(work, For { deployed, server: Some(who.server.id) }).await?;
    let docker = builder.docker();
    let scope = Scope::of_server(who.server.id);
    let tidying = docker.map(|docker| build::spawn_tidy(docker, &name, scope, &built));
    let mut request = request(&checked, &built.image_id, &built.inputs_digest, secrets, built.seconds);
    if let (Some(registry), Some(docker)) = (&args.registry, docker) {
        let moved = push::to_registry(registry, docker, &name, &built, printer).await?;
        printer.note(format!("pushed {}", moved.reference));
        add_push_time(&mut request, moved.seconds);
    }
    if let Some(docker) = docker.filter(|_| !builder.is_servers() && !built.deployed) {
        let moved = push::to_server(&client, docker, &name, &built, printer).await?;
        bring_along(&mut request, moved);
    }
    let mut handing = HandIn { client: &client, name: &name, args, deadline: None };
    let mut answer = handing.hand_in(&request, printer).await;
    if (built.deployed || docker.is_none()) && is_without_image(&answer) {
        // The server's engine has lost it: then it is built after all.
        built = builder.build(work, For { deployed: None, server: Some(who.server.id) }).await?;
        request.image.clone_from(&built.image_id);
        answer = handing.hand_in(&request, printer).await;
    }
    // Another engine; or one with this one's id, as engines of copied machines have.
    if let Some(docker) = docker.filter(|_| is_without_image(&answer)) {
        let moved = push::to_server(&client, docker, &name, &built, printer).await?;
        bring_along(&mut request, moved);
        answer = handing.hand_in(&request, printer).await;
    }
    let accepted = answer.map_err(|error| handing.refused(error))?;
    if let Some(key) = &accepted.key {
        printer.mask(key);
    }
    for note in &accepted.notes {
        printer.note(note);
    }
    let report = Report { agent: &name, built: &built, accepted: &accepted, graphs: &[] };
    let Some(rollout) = accepted.rollout else {
        report.print(&format!("{name} v{}: nothing changed", accepted.version), &[], printer);
        return Ok(Exit::Done);
    };
    if args.detach {
        report.print(&format!("{name} v{} is being rolled out", accepted.version), &[], printer);
        return Ok(Exit::Done);
    }
    let view = match watch::rollout(&client, rollout, handing.deadline, printer).await {
        Ok(view) => view,
        Err(failure) => {
            // A key that was made is lost if it is not shown now.
            report.print_key(printer);
            return Err(report.facts_of(with_what_is_left_out(&checked, failure)));
        }
    };
    if let Some(tidying) = tidying {
        build::tidied(tidying).await;
    }
    let (phases, seconds) = watch::phases(&view.phases);
    let what = match accepted.outcome {
        DeployOutcome::Secrets => "live with its new secrets",
        DeployOutcome::Rollout | DeployOutcome::Unchanged => "live",
    };
    let report = Report { graphs: &view.graphs, ..report };
    report.print(&format!("{name} v{} {what} in {seconds:.1}s ({phases})", view.version), &view.phases, printer);
    for way in ways(&view.graphs) {
        printer.note(way);
    }
    Ok(Exit::Done)
}

/// Names the rule by which a file is not in the image that the failed release was looking for.
fn with_what_is_left_out(checked: &Checked, mut failure: Failure) -> Failure {
    let said = [failure.error.to_string(), failure.evidence.clone().unwrap_or_default()].join("\n");
    if let Some((file, rule)) = left_out::missing_in_image(&checked.loaded, &checked.folder, &said) {
        let hint = format!(
            "{file} lies in the project and is not in the image: {rule} excludes it; let Git track it, take it back with \
             a `!` line, or write a .dockerignore, which decides instead"
        );
        failure.hints.insert(0, hint);
    }
    failure
}

/// The image of the release that serves.
fn deployed(known: &AgentStatus) -> Option<Deployed> {
    Some(Deployed { image_id: known.image.clone()?, inputs_digest: known.inputs_digest.clone()? })
}

fn is_without_image(answer: &Result<DeployResponse, ClientError>) -> bool {
    matches!(answer, Err(ClientError::Refused(problem)) if problem.code == "no-such-image")
}

/// An image for another processor than the server's is not built at all.
fn right_processor(options: &BuildOptions, who: &Whoami) -> Result<BuildOptions, Failure> {
    let engine = who.server.engine.as_ref().map(|engine| engine.architecture.as_str());
    let Some(engine) = engine.filter(|architecture| !architecture.is_empty()) else { return Ok(options.clone()) };
    let there = format!("linux/{engine}");
    match &options.platform {
        Some(asked) if *asked != there => {
            Err(Failure::said(Exit::Usage, format!("--platform {asked}: the server runs images for {there}"))
                .hint("leave --platform out: deploy builds for the server's processor"))
        }
        _ => Ok(BuildOptions { platform: Some(there), ..options.clone() }),
    }
}

/// Hands a deploy in; with `--wait` after the rollout that is under way, until the deadline.
struct HandIn<'a> {
    client: &'a Client,
    name: &'a str,
    args: &'a DeployArgs,
    /// When `--timeout` is over: it counts from the last hand-in, so that no push is part of it.
    deadline: Option<Instant>,
}

impl HandIn<'_> {
    async fn hand_in(&mut self, request: &DeployRequest, printer: &Printer) -> Result<DeployResponse, ClientError> {
        self.deadline = watch::deadline(self.args.timeout);
        let progress = printer.progress();
        progress.passing("handing the release to the server");
        loop {
            // The request bears the rollout's id: a repeated one finds what the one before has begun.
            match watch::patiently(&progress, async || self.client.deploy(self.name, request).await).await {
                Err(error) if self.waits_for(&error) && self.deadline.is_none_or(|end| Instant::now() < end) => {
                    progress.step("waiting for the rollout under way");
                    tokio::time::sleep(AGAIN).await;
                }
                answer => return answer,
            }
        }
    }

    /// Whether another rollout is in the way, and it is to be waited for.
    fn waits_for(&self, error: &ClientError) -> bool {
        self.args.wait && matches!(error, ClientError::Refused(problem) if problem.code == "rollout-under-way")
    }

    fn refused(&self, error: ClientError) -> Failure {
        if self.waits_for(&error) {
            return Failure::said(Exit::TimedOut, "the rollout under way takes longer; nothing was deployed")
                .hint(format!("`rapidclaw rollouts {} --watch` shows it", self.name));
        }
        error.into()
    }
}

struct Report<'a> {
    agent: &'a str,
    built: &'a Built,
    accepted: &'a DeployResponse,
    /// How they are called; none where that is not known.
    graphs: &'a [GraphView],
}

impl Report<'_> {
    fn print(&self, line: &str, phases: &[PhaseTime], printer: &Printer) {
        let accepted = self.accepted;
        printer.result(json!({
            "agent": self.agent, "version": accepted.version, "outcome": accepted.outcome, "url": accepted.url,
            "key": accepted.key, "image": self.built.image_id, "rollout": accepted.rollout, "phases": phases,
            "seconds": watch::phases(phases).1, "notes": accepted.notes, "graphs": self.graphs,
        }));
        if printer.format() == Format::Json {
            return;
        }
        printer.line(line);
        printer.line(format!("url: {}", accepted.url));
        self.print_key(printer);
    }

    /// What is known all the same when the rollout did not end well.
    fn facts_of(&self, failure: Failure) -> Failure {
        let accepted = self.accepted;
        failure
            .fact("agent", self.agent)
            .fact("version", accepted.version)
            .fact("outcome", "failed")
            .fact("url", accepted.url.clone())
            .fact("key", accepted.key.clone())
    }

    fn print_key(&self, printer: &Printer) {
        if let Some(key) = self.accepted.key.as_ref().filter(|_| printer.format() != Format::Json) {
            printer.line(format!("key: {key}"));
            printer.note("the key is shown this once; `rapidclaw keys create` makes another");
        }
    }
}

/// The values of the manifest's `env`. Without the file the values last deployed stay, if there are any
/// or this is CI; else it is missing.
fn secrets(
    checked: &Checked,
    given: Option<&Path>,
    deployed_before: bool,
    printer: &Printer,
) -> Result<Option<SecretMap>, Failure> {
    let manifest = &checked.loaded.manifest;
    let path = match (given, &manifest.env) {
        (Some(path), _) => path.to_owned(),
        (None, EnvSource::None) => return Ok(Some(SecretMap::default())),
        (None, EnvSource::Inline(values)) => return Ok(Some(SecretMap(values.clone()))),
        (None, EnvSource::File(_)) => match folders::env_file(manifest, &checked.folder) {
            Some(file) if file.exists => file.path,
            Some(_) if deployed_before || env::var(env::CI).is_some() => return Ok(None),
            missing => {
                let path = missing.map(|file| file.path).unwrap_or_default();
                let failure = Failure::said(
                    Exit::Invalid,
                    format!("{} is missing, and {} was never deployed", path.display(), manifest.name),
                );
                let hint = "write it, name another with --env-file, or take `env` out of the manifest";
                return Err(match project::example_of(&path) {
                    Some(example) => {
                        failure.hint(format!("copy {} to it and fill it in; or {hint}", example.display()))
                    }
                    None => failure.hint(hint),
                });
            }
        },
    };
    let values = dotenv::read(&path).map_err(|error| Failure::new(Exit::Invalid, error))?;
    for value in values.values() {
        printer.mask(value.expose_secret());
    }
    printer.note(format!(
        "{} from {}",
        if values.len() == 1 { "1 secret".to_owned() } else { format!("{} secrets", values.len()) },
        path.display()
    ));
    Ok(Some(SecretMap(values)))
}

/// The server takes the image from its registry.
fn bring_along(request: &mut DeployRequest, moved: push::Moved) {
    add_push_time(request, moved.seconds);
    request.pushed = Some(moved.pushed.digest);
}

fn add_push_time(request: &mut DeployRequest, seconds: f64) {
    if let Some(push) = request.client_phases.iter_mut().find(|one| one.phase == Phase::Push) {
        push.seconds += seconds;
    }
}

/// Says what a deploy would do.
async fn dry_run(
    client: &Client,
    request: DeployRequest,
    name: &str,
    exit_code: bool,
    printer: &Printer,
) -> Result<Exit, Failure> {
    let plan = client.plan(name, &request).await?;
    for note in &plan.notes {
        printer.note(note);
    }
    let would_change = plan.outcome != DeployOutcome::Unchanged;
    let exit = if would_change && exit_code { Exit::Changes } else { Exit::Done };
    printer.result(json!({
        "agent": name, "dry_run": true, "outcome": plan.outcome, "serving": plan.serving,
        "changes": plan.changes, "notes": plan.notes,
    }));
    if printer.format() != Format::Json {
        for change in &plan.changes {
            printer.line(change);
        }
        printer.line(match plan.outcome {
            DeployOutcome::Rollout => format!("{name}: a deploy would roll a new release out"),
            DeployOutcome::Secrets => {
                format!("{name}: a deploy would roll out a release of the same image with other secrets")
            }
            DeployOutcome::Unchanged => format!("{name}: a deploy would change nothing"),
        });
    }
    Ok(exit)
}

fn request(
    checked: &Checked,
    image: &str,
    inputs_digest: &str,
    secrets: Option<SecretMap>,
    seconds: f64,
) -> DeployRequest {
    let folder = &checked.folder;
    let manifest = &checked.loaded.manifest;
    DeployRequest {
        manifest: database::with_what_was_found(manifest, folder),
        folder: folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        image: image.to_owned(),
        pushed: None,
        inputs_digest: inputs_digest.to_owned(),
        secrets,
        source_revision: find_revision(folder),
        client_phases: vec![PhaseTime { phase: Phase::Build, seconds }, PhaseTime { phase: Phase::Push, seconds: 0.0 }],
        rollout: Some(ids::new_id()),
    }
}
