//! Rollouts as those see them who watch.

use super::{Control, ControlError};
use crate::api::control::RolloutView;
use crate::release::state::RolloutState;
use std::time::Duration;
use uuid::Uuid;

impl Control {
    /// The rollout with its events after `after`: at once when there are any or it has ended, else when
    /// something happens or `wait` is over.
    pub async fn watch_rollout(&self, id: Uuid, after: i32, wait: Duration) -> Result<RolloutView, ControlError> {
        let mut changes = self.0.changes.subscribe();
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let view = self.store().view_rollout(id, after).await?.ok_or(ControlError::NoSuchRollout(id))?;
            let news = !view.events.is_empty() || view.state != RolloutState::Running;
            if news || tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
                return Ok(view);
            }
        }
    }
}
