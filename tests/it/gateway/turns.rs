//! Turns that are answered.

use super::stories;
use crate::support::world::World;
use crate::support::{PATIENCE, until};
use rapidclaw::api::chat::ChatRequest;
use rapidclaw::base::ids;
use rapidclaw::gateway::route::RunLimits;
use rapidclaw::gateway::turn::TurnError;
use serde_json::json;
use std::sync::Arc;

#[tokio::test]
async fn a_turn_is_answered_when_its_end_is_committed_and_its_row_knows_the_usage() {
    // Given an agent with the toy graph: two model calls of 12 and 8 tokens, of no known model.
    let world = World::new().await;
    let runner = world.start(&[("agent", "toy.py:graph")], 4, &[]).await;
    world.serve(&[&runner], RunLimits::default());

    // When somebody asks
    let turn = world.turn("agent", "customer 7", "What is the weather in Paris?").await.unwrap();

    // Then the answer is there, with the thread as the client named it,
    assert_eq!(turn.answer.result.as_deref(), Some("It is sunny in Paris."));
    assert_eq!(turn.answer.replica, Some(runner.replica.id));
    assert_eq!(turn.thread_id, "customer 7");
    // the row is complete, its cost not guessed,
    let row = world.run_row(turn.run_id).await;
    assert_eq!((row.status.as_str(), row.thread_status.as_str()), ("success", "idle"));
    assert_eq!((row.input_tokens, row.output_tokens, row.cost), (24, 16, None));
    assert_eq!(row.answer, Some(json!({ "result": "It is sunny in Paris." })));
    assert_eq!(row.metadata, json!({ "user_id": "ann" }));
    // and all five checkpoints of the thread are in the agent's tables.
    assert_eq!(world.rows_of("customer 7").await[0], 5);
}

#[tokio::test]
async fn a_turn_of_a_model_with_a_price_has_its_cost_in_the_row_and_in_status() {
    let world = World::new().await;
    let runner = stories(&world, 4, &[]).await;
    world.serve(&[&runner], RunLimits::default());

    let turn = world.turn("priced", "t", "how much?").await.unwrap();

    let row = world.run_row(turn.run_id).await;
    let wanted = (1000.0 * 0.15 + 100.0 * 0.60) / 1e6;
    assert_eq!((row.input_tokens, row.output_tokens), (1000, 100));
    assert!((row.cost.unwrap() - wanted).abs() < 1e-12, "{:?}", row.cost);
    let status = world.store().agent_rows(Some("agent")).await.unwrap().remove(0);
    assert!((status.cost_per_turn.unwrap() - wanted).abs() < 1e-12);
    assert!(status.p95_ms.unwrap() > 0.0);
}

#[tokio::test]
async fn the_second_turn_remembers_the_first_though_another_replica_answers() {
    let world = World::new().await;
    let (one, two) = tokio::join!(stories(&world, 4, &[]), stories(&world, 4, &[]));
    world.serve(&[&one, &two], RunLimits::default());

    let first = world.answer("memory", "t", "hello").await;
    let second = world.answer("memory", "t", "again").await;

    assert_eq!(first.result.as_deref(), Some("heard 1: hello"));
    assert_eq!(second.result.as_deref(), Some("heard 2: hello"));
    assert_ne!(first.replica, second.replica, "ties go round in turn");
}

#[tokio::test]
async fn turns_on_one_thread_run_one_after_the_other_in_order() {
    // Given two replicas with places for all,
    let world = World::new().await;
    let (one, two) = tokio::join!(stories(&world, 8, &[]), stories(&world, 8, &[]));
    world.serve(&[&one, &two], RunLimits::default());

    // when seven turns come at once on one thread,
    let messages: Vec<String> = (1..=7).map(|n| format!("m{n}")).collect();
    let turns = messages.iter().map(|message| world.answer("slow", "t", message));
    let answers = futures_util::future::join_all(turns).await;

    // then no two of them ever ran at once, and they ran in the order in which they were accepted:
    assert_eq!(world.overlaps().await, 0);
    let order: Vec<(String, String)> = sqlx::query_as(
        "SELECT request ->> 'message', answer ->> 'result' FROM runs WHERE status = 'success' ORDER BY accepted_at",
    )
    .fetch_all(world.pool())
    .await
    .unwrap();
    // each heard itself, and one message more than the one before.
    let heard: Vec<String> = (1..).zip(&order).map(|(n, (message, _))| format!("heard {n}: {message}")).collect();
    assert_eq!(order.iter().map(|(_, result)| result).collect::<Vec<_>>(), heard.iter().collect::<Vec<_>>());
    for (message, answer) in messages.iter().zip(&answers) {
        assert!(answer.result.as_deref().unwrap().ends_with(message), "{message}: {:?}", answer.result);
    }
}

#[tokio::test]
async fn turns_beyond_the_places_wait_and_are_all_answered() {
    // Given places for two runs,
    let world = World::new().await;
    let runner = stories(&world, 2, &[]).await;
    world.serve(&[&runner], RunLimits::default());

    // when twenty turns come at once, on as many threads,
    let threads: Vec<String> = (0..20).map(|n| format!("t{n}")).collect();
    let turns = threads.iter().map(|thread| world.answer("slow", thread, "hello"));
    let answers = futures_util::future::join_all(turns).await;

    // then all are answered, and there were never more than two at once.
    assert!(answers.iter().all(|answer| answer.result.as_deref() == Some("heard 1: hello")));
    let most: i64 = sqlx::query_scalar(
        "SELECT max((SELECT count(*) FROM runs b WHERE b.started_at <= a.started_at AND b.ended_at > a.started_at)) FROM runs a",
    )
    .fetch_one(world.pool())
    .await
    .unwrap();
    assert_eq!(most, 2);
    tokio::time::timeout(PATIENCE, runner.replica.idle()).await.expect("all places are given back");
}

#[tokio::test]
async fn an_interrupt_answers_with_what_it_waits_for_and_the_next_message_resumes_it() {
    let world = World::new().await;
    let runner = stories(&world, 4, &[]).await;
    world.serve(&[&runner], RunLimits::default());

    let asked = world.turn("asking", "t", "do it").await.unwrap();

    assert_eq!(asked.answer.result, None);
    let interrupts: serde_json::Value = serde_json::from_str(asked.answer.interrupts.unwrap().get()).unwrap();
    assert_eq!(interrupts[0]["value"], json!({ "question": "go on?" }));
    let row = world.run_row(asked.run_id).await;
    assert_eq!((row.status.as_str(), row.thread_status.as_str()), ("success", "interrupted"));

    let answered = world.turn("asking", "t", "yes").await.unwrap();

    assert_eq!(answered.answer.result.as_deref(), Some("you said yes"));
    assert_eq!(world.run_row(answered.run_id).await.thread_status, "idle");
    // A message after that begins anew: the graph asks again.
    assert!(world.answer("asking", "t", "once more").await.interrupts.is_some());
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_stop_its_run() {
    let world = World::new().await;
    let gate = tempfile::tempdir().unwrap();
    let open = gate.path().join("open");
    let runner = stories(&world, 4, &[("STORY_GATE", open.to_str().unwrap())]).await;
    world.serve(&[&runner], RunLimits::default());

    let run = tokio::select! {
        turn = world.turn("gated", "t", "hello") => panic!("{turn:?}"),
        run = world.running("t") => run,
    };
    std::fs::write(&open, "").unwrap();

    let ended = until("the run's row", || world.run_row(run), |row| row.status != "running").await;
    assert_eq!(ended.answer, Some(json!({ "result": "heard 1: hello" })));
}

#[tokio::test]
async fn what_a_turn_lacks_is_said_before_a_run_is_made() {
    let world = World::new().await;
    let runner = stories(&world, 4, &[]).await;
    world.serve(&[&runner], RunLimits::default());
    let good = ChatRequest {
        user_id: Some("ann".into()),
        message: Some("hello".into()),
        graph: Some("memory".into()),
        ..ChatRequest::default()
    };
    let bad = [
        ("`user_id` is required", ChatRequest { user_id: None, ..good.clone() }),
        ("`message` is empty", ChatRequest { message: Some(String::new()), ..good.clone() }),
        ("`message` holds a NUL character", ChatRequest { message: Some("a\0b".into()), ..good.clone() }),
        ("`thread_id` is longer than 256 bytes", ChatRequest { thread_id: Some("x".repeat(257)), ..good.clone() }),
        ("the agent has several graphs", ChatRequest { graph: None, ..good.clone() }),
        ("there is no graph \"none\"", ChatRequest { graph: Some("none".into()), ..good.clone() }),
    ];

    for (why, request) in bad {
        let refused = world.gateway.turn(Arc::clone(&world.route), request, None).await.unwrap_err();
        assert!(matches!(refused, TurnError::Field(_) | TurnError::Graph(_)), "{refused:?}");
        assert!(refused.to_string().starts_with(why), "{refused}");
    }

    let runs: i64 = sqlx::query_scalar("SELECT count(*) FROM runs").fetch_one(world.pool()).await.unwrap();
    assert_eq!(runs, 0);
    // A thread without a name gets one that can be named again.
    let turn = world.gateway.turn(Arc::clone(&world.route), good, None).await.unwrap();
    assert_eq!(ids::thread_id(&turn.thread_id).to_string(), turn.thread_id);
}
