//! What a run may not touch: other threads ever, its own once its attempt is over.

use super::stories;
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
async fn a_fenced_attempt_changes_nothing_and_its_client_gets_the_other_ones_answer() {
    fenced("gated").await;
}

#[tokio::test]
async fn a_fenced_attempt_cannot_delete_its_thread_either() {
    fenced("deleting").await;
}

/// The graph has done a step and goes on after its attempt is over.
async fn fenced(graph: &str) {
    let world = World::new().await;
    let gate = tempfile::tempdir().unwrap();
    let open = gate.path().join("open");
    let runner = stories(&world, 4, &[("STORY_GATE", open.to_str().unwrap())]).await;
    world.serve(&[&runner], RunLimits::default());

    let fence = async {
        // Given the checkpoints of the input, of START and of the first step are committed,
        let run = world.running("t").await;
        until("the first step's checkpoint", || world.rows_of("t"), |rows| rows[0] == 3 && rows[2] > 0).await;
        // when somebody takes the run over and the graph goes on,
        sqlx::query("UPDATE attempts SET state = 'lost' WHERE run_id = $1")
            .bind(run)
            .execute(world.pool())
            .await
            .unwrap();
        let before = world.rows_of("t").await;
        std::fs::write(&open, "").unwrap();
        // (the fenced attempt has come to its end)
        tokio::time::timeout(PATIENCE, runner.replica.idle()).await.expect("the attempt is over");
        // and ends it,
        let sql = "UPDATE runs SET status = 'success', ended_at = now(), answer = '{\"result\": \"elsewhere\"}' WHERE id = $1";
        let ended = sqlx::query(sql).bind(run).execute(world.pool()).await.unwrap();
        assert_eq!(ended.rows_affected(), 1);
        before
    };
    let (answer, before) = tokio::join!(world.answer(graph, "t", "hello"), fence);

    // then nothing of the fenced attempt reached the tables, and the client got the other's answer.
    assert_eq!(world.rows_of("t").await, before);
    assert_eq!(answer.result.as_deref(), Some("elsewhere"));
}
