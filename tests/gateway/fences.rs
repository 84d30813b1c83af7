//! What a run may not touch: other threads ever, its own once its attempt is over.

use crate::stories;
use crate::support::world::World;
use crate::support::{PATIENCE, until};
use rapidclaw::gateway::route::RunLimits;

#[tokio::test]
async fn frames_for_a_foreign_thread_are_refused_though_the_runner_lets_them_pass() {
    let world = World::new().await;
    let runner = stories(&world, 4, &[]).await;
    world.serve(&[&runner], RunLimits::default());
    // Given somebody's thread,
    world.answer("memory", "theirs", "a secret").await;
    let before = world.rows_of("theirs").await;
    let theirs = rapidclaw::base::ids::thread_id("theirs").to_string();

    for graph in ["reading_elsewhere", "writing_elsewhere", "deleting_elsewhere"] {
        // when a project that has lifted the runner's own check reaches for it,
        let answer = world.answer(graph, "mine", &theirs).await;

        // then the gateway refuses, and nothing has changed.
        let said = answer.result.unwrap();
        assert!(said.contains("this run may not touch that thread"), "{graph}: {said}");
        assert_eq!(world.rows_of("theirs").await, before, "{graph}");
    }
    assert_eq!(world.answer("memory", "theirs", "again").await.result.as_deref(), Some("heard 2: a secret"));
}

#[tokio::test]
async fn a_fenced_attempt_changes_nothing_and_its_client_gets_the_answer_of_the_next() {
    fenced("gated", "heard 1: hello").await;
}

#[tokio::test]
async fn a_fenced_attempt_cannot_delete_its_thread_either() {
    fenced("deleting", "done").await;
}

/// The graph has done a step and goes on after its attempt is over.
async fn fenced(graph: &str, answer: &str) {
    let world = World::new().await;
    let gate = tempfile::tempdir().unwrap();
    let open = gate.path().join("open");
    let runner = stories(&world, 4, &[("STORY_GATE", open.to_str().unwrap())]).await;
    world.serve(&[&runner], RunLimits::default());

    let fence = async {
        // Given the checkpoints of the input, of START and of the first step are committed,
        let run = world.running("t").await;
        until("the first step's checkpoint", || world.rows_of("t"), |rows| rows[0] == 3 && rows[2] > 0).await;
        // when the attempt is over and its graph goes on to its end,
        let over = "UPDATE attempts SET state = 'lost' WHERE run_id = $1";
        sqlx::query(over).bind(run).execute(world.pool()).await.unwrap();
        let before = world.rows_of("t").await;
        std::fs::write(&open, "").unwrap();
        tokio::time::timeout(PATIENCE, runner.replica.idle()).await.expect("the attempt ends");
        // then nothing of it has reached the tables,
        assert_eq!(world.rows_of("t").await, before);
        assert_eq!(world.run_row(run).await.status, "running");
        // and whoever takes the run over ends it.
        let next = "UPDATE runs SET status = 'pending' WHERE id = $1";
        sqlx::query(next).bind(run).execute(world.pool()).await.unwrap();
        run
    };
    let (turn, run) = tokio::join!(world.turn(graph, "t", "hello"), fence);

    let turn = turn.unwrap();
    assert_eq!((turn.run_id, turn.answer.result.as_deref()), (run, Some(answer)));
}
