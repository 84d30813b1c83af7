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
}
