//! What the registry and the engine keep for nobody, taken away from time to time.

use super::{Control, ControlError};
use crate::gateway::committer::chain;
use crate::registry::collect::Collected;
use crate::registry::names::Digest;
use crate::store::agents::Agent;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::RwLockReadGuard;

/// The first time after a start, when whoever was pushing has come back.
const FIRST: Duration = Duration::from_secs(600);
/// A wall clock that has gone so much more than time itself was set: all files look old.
const JUMP: Duration = Duration::from_secs(60);
/// Then so often.
const EVERY: Duration = Duration::from_secs(3_600);

/// Clears the registry and the engine as long as the server lives.
pub(super) async fn clear(control: Control) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + FIRST, EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut clock = Clock::now();
    loop {
        ticks.tick().await;
        if *control.0.paused.borrow() {
            // They are another server's now.
            continue;
        }
        for agent in control.store().list_agents().await.unwrap_or_default() {
            control.release_images(&agent).await;
        }
        let before = std::mem::replace(&mut clock, Clock::now());
        if clock.jumped_since(&before) {
            tracing::info!("the clock was set: the registry is cleared when files' ages can be told again");
            continue;
        }
        let named = match control.store().list_pushed(i64::from(control.0.parts.keep_images)).await {
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

impl Control {
    /// Names an image in the engine, so that it stays. Nobody takes the name away while the guard is held.
    pub(super) async fn keep_image(&self, agent: &str, image: &str) -> Result<RwLockReadGuard<'_, ()>, ControlError> {
        let guard = self.0.images.read().await;
        self.runtime().keep_image(agent, image).await?;
        Ok(guard)
    }

    /// Takes the names from images that none of the agent's releases wants any more, beside everything else.
    pub(super) fn spawn_release_images(&self, agent: Agent) {
        let control = self.clone();
        self.0.parts.shutdown.spawn_until_cancelled(async move { control.release_images(&agent).await });
    }

    async fn release_images(&self, agent: &Agent) {
        let _nobody_names = self.0.images.write().await;
        let removed = async {
            let kept = self.store().list_kept_images(agent.id, i64::from(self.0.parts.keep_images)).await?;
            Ok::<_, ControlError>(self.runtime().release_images(&agent.name, &kept.into_iter().collect()).await?)
        };
        match removed.await {
            Ok(0) => {}
            Ok(images) => tracing::info!(agent = agent.name, images, "images of old releases were removed"),
            // The next rollout or hour tries again.
            Err(error) => tracing::warn!(error = %chain(&error), agent = agent.name, "old images stay"),
        }
    }
}

/// Time by both clocks.
struct Clock {
    wall: SystemTime,
    steady: Instant,
}

impl Clock {
    fn now() -> Self {
        Self { wall: SystemTime::now(), steady: Instant::now() }
    }

    fn jumped_since(&self, before: &Self) -> bool {
        self.wall > before.wall + self.steady.duration_since(before.steady) + JUMP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_forward_is_noticed() {
        let before = Clock::now();
        let after = |wall: u64, steady: u64| Clock {
            wall: before.wall + Duration::from_secs(wall),
            steady: before.steady + Duration::from_secs(steady),
        };
        assert!(!after(3_600, 3_600).jumped_since(&before));
        assert!(after(86_400, 3_600).jumped_since(&before));
        // Set back, files look young: nothing is taken away too early.
        assert!(!after(0, 3_600).jumped_since(&before));
    }
}
