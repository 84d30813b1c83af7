//! A rolling rollout: replicas are replaced one by one by those of a release of the same image with other secrets.
//!
//! Both serve beside each other, and an old one goes as a new one becomes ready. Which they are follows from the
//! database and the containers' labels, so that a server that starts again goes on. When such a rollout fails, the
//! replicas that it has made are replaced in the same way.

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
    /// Sets the generation and the release that the replicas that serve are to be of. Says whether the rollout
    /// replaces them one by one.
    pub(super) fn aim(&mut self, rollout: Option<&Rollout>) -> bool {
        let rolling = rollout.filter(|rollout| rollout.rolling);
        self.target = match rolling {
            Some(rollout) => Some((rollout.generation, rollout.release_id)),
            None => self.agent.serving_generation.zip(self.agent.serving_release),
        };
        rolling.is_some()
    }

    /// Whether a replica serves: it is of the release that serves, or was made to serve beside it. One that a rollback
    /// took over from standby was made for an earlier release of the same content.
    pub(super) fn is_serving(&self, member: &Member) -> bool {
        let serving = self.agent.serving_release;
        self.agent.serving_generation == Some(member.generation)
            || serving.is_some_and(|serving| member.release == serving || member.beside == Some(serving))
    }

    /// Whether a replica is being replaced.
    pub(super) fn is_old(&self, member: &Member) -> bool {
        self.target.is_some_and(|(target, _)| target != member.generation) && self.is_serving(member)
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
