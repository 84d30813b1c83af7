//! `rollback [VERSION]`.

use super::project::invalid;
use super::watch;
use crate::api::control::{RollbackRequest, RollbackResponse};
use crate::base::ids;
use crate::cli::args::{Global, RollbackArgs};
use crate::cli::exit::{Exit, Failure};
use crate::cli::session;
use crate::cli::ui::{Format, Printer};
use crate::client::{Client, ClientError};
use crate::manifest::{self, ManifestError};
use serde_json::json;
use std::path::Path;

/// Exit 0 when the old release serves again, under its new number.
pub async fn run(args: &RollbackArgs, global: &Global, printer: &Printer) -> Result<Exit, Failure> {
    let client = session::client(global)?;
    let agent = match &args.agent {
        Some(agent) => agent.clone(),
        None => which_agent(&client).await?,
    };
    // The request bears the rollout's id: a repeated one finds what the one before has begun.
    let request =
        RollbackRequest { version: args.version, rollout: Some(ids::new_id()), keep_secrets: args.keep_secrets };
    let accepted = match client.roll_back(&agent, &request).await {
        Err(error) if error.may_be_done() || matches!(error, ClientError::Refused(_)) && error.is_passing() => {
            watch::patiently(&printer.progress(), async || client.roll_back(&agent, &request).await).await?
        }
        answer => answer?,
    };
    if args.detach {
        report(&agent, &accepted, "is being rolled out", &[], printer);
        return Ok(Exit::Done);
    }
    let view = watch::rollout(&client, accepted.rollout, watch::deadline(args.timeout), printer).await?;
    let (phases, seconds) = watch::phases(&view.phases);
    report(&agent, &accepted, &format!("live in {seconds:.1}s ({phases})"), &view.phases, printer);
    Ok(Exit::Done)
}

/// The agent of the manifest in this folder, else the only one there is. A manifest that cannot be read (half
/// edited, when one rolls back) says nothing of which agent is meant: no other one is taken for it.
async fn which_agent(client: &Client) -> Result<String, Failure> {
    match manifest::load(Path::new("langgraph.json")) {
        Ok(loaded) => return Ok(loaded.manifest.name),
        Err(ManifestError::Missing(_)) => {}
        Err(error) => return Err(invalid(error).hint("or name the agent, whatever the manifest says: --agent NAME")),
    }
    let agents = client.agents().await?;
    match agents.as_slice() {
        [only] => Ok(only.name.clone()),
        _ => {
            let names: Vec<&str> = agents.iter().map(|agent| agent.name.as_str()).collect();
            let known = if names.is_empty() {
                "nothing is deployed".to_owned()
            } else {
                format!("there are {}", names.join(", "))
            };
            Err(Failure::said(Exit::Usage, format!("which agent? {known}")).hint("name it: --agent NAME"))
        }
    }
}

fn report(
    agent: &str,
    accepted: &RollbackResponse,
    what: &str,
    phases: &[crate::api::control::PhaseTime],
    printer: &Printer,
) {
    printer.result(json!({
        "agent": agent, "version": accepted.version, "to_version": accepted.to_version,
        "from_version": accepted.from_version, "rollout": accepted.rollout, "url": accepted.url,
        "secrets_changed": accepted.secrets_changed, "secrets_kept": accepted.secrets_kept, "phases": phases, "seconds": watch::phases(phases).1,
    }));
    if printer.format() == Format::Json {
        return;
    }
    printer.line(format!("{agent} v{} (v{} again) {what}", accepted.version, accepted.to_version));
    let differ = accepted.secrets_changed.join(", ");
    match (differ.is_empty(), accepted.secrets_kept) {
        (true, _) => {}
        (false, true) => {
            printer.note(format!("secrets kept as they are, unlike those of v{}: {differ}", accepted.to_version));
        }
        (false, false) => printer.note(format!(
            "secrets as they were at v{} again: {differ} (--keep-secrets keeps today's)",
            accepted.to_version
        )),
    }
    if let Some(from) = accepted.from_version {
        printer.note(format!("not taken back: what v{from} wrote into threads"));
        printer.note(format!("to undo this: rapidclaw rollback v{from} --agent {agent}"));
    }
}
