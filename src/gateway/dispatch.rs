//! The queue of an agent: runs that waited begin when their thread is free and a replica has a place.

use super::Gateway;
use super::committer::chain;
use super::execution::Execution;
use super::route::Route;
use crate::store::runs::{Claimed, Place};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often the queue is looked at while something waits, kicked or not.
const POLL: Duration = Duration::from_secs(1);

/// Dispatches one agent's waiting runs for as long as the gateway lives.
pub async fn run(gateway: Gateway, route: Arc<Route>) {
    loop {
        if route.may_hold_waiting_runs() {
            let _ = tokio::time::timeout(POLL, route.kick.notified()).await;
        } else {
            route.kick.notified().await;
        }
        // Else each run's end would take a place for a moment, and ask the database, for nothing.
        if route.may_hold_waiting_runs() {
            begin_all(&gateway, &route).await;
        }
    }
}

async fn begin_all(gateway: &Gateway, route: &Arc<Route>) {
    while let Some(serving) = route.serving() {
        let Some(slot) = serving.reserve() else { return };
        let place = Place { gateway: gateway.id(), replica: slot.replica().id };
        let claimed = match gateway.store().claim_run(route.agent, serving.release, place).await {
            Ok(Some(claimed)) => claimed,
            Ok(None) => {
                route.orphans.store(false, Ordering::Release);
                return;
            }
            Err(error) => {
                tracing::error!(agent = route.name, error = %chain(&error), "the queue could not be read");
                return;
            }
        };
        let Claimed { id, thread_id, graph, request, metadata, attempt, thread_status, elapsed } = claimed;
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
            serving,
        };
        let (gateway, route) = (gateway.clone(), Arc::clone(route));
        gateway.clone().spawn(async move {
            execution.run(&gateway, &route).await;
        });
    }
}
