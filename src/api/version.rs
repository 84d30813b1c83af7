//! Which versions of the control API a side speaks. Both say it in a header, as `OLDEST-NEWEST`; they use the
//! newest that both know. What is added to a version may be left out by the other side; a change that is more
//! than that is a new version.

use std::fmt;
use std::str::FromStr;

/// The header of requests and answers.
pub const HEADER: &str = "rapidclaw-api";

/// What this binary speaks.
pub const OURS: Spoken = Spoken { oldest: 1, newest: 1 };

/// A range of versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spoken {
    /// The oldest.
    pub oldest: u32,
    /// The newest.
    pub newest: u32,
}

impl Spoken {
    /// The newest version that both know.
    pub fn common(self, other: Self) -> Option<u32> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }

    /// Whether the other side is too old for this one, and not too new.
    pub fn is_newer_than(self, other: Self) -> bool {
        self.oldest > other.newest
    }
}

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.oldest, self.newest)
    }
}

impl FromStr for Spoken {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "is no range of versions (1-3)";
        let (oldest, newest) = text.trim().split_once('-').unwrap_or((text.trim(), text.trim()));
        let (oldest, newest) = (oldest.parse().map_err(|_| wrong)?, newest.parse().map_err(|_| wrong)?);
        if oldest > newest { Err(wrong) } else { Ok(Self { oldest, newest }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_use_the_newest_version_that_both_know() {
        let of = |text: &str| text.parse::<Spoken>().unwrap();
        assert_eq!(of("1-3").common(of("2-5")), Some(3));
        assert_eq!(of("2").common(of("1-2")), Some(2));
        assert_eq!(of("1-2").common(of("3-4")), None);
        assert!(of("3-4").is_newer_than(of("1-2")) && !of("1-2").is_newer_than(of("3-4")));
        for wrong in ["", "2-1", "a", "1-2-3", "-1"] {
            assert!(wrong.parse::<Spoken>().is_err(), "{wrong:?}");
        }
    }
}
