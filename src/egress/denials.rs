//! Which denied hosts were logged of late: an agent that tries again and again writes no log of its own length.

use crate::egress::Defaults;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

/// Memory of one replica's denials, bounded by [`Defaults::DENIED_HOSTS`].
#[derive(Default)]
pub(crate) struct Denials(Mutex<HashMap<String, Instant>>);

/// Stands for all hosts beyond the memory's bound.
const OTHERS: &str = "";

impl Denials {
    /// Whether a denial of `host` is to be logged: the first one in each [`Defaults::DENIAL_INTERVAL`].
    pub(crate) fn is_news(&self, host: &str, now: Instant) -> bool {
        let Ok(mut seen) = self.0.lock() else { return true };
        let fresh = |at: &Instant| now.saturating_duration_since(*at) < Defaults::DENIAL_INTERVAL;
        if seen.get(host).is_some_and(fresh) {
            return false;
        }
        if seen.len() >= Defaults::DENIED_HOSTS {
            seen.retain(|_, at| fresh(at));
        }
        let key = if seen.len() >= Defaults::DENIED_HOSTS { OTHERS } else { host };
        if seen.get(key).is_some_and(fresh) {
            return false;
        }
        seen.insert(key.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_host_is_news_once_a_minute_and_memory_is_bounded() {
        let denials = Denials::default();
        let start = Instant::now();
        assert!(denials.is_news("a", start));
        assert!(!denials.is_news("a", start + Duration::from_secs(59)));
        assert!(denials.is_news("a", start + Duration::from_secs(60)));
        let told =
            (0..10_000).filter(|n| denials.is_news(&format!("host{n}"), start + Duration::from_secs(61))).count();
        assert_eq!(told, Defaults::DENIED_HOSTS);
        assert!(denials.0.lock().unwrap().len() <= Defaults::DENIED_HOSTS + 1);
        assert!(denials.is_news("host9999", start + Duration::from_secs(200)));
    }
}
