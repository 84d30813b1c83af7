//! Replicas that are lost, and state that cannot be kept.

use super::stories;
use crate::support::world::World;
use crate::support::{PATIENCE, until};
use rapidclaw::api::chat::ChatRequest;
use rapidclaw::base::ids;
use rapidclaw::gateway::outcome::Outcome;
use rapidclaw::gateway::route::RunLimits;
use rapidclaw::gateway::turn::TurnError;
use rapidclaw::store::runs::{NewRun, Place, RunRequest};
use serde_json::json;
use std::sync::Arc;

fn kind(outcome: Outcome) -> String {
    match outcome {
        Outcome::Fault(fault) => fault.kind,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_killed_runners_runs_go_on_elsewhere_in_their_order_and_are_answered() {
    // Given a run in flight, another that waits behind it, and a gate that opens for the second attempt,
    let gate = tempfile::tempdir().unwrap();
    let open = gate.path().join("open");
    let env = [("STORY_GATE", open.to_str().unwrap())];
    let world = World::new().await;
    let (mut doomed, other) = tokio::join!(stories(&world, 4, &env), stories(&world, 4, &env));
    world.serve(&[&doomed], RunLimits::default());
    let first = world.answer("gated", "t", "hello");
    let second = async {
        let run = world.running("t").await;
        let waiting = world.answer("memory", "t", "again");
        let kill = async {
            let count = || async {
                let sql = "SELECT count(*) FROM runs WHERE status = 'pending'";
                sqlx::query_scalar::<_, i64>(sql).fetch_one(world.pool()).await.unwrap()
            };
            until("a run that waits", count, |waiting| *waiting == 1).await;
            // when the runner is killed and another serves,
            doomed.process.kill().await;
            world.serve(&[&other], RunLimits::default());
            std::fs::write(&open, "").unwrap();
        };
        (run, tokio::join!(waiting, kill).0)
    };
    let (answer, (run, after)) = tokio::join!(first, second);

    // then both are answered, by the other, in their order,
    assert_eq!(answer.replica, Some(other.replica.id));
    assert_eq!(after.result.as_deref(), Some("heard 2: hello"));
    let row = world.run_row(run).await;
    assert_eq!(row.status, "success");
    // with the steps that were finished not executed again.
    let attempts: Vec<(i32, String)> =
        sqlx::query_as("SELECT number, state FROM attempts WHERE run_id = $1 ORDER BY number")
            .bind(run)
            .fetch_all(world.pool())
            .await
            .unwrap();
    assert_eq!(attempts, [(1, "lost".to_owned()), (2, "ended".to_owned())]);
    assert!(!doomed.replica.is_alive());
    tokio::time::timeout(PATIENCE, doomed.replica.idle()).await.expect("all places are given back");
}

#[tokio::test]
async fn a_run_that_takes_every_replica_with_it_is_given_up() {
    let world = World::new().await;
    let mut killed = 0;
    let mut doomed = stories(&world, 4, &[]).await;
    world.serve(&[&doomed], RunLimits::default());
    let kills = async {
        loop {
            world.running_on("t", doomed.replica.id).await;
            doomed.process.kill().await;
            killed += 1;
            if killed == 3 {
                return;
            }
            doomed = stories(&world, 4, &[]).await;
            world.serve(&[&doomed], RunLimits::default());
        }
    };
    let ((run, outcome), ()) = tokio::join!(world.failure("gated", "t", "hello"), kills);

    assert_eq!(kind(outcome), "ReplicaLost");
    assert_eq!(world.run_row(run).await.status, "error");
}

#[tokio::test]
async fn a_runner_that_falls_silent_counts_as_lost() {
    let gate = tempfile::tempdir().unwrap();
    let open = gate.path().join("open");
    let env = [("STORY_GATE", open.to_str().unwrap())];
    let world = World::new().await;
    let (frozen, other) = tokio::join!(stories(&world, 4, &env), stories(&world, 4, &env));
    world.serve(&[&frozen], RunLimits::default());

    let freeze = async {
        world.running("t").await;
        frozen.process.freeze();
        world.serve(&[&frozen, &other], RunLimits::default());
        std::fs::write(&open, "").unwrap();
    };
    let (answer, ()) = tokio::join!(world.answer("gated", "t", "hello"), freeze);

    // Nobody answered for it (there is no supervisor here): its run went on with the other.
    assert_eq!(answer.replica, Some(other.replica.id));
    assert_eq!(world.answer("memory", "t", "again").await.replica, Some(other.replica.id));
}

#[tokio::test]
async fn a_run_whose_beginning_was_committed_and_never_heard_of_goes_on() {
    // Given a run that the database has as this gateway's, and that it does not execute: the answer was lost.
    let world = World::new().await;
    let runner = stories(&world, 4, &[]).await;
    world.serve(&[&runner], RunLimits::default());
    let request = RunRequest::Chat { message: "hello".to_owned(), full: false, more: None };
    let new = NewRun {
        id: ids::new_id(),
        agent: world.agent.id,
        release: world.release.id,
        thread: ids::thread_id("t"),
        given: "t",
        graph: "memory",
        request: &request,
        metadata: &json!({ "user_id": "ann" }),
        idempotency_key: None,
        queue_limit: None,
    };
    let place = Place { gateway: world.gateway.id(), replica: runner.replica.id };
    world.store().accept_run(&new, Some(place)).await.unwrap();

    // When it has been so for a while, then it is executed, and its thread is free for others.
    let age = "UPDATE attempts SET started_at = started_at - interval '1 minute'";
    sqlx::query(age).execute(world.pool()).await.unwrap();
    assert_eq!(world.answer("memory", "t", "again").await.result.as_deref(), Some("heard 2: hello"));
    assert_eq!(world.run_row(new.id).await.status, "success");
}

#[tokio::test]
async fn the_same_request_again_gets_the_same_runs_answer() {
    let world = World::new().await;
    let runner = stories(&world, 4, &[]).await;
    world.serve(&[&runner], RunLimits::default());
    let ask = |message: &str| {
        let request = ChatRequest {
            thread_id: Some("t".to_owned()),
            user_id: Some("ann".to_owned()),
            message: Some(message.to_owned()),
            graph: Some("slow".to_owned()),
            ..ChatRequest::default()
        };
        world.gateway.turn(Arc::clone(&world.route), request, Some("key-1".to_owned()))
    };

    // At the same time, and afterwards.
    let (one, two) = tokio::join!(ask("hello"), ask("hello"));
    let three = ask("hello").await.unwrap();
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.run_id, two.run_id), (three.run_id, three.run_id));
    assert_eq!(two.answer.result.as_deref(), Some("heard 1: hello"));
    assert_eq!((three.thread_id.as_str(), three.answer.result.as_deref()), ("t", Some("heard 1: hello")));
    let runs: i64 = sqlx::query_scalar("SELECT count(*) FROM runs").fetch_one(world.pool()).await.unwrap();
    assert_eq!(runs, 1);

    // Another request under the same key is refused.
    assert!(matches!(ask("something else").await, Err(TurnError::KeyReused)));
}

#[tokio::test]
async fn a_run_whose_state_cannot_be_stored_does_not_end_as_a_success() {
    // Given a graph one of whose checkpoints the database refuses; later ones it would take.
    let world = World::new().await;
    let runner = stories(&world, 4, &[]).await;
    world.serve(&[&runner], RunLimits::default());

    let neighbour = world.answer("slow", "other", "hello");
    let ((run, outcome), neighbour) = tokio::join!(world.failure("unstorable", "t", "hello"), neighbour);

    assert_eq!(kind(outcome), "CheckpointRejected");
    let row = world.run_row(run).await;
    assert_eq!((row.status.as_str(), row.fault.unwrap()["type"].as_str()), ("error", Some("CheckpointRejected")));
    // A run that was committed with it is not harmed.
    assert_eq!(neighbour.result.as_deref(), Some("heard 1: hello"));
}
