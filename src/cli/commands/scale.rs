//! `scale AGENT N|auto`.

use super::watch;
use crate::cli::args::{Global, Replicas, ScaleArgs};
use crate::cli::exit::{Exit, Failure};
use crate::cli::session;
use crate::cli::ui::{Format, Printer};
use crate::release::state::replicas;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How often is looked whether they are there.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long they are waited for when nobody says.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the last answer may take beyond that.
const ANSWER: Duration = Duration::from_secs(1);

/// Waits until as many are ready.
pub async fn run(args: &ScaleArgs, global: &Global, printer: &Printer) -> Result<Exit, Failure> {
    let client = session::client(global)?;
    let agent = &args.agent;
    let asked = match args.replicas {
        Replicas::Count(count) => Some(count),
        Replicas::Auto => None,
    };
    let began = Instant::now();
    let patience = args.wait.timeout.map_or(PATIENCE, Duration::from_secs);
    let progress = printer.progress();
    // The server may be away for longer than anybody wants to wait.
    let left = || patience.saturating_add(ANSWER).saturating_sub(began.elapsed());
    let lost = |_| Failure::said(Exit::TimedOut, "the server cannot be reached").hint("what it has taken up goes on");
    let asking = watch::patiently(&progress, async || client.scale(agent, asked).await);
    let scaled = timeout(left(), asking).await.map_err(lost)??;
    let mut ready = scaled.before;
    loop {
        if args.wait.detach {
            break;
        }
        let asking = watch::patiently(&progress, async || client.agent(agent).await);
        let status = timeout(left(), asking).await.map_err(lost)??;
        let Some(status) = status else { return Err(Failure::said(Exit::Failed, format!("{agent} is gone"))) };
        if ready != status.ready {
            printer.event("replicas", json!({ "agent": agent, "ready": status.ready, "wanted": scaled.wanted }));
        }
        ready = status.ready;
        if status.wanted == scaled.wanted && ready == scaled.wanted {
            break;
        }
        if began.elapsed() > patience {
            let why = status.reason.map(|why| format!(": {why}")).unwrap_or_default();
            return Err(Failure::said(
                Exit::TimedOut,
                format!("{ready} of {} are ready, and it goes on{why}", replicas(scaled.wanted)),
            )
            .hint(format!("`rapidclaw status {agent}` says how it is, `rapidclaw logs {agent}` why")));
        }
        progress.passing(format!("{agent}: {ready} of {} ready", replicas(scaled.wanted)));
        tokio::time::sleep(LOOK_EVERY).await;
    }
    drop(progress);
    printer.result(json!({
        "agent": agent, "wanted": scaled.wanted, "before": scaled.before, "ready": ready, "auto": asked.is_none(),
    }));
    if printer.format() != Format::Json {
        let (before, wanted) = (scaled.before, replicas(scaled.wanted));
        let how = if args.wait.detach { "on its way" } else { "done" };
        printer.line(format!("{agent} scaled from {before} to {wanted} ({how})"));
    }
    if asked.is_some() {
        printer.note(format!("it stays so over deploys, until `rapidclaw scale {agent} auto`"));
    }
    Ok(Exit::Done)
}
