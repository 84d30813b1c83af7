//! Runs that go too far.

use super::stories;
use crate::support::world::World;
use rapidclaw::gateway::outcome::Outcome;
use rapidclaw::gateway::route::RunLimits;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_millis(500);

async fn runs_out_of_time(graph: &str) {
    let world = World::new().await;
    let runner = stories(&world, 4, &[("BLOCK", "6")]).await;
    world.serve(&[&runner], RunLimits { run_timeout: Some(LIMIT), ..RunLimits::default() });

    let begun = Instant::now();
    let (run, outcome) = world.failure(graph, "t", "hello").await;

    assert!(matches!(outcome, Outcome::TimedOut), "{outcome:?}");
    assert!(begun.elapsed() > LIMIT && begun.elapsed() < LIMIT + Duration::from_secs(3), "{:?}", begun.elapsed());
    let row = world.run_row(run).await;
    assert_eq!((row.status.as_str(), row.thread_status.as_str()), ("timeout", "error"));
    assert_eq!(row.fault.unwrap()["type"], "RunTimeout");
    // The thread and the place are free again.
    assert_eq!(runner.replica.in_flight(), 0);
    let next = world.answer("memory", "t", "again").await;
    assert_eq!(next.result.as_deref(), Some("heard 2: hello"));
}

#[tokio::test]
async fn an_async_node_that_sleeps_ends_at_run_timeout() {
    runs_out_of_time("sleeping").await;
}

#[tokio::test]
async fn a_sync_node_that_blocks_loses_its_run_at_run_timeout() {
    runs_out_of_time("sync_blocking").await;
}

#[tokio::test]
async fn a_loop_ends_at_the_recursion_limit() {
    let world = World::new().await;
    let runner = stories(&world, 4, &[]).await;
    world.serve(&[&runner], RunLimits { recursion_limit: Some(5), ..RunLimits::default() });

    let (run, outcome) = world.failure("looping", "t", "hello").await;

    let Outcome::Fault(fault) = outcome else { panic!("{outcome:?}") };
    assert_eq!(fault.kind, "GraphRecursionError");
    assert!(fault.message.as_deref().unwrap().contains("limit of 5"), "{fault:?}");
    let row = world.run_row(run).await;
    assert_eq!((row.status.as_str(), row.fault.unwrap()["type"].as_str()), ("error", Some("GraphRecursionError")));
    // The input's checkpoint and one for each of five steps: the loop went no further.
    assert!(world.rows_of("t").await[0] <= 7, "{:?}", world.rows_of("t").await);
}
