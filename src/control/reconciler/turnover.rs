//! Replicas that are replaced under the same release: their secrets are yesterday's.
//!
//! They serve beside those that replace them, and go one by one as these become ready. Which they are
//! follows from the database and the containers' labels, so that a server that starts again goes on.

use super::Reconciler;
use crate::base::machine;
use crate::control::fleet::Member;
use crate::control::{AgentSettings, ControlError};
use crate::release::plan::Turnover;
use crate::release::state::Phase;
use crate::store::rollouts::Rollout;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::Notify;
use uuid::Uuid;

/// Stands for the generations of all that are being replaced.
pub const OLD: Uuid = Uuid::nil();

/// Counts a replica that is out and ends what it runs; the reconciler looks again when it is gone.
pub struct Leaving(Arc<AtomicU32>, Arc<Notify>);

impl Leaving {
    pub fn new(count: &Arc<AtomicU32>, kick: &Arc<Notify>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count), Arc::clone(kick))
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
        self.1.notify_one();
    }
}

impl Reconciler {
    /// Sets the generation that the replicas of the release that serves are to be of. Says whether the
    /// rollout replaces them.
    pub(super) fn aim(&mut self, rollout: Option<&Rollout>) -> bool {
        let serving = self.agent.serving_release;
        let replacement = rollout.filter(|rollout| serving == Some(rollout.release_id));
        self.target = replacement.map(|rollout| rollout.generation).or(self.agent.serving_generation);
        replacement.is_some()
    }

    /// Whether a replica is of the release that serves, whatever secrets it has read. One that a rollback
    /// took over from standby was made for an earlier release of the same content.
    pub(super) fn is_serving(&self, member: &Member) -> bool {
        self.agent.serving_generation == Some(member.generation) || self.agent.serving_release == Some(member.release)
    }

    /// Whether a replica is being replaced.
    pub(super) fn is_old(&self, member: &Member) -> bool {
        self.target != Some(member.generation) && self.is_serving(member)
    }

    pub(super) async fn turnover(&self, settings: &AgentSettings, target: Uuid) -> Turnover {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let new = || self.members.iter().filter(|one| one.generation == target);
        let old = self.members.iter().filter(|one| self.is_old(one) && one.is_alive()).count();
        let room = old == 0 || machine::available_memory().await.is_none_or(|bytes| bytes >= settings.memory_bytes);
        Turnover {
            wanted: settings.wanted(self.agent.scale),
            old: count(old),
            new: count(new().filter(|one| one.is_alive()).count()),
            ready: count(new().filter(|one| one.ready().is_some()).count()),
            leaving: self.leaving.load(Ordering::Acquire),
            room,
        }
    }

    /// Says how far the replacement is.
    pub(super) async fn tell_turnover(
        &mut self,
        rollout: Uuid,
        ready: usize,
        wanted: usize,
    ) -> Result<(), ControlError> {
        let waits = self.waits_for_memory;
        let Some(progress) = self.progress.as_mut() else { return Ok(()) };
        let says_memory = waits && !std::mem::replace(&mut progress.said_memory, waits);
        let more = ready > progress.ready && wanted > 1;
        progress.ready = progress.ready.max(ready);
        if more {
            self.event(rollout, Phase::Start, &format!("{ready} of {wanted} have them")).await?;
        }
        if says_memory {
            let message = "the machine's memory does not hold one more: the next starts when one has ended its runs";
            self.event(rollout, Phase::Start, message).await?;
        }
        Ok(())
    }
}
