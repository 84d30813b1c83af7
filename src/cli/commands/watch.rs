//! Watches a rollout to its end and says what came of it.

use crate::api::control::{PhaseTime, RolloutView};
use crate::cli::exit::{Exit, Failure};
use crate::cli::ui::{Printer, Progress};
use crate::client::{Client, ClientError};
use crate::release::state::RolloutState;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How long one question to the server waits for news, in seconds: programs hear as often that it goes on.
const WAIT: u64 = 10;
/// How long a server that cannot be reached is waited for.
const LOST: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(500);

/// Asks until there is an answer, as long as the server may come back. What is asked may be repeated.
pub async fn patiently<T>(
    progress: &Progress,
    mut ask: impl AsyncFnMut() -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let began = Instant::now();
    loop {
        match ask().await {
            Err(error) if error.is_passing() && began.elapsed() < LOST => {
                progress.passing(away(&error));
                tokio::time::sleep(RETRY).await;
            }
            answer => return answer,
        }
    }
}

fn away(error: &ClientError) -> &'static str {
    match error {
        ClientError::Refused(_) => "what the server needs is away for a moment; trying again",
        _ => "the server cannot be reached; trying again",
    }
}

/// When a wait of `seconds` that begins now is over.
pub fn deadline(seconds: Option<u64>) -> Option<Instant> {
    seconds.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)))
}

/// Returns when traffic has moved: by this rollout, or by one that has taken its place. Exit 6 when the rollout failed,
/// 7 when the deadline passed, 5 when the server was lost.
pub async fn rollout(
    client: &Client,
    mut id: Uuid,
    deadline: Option<Instant>,
    printer: &Printer,
) -> Result<RolloutView, Failure> {
    let progress = printer.progress();
    printer.goes_on("the rollout goes on: `rapidclaw rollouts AGENT --watch` or `rapidclaw status`");
    let mut after = 0;
    let mut last_heard = Instant::now();
    let mut lost: Option<ClientError> = None;
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let is_over = left.is_some_and(|left| left.is_zero());
        if let Some(error) = lost.take_if(|_| is_over || last_heard.elapsed() >= LOST) {
            return Err(lost_sight(error).fact("rollout", id.to_string()));
        }
        if is_over {
            return Err(Failure::said(Exit::TimedOut, "the rollout takes longer, and goes on")
                .hint("`rapidclaw status` says how it went")
                .fact("rollout", id.to_string()));
        }
        let wait = left.map_or(WAIT, |left| left.as_secs().clamp(1, WAIT));
        let view = match client.rollout(id, after, wait).await {
            Ok(view) => view,
            // The server starts again, perhaps: the rollout is its affair, not ours.
            Err(error) if error.is_passing() => {
                progress.passing(away(&error));
                lost = Some(error);
                tokio::time::sleep(RETRY).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        last_heard = Instant::now();
        lost = None;
        let about = |more: serde_json::Value| {
            let mut about = json!({ "agent": view.agent, "version": view.version, "rollout": id, "phase": view.phase });
            more.as_object().into_iter().flatten().for_each(|(name, value)| about[name] = value.clone());
            about
        };
        if view.events.is_empty() && view.state == RolloutState::Running {
            printer.event("heartbeat", about(json!({})));
        }
        for event in &view.events {
            printer.event("phase", about(json!({ "phase": event.phase, "message": event.message })));
            progress.show(format!("{}: {}", event.phase, event.message));
            after = after.max(event.seq);
        }
        match view.state {
            RolloutState::Running => progress.passing(format!("{} v{}: {}", view.agent, view.version, view.phase)),
            RolloutState::Succeeded => return Ok(view),
            RolloutState::Cancelled if let Some(next) = view.superseded_by => {
                progress.step(format!("{} v{}: newer secrets take its place", view.agent, view.version));
                (id, after) = (next, 0);
            }
            RolloutState::Failed | RolloutState::Cancelled => return Err(failed(&view)),
        }
    }
}

/// The server is gone, and the rollout is its affair: it goes on when the server is back.
fn lost_sight(error: ClientError) -> Failure {
    Failure::from(error)
        .hint("the rollout goes on when the server is back: `rapidclaw rollouts AGENT --watch` or `rapidclaw status`")
}

fn failed(view: &RolloutView) -> Failure {
    let serves = match view.from_version {
        Some(version) => format!("v{version} still serves"),
        None => "nothing serves".to_owned(),
    };
    let Some(failure) = &view.failure else {
        return facts(
            view,
            Failure::said(Exit::RolloutFailed, format!("the rollout of v{} was cancelled; {serves}", view.version))
                .code("cancelled"),
        );
    };
    let out = Failure::said(Exit::RolloutFailed, failure.message.clone()).code(failure.code.clone());
    let mut out = facts(view, out).hint(format!("v{} of {} was not rolled out; {serves}", view.version, view.agent));
    out.hints.splice(0..0, failure.hints.iter().cloned());
    if failure.log.is_empty() {
        return out;
    }
    out.evidence(format!("the replica's last lines:\n  {}", failure.log.join("\n  ")))
}

/// Which rollout it was.
fn facts(view: &RolloutView, failure: Failure) -> Failure {
    failure
        .fact("agent", view.agent.clone())
        .fact("version", view.version)
        .fact("serving", view.from_version)
        .fact("rollout", view.id.to_string())
        .fact("phase", view.phase.to_string())
}

/// `build 0.8 push 0.0 start 1.1 ready 3.2 switch 0.0`, and the sum.
pub fn phases(phases: &[PhaseTime]) -> (String, f64) {
    let parts: Vec<String> = phases.iter().map(|one| format!("{} {:.1}", one.phase, one.seconds)).collect();
    // The sum of nothing would be -0.0.
    (parts.join(" "), phases.iter().map(|one| one.seconds).fold(0.0, |sum, one| sum + one))
}
