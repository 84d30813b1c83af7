//! Replicas that are lost, and state that cannot be kept.

use crate::stories;
use crate::support::world::World;
use crate::support::{PATIENCE, until};
use rapidclaw::gateway::outcome::Outcome;
use rapidclaw::gateway::route::RunLimits;
use std::time::Instant;

fn kind(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Fault(fault) => &fault.kind,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_run_whose_runner_is_killed_goes_on_on_another_and_its_client_is_answered() {
    // Given a run in flight, whose first step is committed, and another that waits behind it,
    let world = World::new().await;
    let gate = tempfile::tempdir().unwrap();
    let open = gate.path().join("open");
    let env = [("STORY_GATE", open.to_str().unwrap())];
    let (doomed, other) = tokio::join!(stories(&world, 4, &env), stories(&world, 4, &env));
    world.serve(&[&doomed], RunLimits::default());
    let kill = async {
        world.running("t").await;
        until("the first step's checkpoint", || world.rows_of("t"), |rows| rows[0] == 3).await;
        let behind = world.answer("memory", "t", "again");
        let kill = async {
            until("a run that waits", || world.count("pending"), |waiting| *waiting == 1).await;
            // when the runner is killed and another serves,
            doomed.process.kill();
            std::fs::write(&open, "").unwrap();
            world.serve(&[&other], RunLimits::default());
        };
        tokio::join!(behind, kill).0
    };
    let (first, second) = tokio::join!(world.turn("gated", "t", "hello"), kill);

    // then both are answered by the other, in order, and the message was not said twice.
    let first = first.unwrap();
    assert_eq!(first.answer.result.as_deref(), Some("heard 1: hello"));
    assert_eq!(first.answer.replica, Some(other.replica.id));
    assert_eq!(second.result.as_deref(), Some("heard 2: hello"));
    let states = "SELECT state FROM attempts WHERE run_id = $1 ORDER BY number";
    let states: Vec<String> = sqlx::query_scalar(states).bind(first.run_id).fetch_all(world.pool()).await.unwrap();
    assert_eq!(states, ["lost", "ended"]);
    assert!(!doomed.replica.is_alive());
    tokio::time::timeout(PATIENCE, doomed.replica.idle()).await.expect("all places are given back");
}

#[tokio::test]
async fn a_run_that_takes_its_replicas_with_it_is_given_up_and_its_thread_can_be_used_again() {
    let world = World::new().await;
    let mut runners = Vec::new();
    for _ in 0..4 {
        runners.push(stories(&world, 4, &[]).await);
    }
    world.serve(&runners.iter().collect::<Vec<_>>(), RunLimits::default());

    let (run, outcome) = world.failure("crashing", "t", "hello").await;

    assert_eq!(kind(&outcome), "ReplicaLost");
    assert_eq!(world.run_row(run).await.status, "error");
    let alive: Vec<_> = runners.iter().filter(|one| one.replica.is_alive()).collect();
    assert_eq!(alive.len(), 1, "it took three with it");
    let next = world.answer("memory", "t", "again").await;
    assert_eq!(next.replica, Some(alive[0].replica.id));
}

#[tokio::test]
async fn a_runner_that_falls_silent_loses_its_runs_to_another() {
    let world = World::new().await;
    let gate = tempfile::tempdir().unwrap();
    let open = gate.path().join("open");
    let env = [("STORY_GATE", open.to_str().unwrap())];
    let (frozen, other) = tokio::join!(stories(&world, 4, &env), stories(&world, 4, &env));
    world.serve(&[&frozen], RunLimits::default());

    let freeze = async {
        world.running("t").await;
        frozen.process.freeze();
        world.serve(&[&frozen, &other], RunLimits::default());
        std::fs::write(&open, "").unwrap();
    };
    let begun = Instant::now();
    let (answer, ()) = tokio::join!(world.answer("gated", "t", "hello"), freeze);

    assert_eq!(answer.result.as_deref(), Some("heard 1: hello"));
    assert_eq!(answer.replica, Some(other.replica.id));
    assert!(begun.elapsed().as_secs() < 18, "{:?} instead of about 10 s", begun.elapsed());
    assert!(!frozen.replica.is_alive());
}

#[tokio::test]
async fn a_run_whose_state_cannot_be_stored_does_not_end_as_a_success() {
    // Given a graph one of whose checkpoints the database refuses; later ones it would take.
    let world = World::new().await;
    let runner = stories(&world, 4, &[]).await;
    world.serve(&[&runner], RunLimits::default());

    let neighbour = world.answer("slow", "other", "hello");
    let ((run, outcome), neighbour) = tokio::join!(world.failure("unstorable", "t", "hello"), neighbour);

    assert_eq!(kind(&outcome), "CheckpointRejected");
    let row = world.run_row(run).await;
    assert_eq!((row.status.as_str(), row.fault.unwrap()["type"].as_str()), ("error", Some("CheckpointRejected")));
    // A run that was committed with it is not harmed.
    assert_eq!(neighbour.result.as_deref(), Some("heard 1: hello"));
}
