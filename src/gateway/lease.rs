//! The gateway's lease, and runs that nobody holds any more.

use super::Gateway;
use super::committer::{Item, chain};
use crate::store::StoreError;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often the lease is renewed, and how long it lasts (DESIGN.md 3).
const RENEW_EVERY: Duration = Duration::from_secs(1);
const LEASE_SECONDS: f64 = 4.0;
/// How long beyond its lease a gateway is silent before its runs go on elsewhere: with the lease 10 s, by
/// when their replicas have given them up.
const SILENCE_SECONDS: f64 = 6.0;
/// How long after its beginning an attempt that this gateway does not know of is no attempt of its.
const STRAY_SECONDS: f64 = 15.0;
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
    loop {
        if let Err(error) = gateway.store().renew_lease(gateway.id(), LEASE_SECONDS).await {
            tracing::warn!(error = %chain(&error), "the gateway's lease could not be renewed");
        } else if round.is_multiple_of(SWEEP_EVERY)
            && let Err(error) = sweep(&gateway).await
        {
            tracing::warn!(error = %chain(&error), "runs without a holder could not be looked for");
        }
        round = round.wrapping_add(1);
        tokio::time::sleep(RENEW_EVERY).await;
    }
}

async fn sweep(gateway: &Gateway) -> Result<(), StoreError> {
    for (run, attempt) in gateway.store().orphaned_attempts(SILENCE_SECONDS).await? {
        let (done, _) = tokio::sync::oneshot::channel();
        tracing::warn!(run_id = %run, attempt, "a run of a server that is gone goes on");
        gateway.committer().submit(Item::Requeue { key: (run, attempt), loss: false, done }).await;
    }
    // The commit of its beginning or of its end was not seen here: the database died with the answer.
    for key in gateway.store().own_attempts(gateway.id(), STRAY_SECONDS).await? {
        if !gateway.is_executing(key) {
            let (done, _) = tokio::sync::oneshot::channel();
            tracing::warn!(run_id = %key.0, attempt = key.1, "a run that nobody here executes goes on");
            gateway.committer().submit(Item::Requeue { key, loss: false, done }).await;
        }
    }
    let waiting = gateway.store().agents_with_waiting_runs().await?;
    for route in gateway.0.routes.read().unwrap_or_else(std::sync::PoisonError::into_inner).values() {
        if waiting.contains(&route.agent) {
            route.orphans.store(true, Ordering::Release);
            route.kick.notify_one();
        }
    }
    Ok(())
}
