//! A rollout from its first replica to the switch: watched, judged, recorded.

use super::{LOOK_EVERY, Reconciler, STANDBY};
use crate::api::control::PhaseTime;
use crate::base::machine;
use crate::control::evidence::Fault;
use crate::control::fleet::{Member, MemberState};
use crate::control::{AgentSettings, ControlError};
use crate::release::state::{Phase, replicas};
use crate::store::rollouts::Rollout;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Where the rollout under way stands.
pub(super) struct Progress {
    pub(super) rollout: Uuid,
    /// How many of its replicas were said to be ready.
    pub(super) ready: usize,
    /// Whether it was said that memory is waited for.
    pub(super) said_memory: bool,
    pub(super) phase: Phase,
    pub(super) since: Instant,
    pub(super) started: Instant,
}

impl Reconciler {
    /// Drives the rollout under way. Says whether to look anew at once: it has ended, or entered a phase.
    pub(super) async fn drive(&mut self, rollout: &Rollout) -> Result<bool, ControlError> {
        let loaded = self.load(rollout.release_id).await?;
        let version = loaded.release.version;
        let replaces = rollout.rolling;
        self.begin(rollout, &loaded.settings, replaces).await?;
        let wanted = self.tried(&loaded.settings, replaces) as usize;
        self.members.iter_mut().for_each(|one| one.was_ready |= one.ready().is_some());
        let green: Vec<&Member> = self.members.iter().filter(|one| one.generation == rollout.generation).collect();
        let started = self.progress.as_ref().map_or_else(Instant::now, |progress| progress.started);
        // One that was on standby before has served: when it dies another takes its place. So it is with
        // those that the engine took along, with those that have served beside what they replace, and with those
        // that die once all were ready, while the switch waits for the database.
        let gets_another = replaces || self.progress.as_ref().is_some_and(|progress| progress.phase == Phase::Switch);
        let fault = green
            .iter()
            .filter(|one| one.since >= started && !one.ended_with_engine() && !(gets_another && one.was_ready))
            .find_map(|one| match one.now() {
                MemberState::Over { fault, .. } => Some((one.id, fault)),
                _ => None,
            });
        let green: Vec<&Member> = green.into_iter().filter(|one| one.is_alive()).collect();
        let ready = green.iter().filter(|one| one.ready().is_some()).count();
        let limit = loaded.settings.ready_timeout;
        let late = || {
            let late = late(&green, started, limit);
            let none_starts = green.is_empty() && !replaces && started.elapsed() >= limit;
            let is_late = late.is_some() || none_starts;
            is_late.then(|| (late.unwrap_or_default(), Fault::NotReady(limit)))
        };
        if let Some((id, fault)) = fault.or_else(late) {
            self.fail(rollout, id, &fault).await?;
            return Ok(true);
        }
        let all_started = green.len() == wanted && green.iter().all(|one| !matches!(one.now(), MemberState::Starting));
        if replaces {
            self.tell_turnover(rollout.id, ready, wanted).await?;
        }
        // Who enters a phase looks again: what is ready may have died meanwhile.
        if all_started && self.enter(rollout.id, Phase::Ready).await? {
            return Ok(true);
        }
        if !all_started || ready < wanted {
            return Ok(false);
        }
        if self.enter(rollout.id, Phase::Switch).await? {
            return Ok(true);
        }
        let describe = self.members.iter().filter(|one| one.generation == rollout.generation).find_map(Member::ready);
        if let Some(text) = describe.as_ref().and_then(|(_, describe)| std::str::from_utf8(describe).ok()) {
            self.control.store().set_describe(rollout.release_id, text).await?;
        }
        for note in describe.map(|(_, describe)| notes_of(&describe)).unwrap_or_default() {
            self.event(rollout.id, Phase::Switch, &note).await?;
        }
        let spent = self.progress.as_ref().map(|progress| progress.since.elapsed().as_secs_f64()).unwrap_or_default();
        // Remembered first: a server that is killed now goes on with the new release.
        let ended = PhaseTime { phase: Phase::Switch, seconds: spent };
        if !self.control.store().finish_rollout(rollout, &ended, STANDBY.as_secs_f64()).await? {
            // It was cancelled in the last moment.
            return Ok(true);
        }
        self.progress = None;
        self.agent.serving_release = Some(rollout.release_id);
        self.agent.serving_generation = Some(rollout.generation);
        self.members.iter_mut().for_each(|one| one.draining = false);
        self.backoffs.clear();
        self.tell().await?;
        self.control.rollout_changed();
        self.control.spawn_release_images(self.agent.clone());
        tracing::info!(agent = self.agent.name, version, "a release serves");
        Ok(true)
    }

    /// Begins to drive a rollout.
    async fn begin(&mut self, rollout: &Rollout, settings: &AgentSettings, replaces: bool) -> Result<(), ControlError> {
        let wanted = self.tried(settings, replaces);
        if self.progress.as_ref().is_some_and(|progress| progress.rollout == rollout.id) {
            return Ok(());
        }
        let there = self.members.iter().filter(|one| one.generation == rollout.generation && one.is_alive()).count();
        let message = if replaces { replacing(wanted, count(there)) } else { begins(rollout, wanted, count(there)) };
        let now = Instant::now();
        let progress = Progress {
            rollout: rollout.id,
            ready: 0,
            said_memory: false,
            phase: rollout.phase,
            since: now,
            started: now,
        };
        self.event(rollout.id, rollout.phase, &message).await?;
        if !replaces && let Some(free) = machine::available_memory().await {
            let missing = wanted.saturating_sub(count(there));
            if let Some(message) = says_memory(missing, settings.memory_bytes, free) {
                self.event(rollout.id, rollout.phase, &message).await?;
            }
        }
        self.progress = Some(progress);
        self.backoffs.remove(&rollout.generation);
        Ok(())
    }

    /// Enters a phase. Says whether that is news.
    async fn enter(&mut self, rollout: Uuid, phase: Phase) -> Result<bool, ControlError> {
        // A server that goes on where another was killed may find itself behind what that one has seen.
        let Some(progress) = self.progress.as_mut().filter(|progress| progress.phase < phase) else {
            return Ok(false);
        };
        let ended = PhaseTime { phase: progress.phase, seconds: progress.since.elapsed().as_secs_f64() };
        self.control.store().set_phase(rollout, phase, Some(&ended)).await?;
        progress.phase = phase;
        progress.since = Instant::now();
        self.control.rollout_changed();
        Ok(true)
    }

    pub(super) async fn event(&self, rollout: Uuid, phase: Phase, message: &str) -> Result<(), ControlError> {
        self.control.store().add_rollout_event(rollout, phase, message).await?;
        self.control.rollout_changed();
        Ok(())
    }

    async fn fail(&mut self, rollout: &Rollout, replica: Uuid, fault: &Fault) -> Result<(), ControlError> {
        let redactor = self.control.redactor_of(&self.agent).await?;
        let failure = self.control.failure(replica, fault, &redactor).await;
        tracing::warn!(agent = self.agent.name, code = failure.code, message = failure.message, "a rollout failed");
        self.progress = None;
        self.control.store().fail_rollout(rollout.id, &failure).await?;
        self.control.rollout_changed();
        self.control.spawn_release_images(self.agent.clone());
        Ok(())
    }

    /// When the rollout's time is up, or that of one of its replicas.
    pub(super) async fn deadline(&mut self, rollout: Option<&Rollout>) -> Result<Duration, ControlError> {
        let Some(rollout) = rollout else { return Ok(LOOK_EVERY) };
        let limit = self.load(rollout.release_id).await?.settings.ready_timeout;
        let green = || self.members.iter().filter(|one| one.generation == rollout.generation);
        let awaited = green().filter_map(|one| self.unready_for(one)).max();
        let none = !rollout.rolling && green().next().is_none();
        let awaited =
            awaited.or_else(|| self.progress.as_ref().filter(|_| none).map(|progress| progress.started.elapsed()));
        Ok(awaited.map_or(LOOK_EVERY, |time| limit.saturating_sub(time) + Duration::from_millis(1)))
    }

    /// How many replicas a release is tried with before it serves: one at least, though none is wanted just now. One
    /// that serves is tried already.
    pub(super) fn tried(&self, settings: &AgentSettings, replaces: bool) -> u32 {
        settings.wanted(self.agent.scale).max(u32::from(!replaces))
    }

    /// How long a replica of the rollout under way is awaited; nothing when it is ready.
    fn unready_for(&self, member: &Member) -> Option<Duration> {
        awaited_for(member, self.progress.as_ref()?.started)
    }
}

/// How long a replica of a rollout that was started then is awaited; nothing when it is ready.
fn awaited_for(member: &Member, started: Instant) -> Option<Duration> {
    member.ready().is_none().then(|| member.since.max(started).elapsed())
}

/// One that has been awaited for too long. Each has its own time: one may start when others are ready, or when more
/// are asked for meanwhile.
fn late(green: &[&Member], started: Instant, limit: Duration) -> Option<Uuid> {
    let late = green.iter().find(|one| awaited_for(one, started).is_some_and(|time| time >= limit));
    late.map(|one| one.id)
}

fn count(members: usize) -> u32 {
    u32::try_from(members).unwrap_or(u32::MAX)
}

/// The first line of a rollout's record, or the one of a server that goes on with it.
fn begins(rollout: &Rollout, wanted: u32, there: u32) -> String {
    let is_standby = rollout.generation != rollout.id;
    match (wanted.saturating_sub(there), there) {
        (0, _) if is_standby => format!("{} on standby", replicas(wanted)),
        (0, _) => format!("going on with {}", replicas(wanted)),
        (missing, 0) => format!("starting {}", replicas(missing)),
        (missing, there) => format!("starting {} beside {}", replicas(missing), replicas(there)),
    }
}

/// The same of one that replaces replicas of the release that serves.
fn replacing(wanted: u32, there: u32) -> String {
    match wanted.saturating_sub(there) {
        0 => format!("going on with {}", replicas(wanted)),
        1 => "replacing 1 replica".to_owned(),
        missing => format!("replacing {}, one after the other", replicas(missing)),
    }
}

/// What there is to say of the machine's memory before so many replicas start beside those that serve.
fn says_memory(missing: u32, each: u64, free: u64) -> Option<String> {
    let most = each.saturating_mul(u64::from(missing));
    let mib = |bytes: u64| bytes / (1 << 20);
    (most > free).then(|| {
        format!("{} may take {} MiB, and the machine has {} MiB left", replicas(missing), mib(most), mib(free))
    })
}

/// The lines that the runner has for whoever deploys.
fn notes_of(describe: &[u8]) -> Vec<String> {
    let describe: serde_json::Value = serde_json::from_slice(describe).unwrap_or_default();
    let notes = describe["notes"].as_array().cloned().unwrap_or_default();
    notes.iter().filter_map(|note| note.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::watch;
    use tokio_util::sync::CancellationToken;

    #[test]
    fn each_replica_of_a_rollout_has_its_own_time() {
        let limit = Duration::from_secs(100);
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        let loads = |id, since| Member {
            id: Uuid::from_u128(id),
            release: Uuid::nil(),
            generation: Uuid::nil(),
            beside: None,
            state: watch::channel(MemberState::Loading).1,
            end: CancellationToken::new(),
            since,
            draining: false,
            was_ready: false,
        };
        // The rollout's time is over, but one more was asked for meanwhile.
        let scaled = loads(1, ago(30));
        assert_eq!(late(&[&scaled], ago(500), limit), None);
        let first = loads(2, ago(499));
        assert_eq!(late(&[&scaled, &first], ago(500), limit), Some(first.id));
        // One that was there before has its time from the rollout's beginning.
        let standby = loads(3, ago(500));
        assert_eq!(late(&[&standby], ago(30), limit), None);
        assert_eq!(late(&[&standby], ago(130), limit), Some(standby.id));
    }

    #[test]
    fn memory_that_may_not_do_is_said() {
        assert_eq!(says_memory(3, 1 << 30, 4 << 30), None);
        assert_eq!(says_memory(0, 1 << 30, 0), None);
        assert_eq!(
            says_memory(3, 1 << 30, 1 << 30).as_deref(),
            Some("3 replicas may take 3072 MiB, and the machine has 1024 MiB left")
        );
    }
}
