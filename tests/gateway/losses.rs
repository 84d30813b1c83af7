//! Replicas that are lost, and state that cannot be kept.

use crate::stories;
use crate::support::{PATIENCE, until};
use crate::support::world::World;
use rapidclaw::gateway::outcome::Outcome;
use rapidclaw::gateway::route::RunLimits;

fn kind(outcome: Outcome) -> String {
    match outcome {
        Outcome::Fault(fault) => fault.kind,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_killed_runner_ends_its_runs_and_their_threads_can_be_used_again() {
    // Given a run in flight, and another that waits behind it,
    let world = World::new().await;
    let (mut doomed, other) = tokio::join!(stories(&world, 4, &[]), stories(&world, 4, &[]));
    world.serve(&[&doomed], RunLimits::default());
    let lost = world.failure("gated", "t", "hello");
    let kill = async {
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
        };
        (run, tokio::join!(waiting, kill).0)
    };
    let ((run, outcome), (killed, answer)) = tokio::join!(lost, kill);

    // then the client is told, the row has ended,
    assert_eq!((run, kind(outcome).as_str()), (killed, "ReplicaLost"));
    assert_eq!(world.run_row(run).await.status, "error");
    // and the thread goes on where its last checkpoint was.
    assert_eq!(answer.result.as_deref(), Some("heard 2: hello"));
    assert!(!doomed.replica.is_alive());
    tokio::time::timeout(PATIENCE, doomed.replica.idle()).await.expect("all places are given back");
}

#[tokio::test]
async fn a_runner_that_falls_silent_counts_as_lost() {
    let world = World::new().await;
    let (frozen, other) = tokio::join!(stories(&world, 4, &[]), stories(&world, 4, &[]));
    world.serve(&[&frozen], RunLimits::default());

    let freeze = async {
        world.running("t").await;
        frozen.process.freeze();
    };
    let ((run, outcome), ()) = tokio::join!(world.failure("gated", "t", "hello"), freeze);

    assert_eq!(kind(outcome), "ReplicaLost");
    assert_eq!(world.run_row(run).await.status, "error");
    world.serve(&[&frozen, &other], RunLimits::default());
    assert_eq!(world.answer("memory", "t", "again").await.replica, Some(other.replica.id));
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
