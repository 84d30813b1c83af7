//! Runs that go on where nobody here looks: another gateway, a replica that ends, an attempt that is over.

use super::questions;
use crate::support::process::Process;
use crate::support::world::World;
use crate::support::{PATIENCE, until};
use rapidclaw::gateway::route::RunLimits;
use std::future::Future;

/// Polls these turns until `when` is done: they go on afterwards.
async fn meanwhile<T>(turns: &mut (impl Future<Output = T> + Unpin), when: impl Future<Output = ()>) {
    tokio::select! {
        _ = turns => panic!("ended too early"),
        () = when => {}
    }
}

#[tokio::test]
async fn a_client_gets_the_answer_of_a_run_that_another_gateway_claims_and_no_place_is_given_twice() {
    // Given a gateway whose only place is taken, with a turn that waits,
    let world = World::new().await;
    let gate = tempfile::tempdir().unwrap();
    let open = gate.path().join("open");
    let env = [("STORY_GATE", open.to_str().unwrap())];
    let graphs = [("gated", "stories.py:gated"), ("memory", "stories.py:memory")];
    let runner = world.start(&graphs, 1, &env).await;
    world.serve(&[&runner], RunLimits::default());
    let mut first = Box::pin(world.answer("gated", "a", "hello"));
    meanwhile(&mut first, async { _ = world.running("a").await }).await;
    let mut second = Box::pin(world.turn("memory", "b", "hello"));
    let waits = || async {
        let sql = "SELECT count(*) FROM runs WHERE status = 'pending'";
        sqlx::query_scalar::<_, i64>(sql).fetch_one(world.pool()).await.unwrap()
    };
    meanwhile(&mut second, async { _ = until("a waiting run", waits, |count| *count == 1).await }).await;

    // when another gateway has a place, then it executes the run, and the first one's client gets its answer.
    let other = world.beside().await;
    let theirs = world.attach_to(&other.gateway, Process::runner(&graphs, &env), 1).await;
    world.serve_on(&other.route, &[&theirs], RunLimits::default());
    let turn = tokio::time::timeout(PATIENCE, second).await.expect("the client hears of it").unwrap();
    assert_eq!(turn.answer.result.as_deref(), Some("heard 1: hello"));

    // A place that one gateway has taken is none for the other.
    let taken = runner.replica.id;
    let seen = other.gateway.store().places_of_others(other.gateway.id()).await.unwrap();
    assert_eq!(seen, [(taken, 1)]);
    theirs.replica.set_elsewhere(1);
    assert!(theirs.replica.reserve().is_none());
    other.gateway.count_places(None).await.unwrap();
    assert!(theirs.replica.reserve().is_some());
    std::fs::write(&open, "").unwrap();
    assert_eq!(first.await.result.as_deref(), Some("heard 1: hello"));
    other.shutdown.cancel();
}

#[tokio::test]
async fn a_run_whose_replica_is_lost_here_is_answered_by_another_gateway_and_its_client_hears_of_it() {
    // Given a run on the only replica that its gateway has, and another gateway with one of its own,
    let world = World::new().await;
    let gate = tempfile::tempdir().unwrap();
    let open = gate.path().join("open");
    let env = [("STORY_GATE", open.to_str().unwrap())];
    let graphs = [("gated", "stories.py:gated")];
    let mut runner = world.start(&graphs, 1, &env).await;
    world.serve(&[&runner], RunLimits::default());
    let mut turn = Box::pin(world.answer("gated", "a", "hello"));
    meanwhile(&mut turn, async { _ = world.running("a").await }).await;
    let other = world.beside().await;
    let theirs = world.attach_to(&other.gateway, Process::runner(&graphs, &env), 1).await;
    world.serve_on(&other.route, &[&theirs], RunLimits::default());

    // when that replica is lost, then the run goes on with the other, and its client hears how it ends.
    runner.process.kill().await;
    std::fs::write(&open, "").unwrap();
    let answer = tokio::time::timeout(PATIENCE, turn).await.expect("the client hears of it");
    assert!(answer.result.is_some());
    let sql = "SELECT replica FROM attempts ORDER BY number DESC LIMIT 1";
    let last: uuid::Uuid = sqlx::query_scalar(sql).fetch_one(world.pool()).await.unwrap();
    assert_eq!(last, theirs.replica.id);
    other.shutdown.cancel();
}

#[tokio::test]
async fn a_replica_that_is_told_from_outside_to_end_gets_no_more_runs() {
    // Given two replicas, of which the less busy one is told to end,
    let world = World::new().await;
    let gate = tempfile::tempdir().unwrap();
    let open = gate.path().join("open");
    let env = [("STORY_GATE", open.to_str().unwrap())];
    let (one, two) = tokio::join!(questions(&world, &env), questions(&world, &env));
    world.serve(&[&one], RunLimits::default());
    let mut held = Box::pin(world.answer("gated", "a", "hello"));
    meanwhile(&mut held, async { _ = world.running("a").await }).await;
    world.serve(&[&two], RunLimits::default());
    let mut more =
        Box::pin(futures_util::future::join(world.answer("gated", "b", "hello"), world.answer("gated", "c", "hello")));
    meanwhile(&mut more, async { _ = (world.running("b").await, world.running("c").await) }).await;
    world.serve(&[&one, &two], RunLimits::default());
    one.process.terminate();

    // when turns come, then one may meet it before it knows, and none after that does.
    let mut attempts = Vec::new();
    for n in 0..4 {
        let turn = world.turn("memory", &format!("t{n}"), "hello").await.unwrap();
        assert_eq!(turn.answer.replica, Some(two.replica.id));
        let sql = "SELECT count(*) FROM attempts WHERE run_id = $1";
        attempts.push(sqlx::query_scalar::<_, i64>(sql).bind(turn.run_id).fetch_one(world.pool()).await.unwrap());
    }
    assert!(attempts.iter().sum::<i64>() <= 5, "{attempts:?}");
    std::fs::write(&open, "").unwrap();
    let (a, bc) = tokio::join!(held, more);
    assert!(a.result.is_some() && bc.0.result.is_some() && bc.1.result.is_some());
}

#[tokio::test]
async fn an_attempt_that_is_not_its_runs_any_more_is_ended_and_its_client_follows_the_run() {
    let world = World::new().await;
    let gate = tempfile::tempdir().unwrap();
    let open = gate.path().join("open");
    let runner = questions(&world, &[("STORY_GATE", open.to_str().unwrap())]).await;
    world.serve(&[&runner], RunLimits::default());
    let mut turn = Box::pin(world.answer("gated", "a", "hello"));
    let mut run = None;
    meanwhile(&mut turn, async { run = Some(world.running("a").await) }).await;

    // When somebody else ends the run in the table,
    let sql = "WITH attempt AS (UPDATE attempts SET state = 'lost' WHERE run_id = $1)
               UPDATE runs SET status = 'success', answer = '{\"result\":\"elsewhere\"}', ended_at = now() WHERE id = $1";
    sqlx::query(sql).bind(run.unwrap()).execute(world.pool()).await.unwrap();

    // then the attempt here is cancelled, though its node goes on waiting, and the client hears the run's end.
    assert_eq!(turn.await.result.as_deref(), Some("elsewhere"));
    tokio::time::timeout(PATIENCE, runner.replica.idle()).await.expect("its place is free");
    assert!(!open.exists());
}

#[tokio::test]
async fn a_run_that_another_one_holds_up_goes_on_elsewhere_and_the_one_that_holds_stays() {
    // Given a replica whose loop a run holds, and a turn that was given to it all the same,
    let world = World::new().await;
    let gate = tempfile::tempdir().unwrap();
    let open = gate.path().join("open");
    let env = [("STORY_GATE", open.to_str().unwrap())];
    let graphs = [("holding", "stories.py:holding"), ("memory", "stories.py:memory")];
    let held = world.start(&graphs, 4, &env).await;
    world.serve(&[&held], RunLimits::default());
    let mut holder = Box::pin(world.answer("holding", "a", "hello"));
    meanwhile(&mut holder, async { _ = world.running("a").await }).await;
    let mut beside = Box::pin(world.turn("memory", "b", "hello"));
    meanwhile(&mut beside, async { _ = world.running("b").await }).await;

    // when there is another replica, then the turn is answered there, and new ones are answered meanwhile,
    let free = world.start(&graphs, 4, &env).await;
    world.serve(&[&held, &free], RunLimits::default());
    let turn = tokio::time::timeout(PATIENCE, beside).await.expect("it goes on elsewhere").unwrap();
    assert_eq!(turn.answer.result.as_deref(), Some("heard 1: hello"));
    for n in 0..4 {
        world.answer("memory", &format!("c{n}"), "hello").await;
    }
    // and the one that holds the loop is executed once.
    std::fs::write(&open, "").unwrap();
    assert_eq!(holder.await.result.as_deref(), Some("heard 1: hello"));
    let attempts = "SELECT attempt FROM runs JOIN threads t ON t.id = thread_id WHERE given = $1";
    for (thread, attempt) in [("a", 1), ("b", 2)] {
        let made: i32 = sqlx::query_scalar(attempts).bind(thread).fetch_one(world.pool()).await.unwrap();
        assert_eq!(made, attempt, "{thread}");
    }
}
