//! `status`: what the database knows, and what runs.

use super::{Control, ControlError};
use crate::api::control::AgentStatus;
use crate::release::state::{AgentFacts, AgentState, agent_state};
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
        let status = rows.into_iter().map(|row| {
            let live = self.snapshot(row.id).unwrap_or_default();
            let facts = AgentFacts {
                serving: row.serving_release.is_some(),
                rolling: row.rolling,
                ready: live.ready,
                wanted: live.wanted,
                stopped: row.scale == Some(0),
            };
            let state = agent_state(facts);
            let crashes = live.crashes.as_ref().map(|crashes| crashes.in_words(Instant::now()));
            let reason = match state {
                _ if engine_is_away => Some(ENGINE_AWAY.to_owned()),
                AgentState::Failed => crashes.or(row.last_failure),
                AgentState::Degraded => crashes,
                _ => None,
            };
            let reason = reason.or_else(|| self.full_database(row.id));
            AgentStatus {
                url: self.agent_url(&row.name),
                name: row.name,
                version: row.version.unwrap_or(0),
                state,
                ready: live.ready,
                wanted: live.wanted,
                p95_ms: row.p95_ms,
                cost_per_turn: row.cost_per_turn,
                runs: row.runs,
                inputs_digest: row.inputs_digest,
                image: row.image,
                reason,
                draining: row.draining.0,
            }
        });
        Ok(status.collect())
    }
}
