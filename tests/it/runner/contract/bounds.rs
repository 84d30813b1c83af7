//! Replicas that send too much, what nobody knows, or do not read; and their neighbours.

use super::{GRAPHS, VERSION_1, attempts};
use crate::support::until;
use crate::support::world::World;
use rapidclaw::gateway::route::RunLimits;

#[tokio::test]
async fn a_frame_that_nobody_knows_is_refused_by_name_and_survived() {
    let world = World::new().await;
    let runner = world.start(&GRAPHS, 4, &[]).await;
    world.serve(&[&runner], RunLimits::default());

    let answer = world.answer("odd", "t", "hello").await;

    let told = answer.result.unwrap();
    assert!(told.starts_with("Refused: ") && told.contains("hindsight"), "{told}");
    assert!(runner.replica.is_alive());
    assert_eq!(attempts(&world, "t").await, [(1, "ended".to_owned())]);
}

#[tokio::test]
async fn thirty_megabytes_of_state_go_and_come_back_beside_other_turns() {
    let world = World::new().await;
    let runner = world.start(&GRAPHS, 4, &[]).await;
    world.serve(&[&runner], RunLimits::default());
    let large = async {
        let first = world.answer("keeping", "large", "30").await;
        (first, world.answer("keeping", "large", "0").await)
    };
    let neighbours = async {
        for turn in 1..=3 {
            let told = world.answer("stepping", "small", "go").await.result;
            assert_eq!(told, Some(format!("{} steps", turn * 40)));
        }
    };
    let ((first, second), ()) = tokio::join!(large, neighbours);

    assert_eq!(first.result.as_deref(), Some("0 e3b0c442"));
    assert!(second.result.as_deref().is_some_and(|told| told.starts_with("30 ")), "{second:?}");
    for thread in ["large", "small"] {
        let attempts = attempts(&world, thread).await;
        assert!(attempts.iter().all(|(number, _)| *number == 1), "{attempts:?}");
    }
}

#[tokio::test]
async fn a_replica_that_asks_and_does_not_read_is_lost_and_delays_nobody() {
    // Given a replica whose project asks without end and reads no answer, in either version,
    let gate = tempfile::tempdir().unwrap();
    let open = gate.path().join("open");
    let env = [("STORY_GATE", open.to_str().unwrap())];
    let world = World::new().await;
    let old_env = [VERSION_1, env[0]];
    let (old, new, good) =
        tokio::join!(world.start(&GRAPHS, 4, &old_env), world.start(&GRAPHS, 4, &env), world.start(&GRAPHS, 4, &env));
    // One after the other, so that each gets one of them.
    let mut deaf = Vec::new();
    for (replica, thread) in [(&old, "old"), (&new, "new")] {
        world.serve(&[replica], RunLimits::default());
        let (gateway, route) = (world.gateway.clone(), std::sync::Arc::clone(&world.route));
        let request = serde_json::json!({ "thread_id": thread, "user_id": "ann", "message": "hi", "graph": "deaf" });
        let request = serde_json::from_value(request).unwrap();
        deaf.push(tokio::spawn(async move { gateway.turn(route, request, None).await.is_ok() }));
        world.running(thread).await;
    }
    world.serve(&[&good], RunLimits::default());

    // when others take their turns meanwhile, then all are answered,
    let mut turns = 0;
    while old.replica.is_alive() || new.replica.is_alive() {
        turns += 1;
        let told = world.answer("stepping", "small", "go").await.result;
        assert_eq!(told, Some(format!("{} steps", turns * 40)));
        assert!(turns < 1000, "they are not lost: {} {}", old.replica.is_alive(), new.replica.is_alive());
    }
    assert!(turns > 0);
    // and what the others began goes on where it is read.
    std::fs::write(&open, "").unwrap();
    until("no runs on them", || async { old.replica.in_flight() + new.replica.in_flight() }, |runs| *runs == 0).await;
    for turn in deaf {
        turn.abort();
    }
}

#[tokio::test]
async fn a_value_nested_deep_ends_no_other_run_and_not_the_connection() {
    let world = World::new().await;
    let runner = world.start(&GRAPHS, 4, &[]).await;
    world.serve(&[&runner], RunLimits::default());

    let deep = async {
        for (thread, levels) in [("d100", "100"), ("d126", "126"), ("d200", "200"), ("d250", "250")] {
            // An answer or an error of its own, once.
            let _ = world.turn("deep", thread, levels).await;
            assert_eq!(attempts(&world, thread).await.len(), 1, "{levels}");
        }
    };
    let (answer, ()) = tokio::join!(world.answer("stepping", "small", "go"), deep);

    assert_eq!(answer.result.as_deref(), Some("40 steps"));
    assert_eq!(attempts(&world, "small").await, [(1, "ended".to_owned())]);
    assert!(runner.replica.is_alive());
}

#[tokio::test]
async fn a_runs_end_counts_among_the_bytes_of_its_replica_until_it_is_committed() {
    // Given a run with a long message, and a database that commits nothing for the while,
    let gate = tempfile::tempdir().unwrap();
    let open = gate.path().join("open");
    let world = World::new().await;
    let runner = world.start(&[("gated", "stories.py:gated")], 4, &[("STORY_GATE", open.to_str().unwrap())]).await;
    world.serve(&[&runner], RunLimits::default());
    let text = "x".repeat(256 << 10);
    let body =
        serde_json::json!({ "thread_id": "t", "user_id": "ann", "message": text, "graph": "gated", "full": true });
    let mut turn = Box::pin(world.chat(body, None));
    let ends = async {
        world.running("t").await;
        let mut lock = world.pool().begin().await.unwrap();
        sqlx::query("LOCK TABLE rapidclaw.attempts IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
        // when it ends: its last checkpoint brings the text three times, its end five times,
        std::fs::write(&open, "").unwrap();
        let held = || async { runner.replica.held_bytes() };
        until("the run's end", held, |held| *held > 7 * (256 << 10)).await;
        lock.rollback().await.unwrap();
    };
    tokio::select! {
        _ = &mut turn => panic!("it is answered before it is committed"),
        () = ends => {}
    }

    // then nothing is held once the client has it.
    assert!(turn.await.unwrap().answer.result.is_some_and(|told| told.ends_with(&text)));
    until("nothing held", || async { runner.replica.held_bytes() }, |held| *held == 0).await;
}
