//! `releases AGENT`, `rollouts AGENT`: what was deployed, and how it went.

use super::watch;
use crate::api::history::{ReleaseView, RolloutSummary};
use crate::cli::args::{Global, HistoryArgs, RolloutsArgs};
use crate::cli::exit::{Exit, Failure};
use crate::cli::session;
use crate::cli::ui::{Format, Printer, table, words};
use crate::release::state::RolloutState;
use serde_json::json;

/// How much of an image's digest and of a commit is shown.
const IMAGE: usize = 12;
const REVISION: usize = 8;

/// Newest first.
pub async fn releases(args: &HistoryArgs, global: &Global, printer: &Printer) -> Result<Exit, Failure> {
    let releases = session::client(global)?.releases(&args.agent, args.limit).await?;
    match printer.format() {
        Format::Json => printer.json_list("releases", &releases),
        Format::Line => releases.iter().for_each(|one| printer.line(words(release(one)))),
        Format::Table if releases.is_empty() => printer.note(format!("{} has no release", args.agent)),
        Format::Table => printer
            .line(table(["VERSION", "CREATED", "IMAGE", "REVISION", "ROLLOUT", "MARK"], releases.iter().map(release))),
    }
    for one in releases.iter().take(1) {
        if let Some(failure) = &one.failure {
            printer.note(format!("v{}: {failure}", one.version));
        }
    }
    Ok(Exit::Done)
}

fn release(one: &ReleaseView) -> [String; 6] {
    let mark = match (one.serving, one.previous) {
        (true, _) => "serving",
        (false, true) => "previous",
        _ if one.copy_of.is_some() => "old",
        _ => "-",
    };
    [
        format!("v{}", one.version),
        second(&one.created_at),
        short(one.image.strip_prefix("sha256:").unwrap_or(&one.image), IMAGE),
        one.source_revision.as_deref().map_or_else(|| "-".to_owned(), |revision| short(revision, REVISION)),
        one.rollout.map_or("-", RolloutState::as_str).to_owned(),
        one.copy_of.map_or_else(|| mark.to_owned(), |version| format!("{mark},as-v{version}")),
    ]
}

/// Newest first.
pub async fn rollouts(args: &RolloutsArgs, global: &Global, printer: &Printer) -> Result<Exit, Failure> {
    let client = session::client(global)?;
    let rollouts = client.rollouts(&args.history.agent, args.history.limit).await?;
    if args.watch || args.cancel {
        let Some(running) = rollouts.iter().find(|one| one.state == RolloutState::Running) else {
            return Err(Failure::said(Exit::Failed, format!("no rollout of {} is under way", args.history.agent)));
        };
        if args.cancel {
            client.cancel_rollout(running.id).await?;
            match printer.format() {
                Format::Json => printer.json(&json!({
                    "agent": args.history.agent, "version": running.version, "rollout": running.id, "cancelled": true,
                })),
                Format::Line | Format::Table => {
                    printer.line(format!("the rollout of {} v{} is cancelled", args.history.agent, running.version));
                }
            }
            return Ok(Exit::Done);
        }
        let view = watch::rollout(&client, running.id, None, printer).await?;
        let (phases, seconds) = watch::phases(&view.phases);
        printer.result(json!(view));
        if printer.format() != Format::Json {
            printer.line(format!("{} v{} live in {seconds:.1}s ({phases})", view.agent, view.version));
        }
        return Ok(Exit::Done);
    }
    let args = &args.history;
    match printer.format() {
        Format::Json => printer.json_list("rollouts", &rollouts),
        Format::Line => rollouts.iter().for_each(|one| printer.line(rollout(one).join(" "))),
        Format::Table if rollouts.is_empty() => printer.note(format!("{} has no rollout", args.agent)),
        Format::Table => printer
            .line(table(["ID", "BEGAN", "FROM", "TO", "STATE", "SECONDS BY PHASE"], rollouts.iter().map(rollout))),
    }
    if let Some((failure, id)) = rollouts.first().and_then(|one| Some((one.failure.as_ref()?, one.id))) {
        printer.note(format!("{id}: {}", failure.message));
    }
    Ok(Exit::Done)
}

fn rollout(one: &RolloutSummary) -> [String; 6] {
    let (phases, _) = watch::phases(&one.phases);
    let state = match one.state {
        // Where it ended says more than that it did.
        RolloutState::Running | RolloutState::Failed => format!("{}:{}", one.state, one.phase),
        RolloutState::Succeeded | RolloutState::Cancelled => one.state.to_string(),
    };
    [
        one.id.to_string(),
        second(&one.created_at),
        one.from_version.map_or_else(|| "-".to_owned(), |version| format!("v{version}")),
        format!("v{}", one.version),
        state,
        phases,
    ]
}

/// The first characters.
pub fn short(text: &str, length: usize) -> String {
    text.chars().take(length).collect()
}

/// A time without its fractions of a second.
pub fn second(time: &str) -> String {
    match time.split_once('.') {
        Some((second, _)) => format!("{second}Z"),
        None => time.to_owned(),
    }
}
