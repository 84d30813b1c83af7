//! The queue of an agent: runs that waited begin when their thread is free and a replica has a place.

use super::Gateway;
use super::committer::chain;
use super::execution::Execution;
use super::replica::Slot;
use super::route::{Route, Serving};
use crate::store::runs::Claimed;
use futures_util::FutureExt as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use uuid::Uuid;

/// How often the queue is looked at while something waits, kicked or not.
const POLL: Duration = Duration::from_secs(1);
/// Runs that one question begins at most.
const AT_ONCE: usize = 64;

/// Dispatches one agent's waiting runs for as long as the gateway lives.
pub async fn run(gateway: Gateway, route: Arc<Route>) {
    loop {
        if route.may_hold_waiting_runs() {
            let _ = tokio::time::timeout(POLL, route.kick.notified()).await;
        } else {
            route.kick.notified().await;
        }
        // Else each run's end would take a place for a moment, and ask the database, for nothing.
        if route.may_hold_waiting_runs() && AssertUnwindSafe(begin_all(&gateway, &route)).catch_unwind().await.is_err()
        {
            // What was claimed and has not begun is found by the sweep for strays.
            tracing::error!(agent = route.name, "the dispatch of waiting runs panicked; it begins anew");
            route.orphans.store(true, Ordering::Release);
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Begins what waits and may begin, as many at once as there are places.
async fn begin_all(gateway: &Gateway, route: &Arc<Route>) {
    while let Some(serving) = route.serving() {
        let Some(giving) = gateway.0.places.give().await else { return };
        // Those that somebody here waits for; what nobody is known to wait for may be any number.
        let orphans = route.orphans.load(Ordering::Acquire);
        let most = if orphans { AT_ONCE } else { route.waiting.load(Ordering::Acquire).clamp(1, AT_ONCE) };
        let slots: Vec<Slot> = std::iter::from_fn(|| serving.reserve()).take(most).collect();
        if slots.is_empty() {
            return;
        }
        // Before the question: what is put back meanwhile is seen by the next one.
        route.orphans.store(false, Ordering::Release);
        let replicas: Vec<Uuid> = slots.iter().map(|slot| slot.replica().id).collect();
        let claimed = gateway.store().claim_runs(route.agent, serving.release, gateway.id(), &replicas, false).await;
        drop(giving);
        let claimed = match claimed {
            Ok(claimed) => claimed,
            Err(error) => {
                route.orphans.store(true, Ordering::Release);
                tracing::error!(agent = route.name, error = %chain(&error), "the queue could not be read");
                return;
            }
        };
        let all = claimed.len() == slots.len();
        let mut slots: Vec<Option<Slot>> = slots.into_iter().map(Some).collect();
        for claimed in claimed {
            let place = usize::try_from(claimed.place - 1).unwrap_or(usize::MAX);
            if let Some(slot) = slots.get_mut(place).and_then(Option::take) {
                begin(gateway, route, &serving, claimed, slot);
            }
        }
        if !all {
            return;
        }
        if orphans {
            route.orphans.store(true, Ordering::Release);
        }
    }
}

/// Begins a run that was claimed, on a task of its own.
pub(super) fn begin(gateway: &Gateway, route: &Arc<Route>, serving: &Arc<Serving>, claimed: Claimed, slot: Slot) {
    let Claimed { id, thread_id, graph, request, metadata, attempt, thread_status, elapsed, place: _ } = claimed;
    let execution = Execution {
        run: id,
        attempt,
        thread: thread_id.unwrap_or(id),
        graph,
        request: request.0,
        metadata: metadata.0,
        new_thread: false,
        interrupted: thread_status.as_deref() == Some("interrupted"),
        elapsed: Duration::try_from_secs_f64(elapsed).unwrap_or_default(),
        slot,
        serving: Arc::clone(serving),
    };
    let (gateway, route) = (gateway.clone(), Arc::clone(route));
    gateway.clone().spawn(async move {
        execution.run(&gateway, &route).await;
    });
}
