//! `destroy NAME`: the agent at its server, and what builds of it have left in this machine's engine.

use crate::cli::args::{DestroyArgs, Global};
use crate::cli::exit::{Exit, Failure};
use crate::cli::session;
use crate::cli::ui::ask::ask;
use crate::cli::ui::{Format, Printer};
use crate::engine;
use crate::engine::names::Scope;
use crate::image;
use serde_json::json;
use std::time::Duration;

/// How long this machine's engine is waited for: the server has done its part.
const TIDY: Duration = Duration::from_secs(10);

/// Asks on a terminal; elsewhere `--yes` says that it is meant.
pub async fn run(args: &DestroyArgs, global: &Global, printer: &Printer) -> Result<Exit, Failure> {
    let client = session::client(global)?;
    let name = &args.name;
    if !global.yes {
        let what = format!("destroy {name} with its releases, keys, secrets and all its threads");
        if !printer.is_interactive() {
            return Err(Failure::said(Exit::Usage, format!("nobody can be asked whether to {what}"))
                .hint(format!("say so: `rapidclaw destroy {name} --yes`")));
        }
        if !ask(move || dialoguer::Confirm::new().with_prompt(format!("{what}?")).default(false).interact()).await? {
            match printer.format() {
                Format::Json => printer.json(&json!({ "agent": name, "destroyed": false })),
                Format::Line | Format::Table => printer.line("nothing is changed"),
            }
            return Ok(Exit::Failed);
        }
    }
    let server = client.whoami().await?.server.id;
    client.destroy(name).await?;
    let here = tokio::time::timeout(TIDY, tidy(name, &Scope::of_server(server))).await.unwrap_or_else(|_| {
        tracing::debug!("this machine's engine takes long");
        Here::default()
    });
    match printer.format() {
        Format::Json => printer.json(&json!({
            "agent": name, "destroyed": true, "images_removed_here": here.removed, "kept_here": here.kept.join("; "),
        })),
        Format::Line | Format::Table => {
            printer.line(format!("{name} is destroyed"));
            if here.removed > 0 {
                printer.note(format!("removed {} names of its images from this machine's engine", here.removed));
            }
            if !here.kept.is_empty() {
                printer.note(format!("kept in this machine's engine: {}", here.kept.join("; ")));
            }
        }
    }
    Ok(Exit::Done)
}

/// What has become of this machine's engine.
#[derive(Default)]
struct Here {
    /// How many names builds had given, which the server could not remove: its engine is another one.
    removed: usize,
    /// What of rapidclaw's is left, and why.
    kept: Vec<String>,
}

/// Takes away what builds of the agent have left here, as far as there is an engine.
async fn tidy(agent: &str, scope: &Scope) -> Here {
    let Ok(docker) = engine::connect().await else { return Here::default() };
    let removed = image::forget(&docker, agent, scope).await;
    let kept = image::tidy::kept(&docker).await;
    if let Some(error) = removed.as_ref().err().or(kept.as_ref().err()) {
        tracing::debug!(?error, "this machine's engine was not tidied");
    }
    Here { removed: removed.unwrap_or_default(), kept: kept.unwrap_or_default() }
}
