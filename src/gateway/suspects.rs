//! Runs under which a replica has died, tried on a replica of their own.
//!
//! Which of the runs of a dead replica it was that ended it is not known. The one that is suspected waits here until
//! a replica has nobody else on it. When that dies as well the run is given up, and nobody has paid for it again.

use super::Gateway;
use super::committer::chain;
use super::dispatch;
use super::replica::{Apart, Replica};
use super::route::{Route, Serving};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often a replica for one is looked for while there is none.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long the others of an agent with several replicas keep the only one that is left: its successors come.
const KEEP_THE_LAST: Duration = Duration::from_secs(20);
/// How long the only replica there is may be kept from the others until it is empty; then they have it again.
const EMPTY_WITHIN: Duration = Duration::from_secs(30);

/// Tries one agent's suspects for as long as the gateway lives.
pub async fn run(gateway: Gateway, route: Arc<Route>) {
    loop {
        route.suspects.notified().await;
        let mut since = Instant::now();
        loop {
            match gateway.store().has_suspect(route.agent).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(agent = route.name, error = %chain(&error), "suspected runs could not be looked for");
                    break;
                }
            }
            if try_one(&gateway, &route, since).await {
                since = Instant::now();
            } else {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}

/// Begins the oldest of them where a replica can be had for it. Says whether it has begun.
async fn try_one(gateway: &Gateway, route: &Arc<Route>, since: Instant) -> bool {
    if !gateway.0.places.are_given() {
        return false;
    }
    let Some(serving) = route.serving() else { return false };
    let last_too = route.wanted() <= 1 || since.elapsed() >= KEEP_THE_LAST;
    let Some((apart, is_last)) = choose(&serving, last_too) else { return false };
    let limit = if is_last { EMPTY_WITHIN } else { Duration::MAX };
    let Ok(Some(slot)) = tokio::time::timeout(limit, apart.alone()).await else {
        route.kick.notify_one();
        return false;
    };
    // What a server before this one still runs there is company, too.
    if slot.replica().has_elsewhere() {
        return false;
    }
    let Some(_giving) = gateway.0.places.give().await else { return false };
    let replica = slot.replica().id;
    match gateway.store().claim_runs(route.agent, serving.release, gateway.id(), &[replica], true).await {
        Ok(mut claimed) => match claimed.pop() {
            Some(claimed) => {
                tracing::info!(run_id = %claimed.id, %replica, "a run that is suspected gets a replica for itself");
                dispatch::begin(gateway, route, &serving, claimed, slot);
                true
            }
            None => {
                drop(slot);
                route.kick.notify_one();
                false
            }
        },
        Err(error) => {
            tracing::warn!(agent = route.name, error = %chain(&error), "a suspected run could not be claimed");
            false
        }
    }
}

/// The replica with the least on it, set apart, and whether it is the only one for the others as well.
fn choose(serving: &Serving, last_too: bool) -> Option<(Apart, bool)> {
    let mut free: Vec<&Arc<Replica>> =
        serving.replicas.iter().filter(|one| one.is_alive() && one.is_responsive() && !one.is_apart()).collect();
    let is_last = free.len() == 1;
    if is_last && !last_too {
        return None;
    }
    free.sort_by_cached_key(|one| (one.in_flight(), one.last_begun()));
    Some((free.first()?.set_apart()?, is_last))
}
