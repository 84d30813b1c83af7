//! `status`: what the database knows, and what runs.

use super::{Control, ControlError};
use crate::api::control::AgentStatus;
use crate::base::tasks::Failing;
use crate::release::state::{AgentFacts, AgentState, agent_state, most_fail};
use crate::store::status::AgentRow;
use std::time::Instant;

/// Why nothing changes for the while, though what runs serves on.
const ENGINE_AWAY: &str = "Docker Engine cannot be reached: what runs goes on, and nothing is started until it is back";

impl Control {
    /// All agents, or the one named, by name.
    pub async fn status(&self, name: Option<&str>) -> Result<Vec<AgentStatus>, ControlError> {
        let rows = self.store().agent_rows(name).await?;
        if let (Some(name), true) = (name, rows.is_empty()) {
            return Err(ControlError::NoSuchAgent(name.to_owned()));
        }
        let engine_is_away = self.runtime().away_since().is_some();
        let tasks = self.failing_tasks();
        let status = rows.into_iter().map(|row| {
            let live = self.snapshot(row.id).unwrap_or_default();
            let name = row.name.clone();
            let facts = AgentFacts {
                serving: row.serving_release.is_some(),
                rolling: row.rolling,
                ready: live.ready,
                wanted: live.wanted,
                stopped: row.scale == Some(0),
                beginning: live.is_beginning,
                failing: most_fail(row.last_turns, row.last_failed),
            };
            let state = agent_state(facts);
            let crashes = live.crashes.as_ref().map(|crashes| crashes.in_words(Instant::now()));
            let reason = match state {
                _ if engine_is_away => Some(ENGINE_AWAY.to_owned()),
                AgentState::Failed => crashes.or(row.last_failure),
                AgentState::Degraded => crashes.or_else(|| facts.failing.then(|| failing(&row))),
                _ => None,
            };
            let reason = reason.or_else(|| self.full_database(row.id));
            AgentStatus {
                url: self.agent_url(&name),
                name: name.clone(),
                version: row.version.unwrap_or(0),
                state,
                ready: live.ready,
                wanted: live.wanted,
                p95_ms: row.p95_ms,
                cost_per_turn: row.cost_per_turn,
                runs: row.runs,
                failed: row.failed,
                tasks: about(&tasks, &name),
                held: row.held.map(|note| format!("a replica was replaced: {note}")),
                inputs_digest: row.inputs_digest,
                image: row.image,
                reason,
                draining: row.draining.0,
            }
        });
        Ok(status.collect())
    }

    /// The server's own tasks that have failed lately, in words.
    pub fn failing_tasks(&self) -> Vec<String> {
        self.0.parts.shutdown.tasks().failing().iter().map(in_words).collect()
    }

    /// Those of them that look after one of these agents.
    pub fn failing_tasks_of(&self, agents: &[String]) -> Vec<String> {
        let tasks = self.failing_tasks();
        agents.iter().flat_map(|agent| about(&tasks, agent)).collect()
    }
}

fn in_words(task: &Failing) -> String {
    let times = if task.failures == 1 { "once".to_owned() } else { format!("{} times", task.failures) };
    let now = if task.runs { "it runs again" } else { "it does not run" };
    format!("{} failed {times} ({}); {now}", task.name, task.how)
}

/// Those that look after one agent: their names end with its.
fn about(tasks: &[String], agent: &str) -> Vec<String> {
    let is_its =
        |task: &&String| task.split(" failed ").next().is_some_and(|name| name.ends_with(&format!(" of {agent}")));
    tasks.iter().filter(is_its).cloned().collect()
}

fn failing(row: &AgentRow) -> String {
    let fault = row.last_fault.as_ref().map(|fault| format!(", most of them with {fault}")).unwrap_or_default();
    format!("{} of the last {} turns failed{fault}: see `rapidclaw runs {}`", row.last_failed, row.last_turns, row.name)
}
