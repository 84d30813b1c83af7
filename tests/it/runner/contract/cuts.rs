//! Connections that break while the replica lives.

use super::{GRAPHS, VERSION_1, attempts, behind_a_proxy};
use crate::support::until;
use crate::support::world::World;
use rapidclaw::gateway::route::RunLimits;
use serde_json::Value;

#[tokio::test]
async fn a_connection_that_breaks_again_and_again_costs_no_step_and_no_run() {
    // Given runs whose connection is cut in the middle of messages, every few kilobytes,
    let world = World::new().await;
    let (runner, proxy) = behind_a_proxy(&world, &[]).await;
    world.serve(&[&runner], RunLimits::default());
    let before = proxy.connections();
    proxy.cut_after(9_001);
    let threads = ["a", "b", "c", "d"];
    let turns = threads.map(|thread| world.answer("stepping", thread, "go"));

    // when they run, then each is answered with each step once, as if nothing had been.
    for answer in futures_util::future::join_all(turns).await {
        assert_eq!(answer.result.as_deref(), Some("40 steps"));
    }
    assert!(proxy.connections() > before + 4, "{} connections", proxy.connections() - before);
    for thread in threads {
        assert_eq!(attempts(&world, thread).await, [(1, "ended".to_owned())]);
        // The input's checkpoint, that of each step and the answer's; no blob and no write twice.
        assert_eq!(world.rows_of(thread).await[0], 43);
    }
    assert!(runner.replica.is_alive());

    // And so again in the next turn, on the state of the first.
    assert_eq!(world.answer("stepping", "a", "go").await.result.as_deref(), Some("80 steps"));
}

#[tokio::test]
async fn a_large_state_passes_in_chunks_over_a_connection_that_breaks() {
    let world = World::new().await;
    let (runner, proxy) = behind_a_proxy(&world, &[]).await;
    world.serve(&[&runner], RunLimits::default());
    let before = proxy.connections();
    proxy.cut_after(3_000_001);

    let first = world.answer("keeping", "t", "12").await;
    proxy.cut_after(2_000_003);
    let second = world.answer("keeping", "t", "0").await;

    assert_eq!(first.result.as_deref(), Some("0 e3b0c442"));
    assert!(second.result.as_deref().is_some_and(|told| told.starts_with("12 ")), "{second:?}");
    assert!(proxy.connections() > before + 3, "{} connections", proxy.connections() - before);
    for (number, state) in attempts(&world, "t").await {
        assert_eq!((number, state.as_str()), (1, "ended"));
    }
}

#[tokio::test]
async fn a_session_that_the_replica_has_given_up_does_not_go_on() {
    // Given a run of a replica that gives runs up after a second without its gateway,
    let gate = tempfile::tempdir().unwrap();
    let open = gate.path().join("open");
    let env = [("STORY_GATE", open.to_str().unwrap()), ("RAPIDCLAW_ORPHAN_SECONDS", "1")];
    let world = World::new().await;
    let (cut, proxy) = behind_a_proxy(&world, &env).await;
    let other = world.start(&GRAPHS, 4, &env).await;
    world.serve(&[&cut], RunLimits::default());
    let answer = world.answer("gated", "t", "hello");
    let meanwhile = async {
        let run = world.running("t").await;
        let begun = || async { world.rows_of("t").await[0] };
        until("a step", begun, |checkpoints| *checkpoints > 1).await;

        // when the gateway is kept away until it has, and comes back,
        proxy.close(true);
        let log = || async { cut.process.log() };
        until("its end", log, |log| log.contains(&format!("its gateway is gone: thread_id={}", run_thread("t")))).await;
        world.serve(&[&cut, &other], RunLimits::default());
        std::fs::write(&open, "").unwrap();
        proxy.close(false);
        run
    };
    let (answer, run) = tokio::join!(answer, meanwhile);

    // then the run goes on elsewhere from its last step.
    assert_eq!(answer.replica, Some(other.replica.id));
    assert_eq!(attempts(&world, "t").await, [(1, "lost".to_owned()), (2, "ended".to_owned())]);
    assert_eq!(world.run_row(run).await.status, "success");
    assert!(!cut.replica.is_alive());
}

fn run_thread(given: &str) -> String {
    rapidclaw::base::ids::thread_id(given).to_string()
}

#[tokio::test]
async fn a_runner_of_version_1_is_served_and_what_it_cannot_do_is_named() {
    let world = World::new().await;
    let (old, proxy) = behind_a_proxy(&world, &[VERSION_1]).await;
    world.serve(&[&old], RunLimits::default());

    assert_eq!(world.answer("stepping", "a", "go").await.result.as_deref(), Some("40 steps"));
    assert_eq!(world.answer("keeping", "b", "12").await.result.as_deref(), Some("0 e3b0c442"));
    let note = |note: &Value| note.as_str().is_some_and(|note| note.contains("version 1"));
    let notes = old.describe["notes"].as_array().unwrap();
    assert!(notes.iter().any(note), "{notes:?}");

    // Its connection does not go on: that is what is named.
    proxy.cut();
    until("its end", || async { old.replica.is_alive() }, |alive| !alive).await;
}
