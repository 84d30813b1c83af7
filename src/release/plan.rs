//! What to do about an agent's replicas: `plan(desired, observed) -> actions`.

use uuid::Uuid;

/// What there shall be of one rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Desired {
    /// Which rollout.
    pub rollout: Uuid,
    /// How many replicas of it.
    pub replicas: u32,
}

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// Which replica.
    pub replica: Uuid,
    /// Of which rollout.
    pub rollout: Uuid,
    /// Whether its container runs.
    pub alive: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Start a new replica of a rollout.
    Start(Uuid),
    /// Remove a replica: it died, is one too many, or its rollout is not wanted.
    Remove(Uuid),
}

/// The actions that lead from what there is to what there shall be. Removals come first.
pub fn plan(desired: &[Desired], observed: &[Observed]) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut missing: Vec<(Uuid, u32)> = desired.iter().map(|wish| (wish.rollout, wish.replicas)).collect();
    for one in observed {
        let wanted = missing.iter_mut().find(|(rollout, left)| *rollout == one.rollout && *left > 0);
        match wanted {
            Some((_, left)) if one.alive => *left -= 1,
            _ => actions.push(Action::Remove(one.replica)),
        }
    }
    for (rollout, left) in missing {
        actions.extend((0..left).map(|_| Action::Start(rollout)));
    }
    actions
}

/// Replicas that take the place of others of the same release, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turnover {
    /// How many there shall be in the end.
    pub wanted: u32,
    /// Those that are replaced, and live.
    pub old: u32,
    /// Those that replace them, and live.
    pub new: u32,
    /// Of the new, those that are ready.
    pub ready: u32,
    /// Replicas that have been taken out and end what they run.
    pub leaving: u32,
    /// Whether the machine's memory holds one more beside all of these.
    pub room: bool,
}

impl Turnover {
    /// How many of the old and of the new there shall be next. An old one goes when a new one is ready, so
    /// that as many serve as are wanted; there is one more than wanted at most. Without memory for another
    /// the next new one waits until those that leave have left.
    pub fn next(self) -> (u32, u32) {
        if self.old == 0 {
            return (0, self.wanted);
        }
        let old = self.old.min(self.wanted.saturating_sub(self.ready));
        let most = self.wanted.min((self.wanted + 1).saturating_sub(old));
        let leaving = self.leaving + (self.old - old);
        let new = if leaving > 0 && !self.room { most.min(self.new) } else { most };
        (old, new.max(self.new.min(self.wanted)))
    }

    /// Whether the next new one waits for memory.
    pub fn waits_for_memory(self) -> bool {
        !self.room && self.next().1 < Self { room: true, ..self }.next().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Uuid = Uuid::from_u128(1);
    const NEW: Uuid = Uuid::from_u128(2);

    fn replica(n: u128, rollout: Uuid, alive: bool) -> Observed {
        Observed { replica: Uuid::from_u128(n), rollout, alive }
    }

    #[test]
    fn what_is_missing_starts_and_what_is_there_stays() {
        let wish = [Desired { rollout: NEW, replicas: 3 }];
        let actions = plan(&wish, &[replica(10, NEW, true)]);
        assert_eq!(actions, [Action::Start(NEW), Action::Start(NEW)]);
        let three = [replica(10, NEW, true), replica(11, NEW, true), replica(12, NEW, true)];
        assert_eq!(plan(&wish, &three), []);
    }

    #[test]
    fn the_dead_and_the_unwanted_go() {
        let wish = [Desired { rollout: NEW, replicas: 1 }];
        let there = [replica(10, NEW, false), replica(11, OLD, true), replica(12, NEW, true), replica(13, NEW, true)];
        let removed = [10, 11, 13].map(|n| Action::Remove(Uuid::from_u128(n)));
        assert_eq!(plan(&wish, &there), removed);
    }

    #[test]
    fn one_goes_when_one_is_ready_and_there_is_never_more_than_one_too_many() {
        for wanted in 1..6 {
            for room in [true, false] {
                let mut now = Turnover { wanted, old: wanted, new: 0, ready: 0, leaving: 0, room };
                let mut steps = 0;
                while now.old > 0 || now.ready < wanted {
                    let (old, new) = now.next();
                    now.leaving += now.old - old;
                    (now.old, now.new) = (old, new);
                    assert!(now.old + now.ready >= wanted, "fewer serve than are wanted: {now:?}");
                    assert!(now.old + now.new <= wanted + 1, "more than one too many: {now:?}");
                    let all = now.old + now.new + now.leaving;
                    assert!(room || all <= wanted + 1, "memory for one more, and no more: {now:?}");
                    // Either a new one becomes ready, or those that leave are gone.
                    if now.ready < now.new {
                        now.ready += 1;
                    } else {
                        now.leaving = 0;
                    }
                    steps += 1;
                    assert!(steps < 50, "it does not end: {now:?}");
                }
            }
        }
    }

    #[test]
    fn old_ones_that_have_died_are_not_made_again_and_do_not_hold_the_new_up() {
        let now = Turnover { wanted: 3, old: 1, new: 0, ready: 0, leaving: 0, room: true };
        assert_eq!(now.next(), (1, 3));
        // Scaled down meanwhile, and to nothing.
        assert_eq!(Turnover { wanted: 1, old: 3, new: 1, ready: 1, ..now }.next(), (0, 1));
        assert_eq!(Turnover { wanted: 0, old: 3, ..now }.next(), (0, 0));
        // Nothing to replace: all at once.
        assert_eq!(Turnover { old: 0, leaving: 2, room: false, ..now }.next(), (0, 3));
    }

    #[test]
    fn what_waits_for_memory_is_known() {
        let now = Turnover { wanted: 3, old: 2, new: 1, ready: 1, leaving: 1, room: false };
        assert!(now.waits_for_memory() && !Turnover { room: true, ..now }.waits_for_memory());
        assert!(!Turnover { leaving: 0, ..now }.waits_for_memory());
        assert_eq!(now.next(), (2, 1));
    }
}
