//! What the registry keeps for nobody, taken away from time to time.

use super::Control;
use crate::gateway::committer::chain;
use crate::registry::collect::Collected;
use crate::registry::names::Digest;
use std::time::Duration;

/// The first time after a start, when whoever was pushing has come back.
const FIRST: Duration = Duration::from_secs(600);
/// Then so often.
const EVERY: Duration = Duration::from_secs(3_600);

/// Clears the registry as long as the server lives.
pub(super) async fn clear(control: Control) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + FIRST, EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let named = match control.store().list_pushed().await {
            Ok(named) => named,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the registry is not cleared: what releases name is not known");
                continue;
            }
        };
        let named = named.iter().filter_map(|digest| Digest::parse(digest)).collect();
        match control.0.parts.registry.collect(named).await {
            Ok(done) if done == Collected::default() => {}
            Ok(Collected { manifests, blobs, uploads, bytes }) => {
                tracing::info!(manifests, blobs, uploads, bytes, "the registry was cleared of what nothing names");
            }
            Err(error) => tracing::warn!(error = %chain(&error), "the registry could not be cleared"),
        }
    }
}
