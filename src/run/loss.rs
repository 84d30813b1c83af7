//! What the death of a replica says against the runs that were on it. No IO, no clock.

/// Losses of its replica, with nobody else on it, after which a run is given up, whatever ended the replica.
pub const MOST_LOSSES: i32 = 3;
/// Deaths in company after which a run is tried alone.
pub const MOST_DEATHS: i32 = 2;

/// What the end of an attempt counts against its run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loss {
    /// Whether a replica died under it.
    pub died: bool,
    /// Whether it was the only run there: a loss of its own.
    pub counts: bool,
    /// Whether its next attempt is to have a replica for itself.
    pub alone: bool,
    /// Whether there is no next attempt: with a replica for itself it has ended that as well.
    pub last: bool,
}

impl Loss {
    /// The run goes on elsewhere, and nothing is held against it.
    pub const NONE: Self = Self { died: false, counts: false, alone: false, last: false };
}

/// How a replica ended that had runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Death {
    /// How many runs were on it.
    pub runs: usize,
    /// Whether it was set apart for its one run.
    pub apart: bool,
    /// Whether it ended by itself (an exit, a segmentation fault, its memory) and was not killed from outside.
    pub by_itself: bool,
}

impl Death {
    /// What it counts against each run, the one that began last being the last. That one is suspected first: what
    /// ends a replica mostly does so soon. The others go on as if nothing had been, until it happens to them again.
    pub fn against(self, nth: usize) -> Loss {
        let only = self.runs == 1;
        let newest = nth + 1 == self.runs;
        Loss { died: true, counts: only, alone: self.by_itself && newest, last: only && self.apart && self.by_itself }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRASH: Death = Death { runs: 3, apart: false, by_itself: true };

    #[test]
    fn neighbours_lose_nothing_and_the_newest_is_tried_alone() {
        let neighbour = Loss { died: true, ..Loss::NONE };
        assert_eq!([0, 1].map(|nth| CRASH.against(nth)), [neighbour; 2]);
        assert_eq!(CRASH.against(2), Loss { alone: true, ..neighbour });
    }

    #[test]
    fn who_ends_a_replica_of_its_own_is_given_up_and_who_was_alone_by_chance_is_not() {
        let by_chance = Death { runs: 1, ..CRASH }.against(0);
        assert_eq!(by_chance, Loss { died: true, counts: true, alone: true, last: false });
        assert!(Death { runs: 1, apart: true, ..CRASH }.against(0).last);
    }

    #[test]
    fn a_replica_that_was_killed_from_outside_proves_nothing() {
        let killed = Death { runs: 1, apart: true, by_itself: false };
        assert_eq!(killed.against(0), Loss { died: true, counts: true, alone: false, last: false });
        assert_eq!(Death { runs: 2, ..killed }.against(1), Loss { died: true, ..Loss::NONE });
    }
}
