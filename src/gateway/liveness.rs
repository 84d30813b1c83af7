//! Whether a replica that is there still gets anywhere: when it was last heard, what its runner says holds its loop,
//! which of its runs are past their time.
//!
//! A long computation is no death. While a run holds the loop, those beside it go on elsewhere where there is another
//! replica, and new ones are not given to this one. It is hung when nothing has moved for minutes, or when what does not move
//! has begun before a run's time was up and goes on for a while after.

use crate::runner::protocol::Stalled;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use uuid::Uuid;

/// How long nothing may move where no run's time tells.
const LONGEST: Duration = Duration::from_secs(300);
/// How long after a run's time was up, and how long at least.
const AFTER_ITS_TIME: Duration = Duration::from_secs(10);
/// A pong that tells no stall says that the loop has moved within so long.
const MOVED_WITHIN: Duration = Duration::from_secs(4);

/// How long a run holds the loop before those beside it go on elsewhere: about as long as a new replica would take.
const HELD_UP: Duration = Duration::from_millis(1500);

/// What is known of one replica.
pub(super) struct Liveness {
    known: Mutex<Known>,
    /// The run that holds all others up.
    holder: watch::Sender<Option<Uuid>>,
}

struct Known {
    heard: Instant,
    stalled: Option<(Stalled, Instant)>,
    /// Runs that were taken away because their time was up, and whose end has not come.
    overdue: HashMap<Uuid, Instant>,
}

/// Why a replica is replaced though its container runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hung {
    /// The run that holds it, where that is known.
    pub run: Option<Uuid>,
    /// How long nothing has moved.
    pub stuck_for: Duration,
    /// What of the project does, as its runner says: node, file and line.
    pub place: Option<String>,
}

impl fmt::Display for Hung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing has moved in it for {} s", self.stuck_for.as_secs())?;
        if let Some(run) = self.run {
            write!(f, ": run {run}")?;
        }
        if let Some(place) = &self.place {
            write!(f, ", {place}")?;
        }
        Ok(())
    }
}

impl Liveness {
    pub(super) fn new() -> Self {
        let known = Known { heard: Instant::now(), stalled: None, overdue: HashMap::new() };
        Self { known: Mutex::new(known), holder: watch::Sender::new(None) }
    }

    /// A frame has come.
    pub(super) fn heard(&self) {
        self.with(|known| known.heard = Instant::now());
    }

    /// What a pong says of the loop that runs graphs.
    pub(super) fn told(&self, stalled: Option<Stalled>) {
        let held_up = stalled.as_ref().filter(|stalled| stalled.seconds >= HELD_UP.as_secs_f64());
        let holder = held_up.and_then(|stalled| Uuid::try_parse(stalled.run.as_deref()?).ok());
        // Whoever waits for it is woken while somebody holds it, not by each pong.
        self.holder.send_if_modified(|known| std::mem::replace(known, holder).is_some() || holder.is_some());
        self.with(|known| {
            if stalled.is_none() {
                // It has moved since their time was up: they are not what holds it.
                known.overdue.retain(|_, at| at.elapsed() < MOVED_WITHIN);
            }
            known.stalled = stalled.map(|stalled| (stalled, Instant::now()));
        });
    }

    /// Whether its loop does not move.
    pub(super) fn is_stalled(&self) -> bool {
        self.with(|known| known.stalled.is_some())
    }

    /// The run that holds all others up, told anew with each pong while there is one.
    pub(super) fn holder(&self) -> watch::Receiver<Option<Uuid>> {
        self.holder.subscribe()
    }

    /// A run's time is up.
    pub(super) fn is_overdue(&self, run: Uuid) {
        self.with(|known| known.overdue.insert(run, Instant::now()));
    }

    /// A run has ended in the replica: its code has, too, unless the loop stands still, for then its runner ends
    /// runs without their code.
    pub(super) fn ended(&self, run: Uuid) {
        self.with(|known| {
            if known.stalled.is_none() {
                known.overdue.remove(&run);
            }
        });
    }

    /// Why it is to be replaced, if it is.
    pub(super) fn hung(&self, now: Instant) -> Option<Hung> {
        self.with(|known| {
            let silent = now.saturating_duration_since(known.heard);
            let stalled = known.stalled.as_ref().map_or(Duration::ZERO, |(stalled, at)| {
                let said = Duration::try_from_secs_f64(stalled.seconds).unwrap_or(Duration::ZERO);
                said.saturating_add(now.saturating_duration_since(*at))
            });
            let stuck_for = silent.max(stalled);
            let late = known.overdue.iter().map(|(run, at)| (*run, now.saturating_duration_since(*at)));
            let is_held = stuck_for >= AFTER_ITS_TIME;
            let late = late.filter(|(_, late)| is_held && *late >= AFTER_ITS_TIME).max_by_key(|one| one.1);
            if stuck_for < LONGEST && late.is_none() {
                return None;
            }
            let said = known.stalled.as_ref().map(|(stalled, _)| stalled);
            let named = said.and_then(|stalled| Uuid::try_parse(stalled.run.as_deref()?).ok());
            Some(Hung {
                run: named.or(late.map(|(run, _)| run)),
                stuck_for,
                place: said.and_then(|stalled| match (&stalled.node, &stalled.place) {
                    (Some(node), Some(place)) => Some(format!("node {node:?}, {place}")),
                    (Some(node), None) => Some(format!("node {node:?}")),
                    (None, place) => place.clone(),
                }),
            })
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn stalled(run: Uuid, seconds: f64) -> Stalled {
        let place = Some("agent.py:12".to_owned());
        Stalled { run: Some(run.to_string()), node: Some("act".to_owned()), place, seconds }
    }

    #[test]
    fn a_long_computation_is_no_death_and_minutes_without_a_move_are_one() {
        let liveness = Liveness::new();
        let now = Instant::now();
        assert_eq!(liveness.hung(now + 299 * SECOND), None);
        assert_eq!(liveness.hung(now + 301 * SECOND).map(|hung| (hung.run, hung.place)), Some((None, None)));
        liveness.told(Some(stalled(Uuid::nil(), 290.0)));
        assert_eq!(liveness.hung(now + 5 * SECOND), None);
        let hung = liveness.hung(now + 15 * SECOND).unwrap();
        assert!(hung.to_string().ends_with("s: run 00000000-0000-0000-0000-000000000000, node \"act\", agent.py:12"));
    }

    #[test]
    fn whoever_holds_the_loop_holds_up_the_others_after_a_while() {
        let (run, liveness) = (Uuid::from_u128(7), Liveness::new());
        let holder = liveness.holder();
        assert!(!liveness.is_stalled());
        liveness.told(Some(stalled(run, 1.1)));
        assert!(liveness.is_stalled() && holder.borrow().is_none());
        liveness.told(Some(stalled(run, 1.6)));
        assert_eq!(*holder.borrow(), Some(run));
        liveness.told(None);
        assert!(!liveness.is_stalled() && holder.borrow().is_none());
    }

    #[test]
    fn what_does_not_move_past_a_runs_time_is_replaced_soon_after() {
        let (run, now) = (Uuid::from_u128(7), Instant::now());
        let liveness = Liveness::new();
        liveness.is_overdue(run);
        assert_eq!(liveness.hung(now + 9 * SECOND), None);
        // Silent since before its time was up: the interpreter itself is held.
        assert_eq!(liveness.hung(now + 12 * SECOND).unwrap().run, Some(run));
        liveness.ended(run);
        assert_eq!(liveness.hung(now + 12 * SECOND), None);
    }

    #[test]
    fn a_run_past_its_time_in_a_replica_that_moves_replaces_nothing() {
        let (run, now) = (Uuid::from_u128(7), Instant::now());
        let liveness = Liveness::new();
        liveness.with(|known| known.overdue.insert(run, now));
        // It answers, and something holds its loop for a second.
        liveness.with(|known| known.heard = now + 20 * SECOND);
        liveness.with(|known| known.stalled = Some((stalled(Uuid::nil(), 1.0), now + 20 * SECOND)));
        assert_eq!(liveness.hung(now + 21 * SECOND), None);
        // A node holds the loop; on a busy machine its runner has counted less than went by.
        liveness.with(|known| known.stalled = Some((stalled(run, 12.0), now + 20 * SECOND)));
        assert_eq!(liveness.hung(now + 21 * SECOND).unwrap().run, Some(run));
        // Of one whose loop has moved after its time was up, the next long computation is none of its doing.
        let long_ago = now.checked_sub(5 * SECOND).unwrap();
        liveness.with(|known| known.overdue.insert(run, long_ago));
        liveness.told(None);
        liveness.told(Some(stalled(Uuid::nil(), 30.0)));
        assert_eq!(liveness.hung(now + 21 * SECOND), None);
    }
}
