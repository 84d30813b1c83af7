//! `runs AGENT`, `runs show RUN`.

use super::history::second;
use crate::api::history::{RunDetail, RunView};
use crate::api::logs::short_replica;
use crate::base::text;
use crate::cli::args::{Global, RunsArgs, RunsCommand};
use crate::cli::exit::{Exit, Failure};
use crate::cli::session;
use crate::cli::ui::{Format, Printer, table, words};
use crate::release::state::{dollars, latency};
use uuid::Uuid;

/// Newest first.
pub async fn run(args: &RunsArgs, global: &Global, printer: &Printer) -> Result<Exit, Failure> {
    let client = session::client(global)?;
    let agent = match (&args.command, &args.agent) {
        (Some(RunsCommand::Show { run }), _) => return show(*run, global, printer).await,
        (None, Some(agent)) => agent,
        (None, None) => return Err(Failure::said(Exit::Usage, "runs of which agent?")),
    };
    let runs = client.runs(agent, args.thread.as_deref(), args.status.as_deref(), args.limit).await?;
    if printer.format() == Format::Table && runs.is_empty() {
        printer.note("there are no such runs");
        return Ok(Exit::Done);
    }
    print(&runs, printer);
    Ok(Exit::Done)
}

/// A list of runs.
pub fn print(runs: &[RunView], printer: &Printer) {
    match printer.format() {
        Format::Json => printer.json_list("runs", &runs),
        Format::Line => runs.iter().for_each(|one| printer.line(words(row(one)))),
        Format::Table => printer.line(table(
            ["RUN", "THREAD", "STATUS", "RELEASE", "ATTEMPTS", "ACCEPTED", "TOOK", "$", "ERROR"],
            runs.iter().map(row),
        )),
    }
}

fn row(one: &RunView) -> [String; 9] {
    [
        one.id.to_string(),
        one.thread.clone().unwrap_or_else(|| "-".to_owned()),
        one.status.clone(),
        one.version.map_or_else(|| "-".to_owned(), |version| format!("v{version}")),
        one.attempt.to_string(),
        second(&one.accepted_at),
        latency(Some(one.seconds * 1000.0)),
        dollars(one.cost),
        one.error.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}

async fn show(run: Uuid, global: &Global, printer: &Printer) -> Result<Exit, Failure> {
    let detail = session::client(global)?.run(run).await?;
    if printer.format() == Format::Json {
        printer.json(&detail);
        return Ok(Exit::Done);
    }
    for (name, value) in facts(&detail) {
        printer.line(format!("{name}: {}", text::escaped(&value)));
    }
    for one in &detail.attempts {
        let ended = one.ended_at.as_deref().map_or_else(|| "now".to_owned(), second);
        let note = one.note.as_ref().map(|note| format!("; its replica was replaced: {note}")).unwrap_or_default();
        printer.line(format!(
            "attempt {}: {} on replica {}, {} to {ended}{}",
            one.number,
            one.state,
            short_replica(one.replica),
            second(&one.started_at),
            text::escaped(&note)
        ));
    }
    printer.note(format!("its log: `rapidclaw logs {} --run {run}`", detail.agent));
    Ok(Exit::Done)
}

fn facts(detail: &RunDetail) -> Vec<(&'static str, String)> {
    let run = &detail.run;
    let said = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut facts = vec![("run", run.id.to_string()), ("agent", detail.agent.clone())];
    if let (Some(thread), Some(id)) = (&run.thread, run.thread_id) {
        facts.push(("thread", if *thread == id.to_string() { thread.clone() } else { format!("{thread} ({id})") }));
    }
    facts.push(("status", run.status.clone()));
    facts.extend(run.version.map(|version| ("release", format!("v{version}"))));
    facts.push(("graph", run.graph.clone()));
    facts.push(("accepted", second(&run.accepted_at)));
    facts.push(("took", latency(Some(run.seconds * 1000.0))));
    facts.push(("tokens", format!("{} in, {} out", run.input_tokens, run.output_tokens)));
    facts.push(("cost", format!("${}", dollars(run.cost))));
    facts.push(("metadata", detail.metadata.to_string()));
    facts.push(("asked", said(detail.request.get("message").unwrap_or(&detail.request))));
    if let Some(answer) = &detail.answer {
        facts.push(("answered", said(answer.get("result").unwrap_or(answer))));
    }
    if let Some(fault) = &detail.fault {
        facts.push((
            "failed with",
            fault
                .message
                .as_ref()
                .or(fault.reason.as_ref())
                .map_or(fault.kind.clone(), |why| format!("{}: {why}", fault.kind)),
        ));
        facts.extend(fault.hint.iter().map(|hint| ("hint", hint.clone())));
    }
    facts
}
