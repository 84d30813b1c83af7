//! `destroy`: an agent with all that is known of it.

use super::{Control, ControlError};
use std::time::Duration;

/// How long a request waits for the end.
const PATIENCE: Duration = Duration::from_secs(60);

impl Control {
    /// Ends the agent's replicas at once and removes its releases, keys, secrets, threads and runs.
    pub async fn destroy(&self, name: &str) -> Result<(), ControlError> {
        let agent = self.find(name).await?;
        self.store().destroy_agent(agent.id).await?;
        self.gateway().remove_route(name);
        self.gateway().reload_keys().await?;
        let handle = self.ensure_reconciler(&agent, Vec::new());
        handle.kick.notify_one();
        // The reconciler drops its end when the last row is gone.
        let mut snapshot = handle.snapshot;
        let gone = async { while snapshot.changed().await.is_ok() {} };
        tokio::time::timeout(PATIENCE, gone).await.map_err(|_| ControlError::TakesLonger("destroying the agent"))
    }
}
