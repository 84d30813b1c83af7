//! The gateway's lease, and runs that nobody holds any more.
//!
//! Clocks can be set, also while a gateway lives. So a lease's time alone says nothing: what counts is that its
//! holder has stopped to renew it, by this gateway's own steady clock.

use super::Gateway;
use super::committer::{Item, Key, chain};
use crate::run::loss::Loss;
use crate::store::StoreError;
use crate::store::runs::ForeignLease;
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How often the lease is renewed, and how long it lasts (DESIGN.md 3).
const RENEW_EVERY: Duration = Duration::from_secs(1);
const LEASE_SECONDS: f64 = 4.0;
/// How long beyond its lease a gateway is silent before its runs go on elsewhere: with the lease 10 s, by
/// when their replicas have given them up.
const SILENCE_SECONDS: f64 = 6.0;
/// A lease that was seen unchanged for so long is over, whatever the time in it,
const SILENCE: Duration = Duration::from_secs(10);
/// and one that has ended long ago, by the database's clock, after so long: who lives has renewed it meanwhile.
const GLANCE: Duration = Duration::from_millis(2_500);
/// How long an attempt is nobody's here before it is no attempt of this gateway.
const STRAY: Duration = Duration::from_secs(15);
/// How long an attempt that is executed here is not live in the table before it is ended: longer than a run
/// takes to begin or to end.
const FENCED: Duration = Duration::from_secs(3);
/// Every so many renewals, runs without a holder are looked for.
const SWEEP_EVERY: u32 = 2;

/// Takes the lease, before the first run is accepted: another gateway would think such a run an orphan.
pub async fn begin(gateway: &Gateway) -> Result<(), StoreError> {
    gateway.store().renew_lease(gateway.id(), LEASE_SECONDS).await
}

/// Renews the lease for as long as the gateway lives. Runs of gateways that are gone go on with their next
/// attempt; waiting runs that no client of ours waits for begin.
pub async fn keep(gateway: Gateway) {
    let mut round = 0_u32;
    let mut watched = Watched::default();
    loop {
        if let Err(error) = gateway.store().renew_lease(gateway.id(), LEASE_SECONDS).await {
            tracing::warn!(error = %chain(&error), "the gateway's lease could not be renewed");
            // Nobody else could renew theirs either.
            watched = Watched::default();
        } else if (round.is_multiple_of(SWEEP_EVERY) || !watched.leases.is_empty())
            && let Err(error) = sweep(&gateway, &mut watched).await
        {
            tracing::warn!(error = %chain(&error), "runs without a holder could not be looked for");
        }
        round = round.wrapping_add(1);
        tokio::time::sleep(RENEW_EVERY).await;
    }
}

async fn sweep(gateway: &Gateway, watched: &mut Watched) -> Result<(), StoreError> {
    let (store, own) = (gateway.store(), gateway.id());
    let gone = watched.gone(store.foreign_leases(own, SILENCE_SECONDS).await?, Instant::now());
    if !gone.is_empty() {
        for (run, attempt) in store.live_attempts_of(&gone).await? {
            let (done, _) = tokio::sync::oneshot::channel();
            tracing::warn!(run_id = %run, attempt, "a run of a server that is gone goes on");
            let key = (run, attempt);
            gateway.committer().submit(Item::Requeue { key, loss: Loss::NONE, used: None, done }).await;
        }
    }
    // The commit of its beginning or of its end was not seen here: the database died with the answer.
    let live: HashSet<Key> = store.live_attempts_of(&[own]).await?.into_iter().collect();
    // Another gateway took the run away, or it was ended by hand: what its code still does is for nobody.
    let executed: HashMap<Key, _> = gateway.executed().into_iter().collect();
    let fenced = executed.keys().filter(|key| !live.contains(key)).copied().collect();
    for key in watched.fenced(fenced, Instant::now()) {
        tracing::warn!(run_id = %key.0, attempt = key.1, "an attempt that is not its run's any more is ended");
        if let Some(replica) = executed.get(&key) {
            replica.abandon(key.0, key.1);
        }
    }
    gateway.count_places(None).await?;
    let unknown = live.into_iter().filter(|key| !gateway.is_executing(*key));
    for key in watched.strays(unknown.collect(), Instant::now()) {
        let (done, _) = tokio::sync::oneshot::channel();
        tracing::warn!(run_id = %key.0, attempt = key.1, "a run that nobody here executes goes on");
        gateway.committer().submit(Item::Requeue { key, loss: Loss::NONE, used: None, done }).await;
    }
    find_waiting(gateway).await
}

/// Begins waiting runs, whoever waits for them.
pub async fn find_waiting(gateway: &Gateway) -> Result<(), StoreError> {
    let waiting = gateway.store().agents_with_waiting_runs().await?;
    let routes = gateway.0.routes.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    routes.values().filter(|route| waiting.contains(&route.agent)).for_each(|route| route.look_for_waiting());
    Ok(())
}

/// What was seen of others, and since when it is the same.
#[derive(Default)]
struct Watched {
    leases: HashMap<Uuid, (Option<String>, Instant)>,
    strays: HashMap<Key, Instant>,
    fenced: HashMap<Key, Instant>,
}

impl Watched {
    /// Which of these gateways are gone; those that are not among them are forgotten.
    fn gone(&mut self, leases: Vec<ForeignLease>, now: Instant) -> Vec<Uuid> {
        let mut before = std::mem::take(&mut self.leases);
        let mut gone = Vec::new();
        for ForeignLease { gateway, lease, expired } in leases {
            let since = before.remove(&gateway).filter(|(known, _)| *known == lease).map_or(now, |(_, since)| since);
            let unchanged = now.duration_since(since);
            // One that stopped in order has taken its lease away.
            if lease.is_none() || unchanged >= SILENCE || (expired && unchanged >= GLANCE) {
                gone.push(gateway);
            }
            self.leases.insert(gateway, (lease, since));
        }
        gone
    }

    /// Which of these attempts, which nobody here executes, have been so for too long.
    fn strays(&mut self, unknown: Vec<Key>, now: Instant) -> Vec<Key> {
        lasting(&mut self.strays, unknown, STRAY, now)
    }

    /// Which of these attempts, which are executed here and not live in the table, have been so for too long.
    fn fenced(&mut self, dead: Vec<Key>, now: Instant) -> Vec<Key> {
        lasting(&mut self.fenced, dead, FENCED, now)
    }
}

/// Which of these have been seen each time since `least`; those that are not among them are forgotten.
fn lasting(seen: &mut HashMap<Key, Instant>, now_there: Vec<Key>, least: Duration, now: Instant) -> Vec<Key> {
    let before = std::mem::take(seen);
    *seen = now_there.into_iter().map(|key| (key, before.get(&key).copied().unwrap_or(now))).collect();
    seen.iter().filter(|(_, since)| now.duration_since(**since) >= least).map(|(key, _)| *key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(gateway: Uuid, lease: Option<&str>, expired: bool) -> Vec<ForeignLease> {
        vec![ForeignLease { gateway, lease: lease.map(str::to_owned), expired }]
    }

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_gateway_that_renews_lives_whatever_the_clock_says() {
        let (mut watched, gateway, now) = (Watched::default(), Uuid::from_u128(1), Instant::now());
        for second in 0..30_u32 {
            let text = second.to_string();
            let at = now + RENEW_EVERY * second;
            assert!(watched.gone(lease(gateway, Some(&text), true), at).is_empty(), "the clock was set forward");
        }
    }

    #[test]
    fn a_silent_one_is_gone_whatever_the_clock_says() {
        let (mut watched, gateway, now) = (Watched::default(), Uuid::from_u128(1), Instant::now());
        // The clock was set back: by it the lease holds for another day.
        let mut look =
            |at: f64, expired| !watched.gone(lease(gateway, Some("x"), expired), now + seconds(at)).is_empty();
        assert!(!look(0.0, false) && !look(9.9, false) && look(10.0, false));
        let mut watched = Watched::default();
        let mut look =
            |at: f64, expired| !watched.gone(lease(gateway, Some("x"), expired), now + seconds(at)).is_empty();
        assert!(!look(0.0, true) && !look(2.4, true) && look(2.5, true));
        assert_eq!(watched.gone(lease(gateway, None, true), now), [gateway], "it stopped in order");
    }

    #[test]
    fn an_attempt_that_nobody_executes_is_one_after_a_while() {
        let (mut watched, key, now) = (Watched::default(), (Uuid::from_u128(1), 1), Instant::now());
        assert_eq!(watched.strays(vec![key], now), []);
        assert_eq!(watched.strays(vec![key], now + seconds(14.0)), []);
        assert_eq!(watched.strays(vec![key], now + seconds(15.0)), [key]);
        // It was executed in between.
        assert_eq!(watched.strays(vec![], now + seconds(16.0)), []);
        assert_eq!(watched.strays(vec![key], now + seconds(17.0)), []);
    }
}
