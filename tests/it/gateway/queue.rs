//! The queue and the committer: many that wait, several gateways, what cannot be stored, and what a turn costs.

use crate::support::counting::Counting;
use crate::support::process::Process;
use crate::support::until;
use crate::support::world::{Runner, World};
use futures_util::future::join_all;
use rapidclaw::api::chat::ChatRequest;
use rapidclaw::gateway::Gateway;
use rapidclaw::gateway::outcome::Outcome;
use rapidclaw::gateway::route::{Route, RunLimits};
use rapidclaw::gateway::turn::{Turn, TurnError};
use rapidclaw::store::StoreError;
use rapidclaw::store::test_database::TestDatabase;
use std::sync::Arc;

const GRAPHS: [(&str, &str); 3] =
    [("memory", "stories.py:memory"), ("gated", "stories.py:gated"), ("pacing", "stories.py:pacing")];

async fn ask(gateway: Gateway, route: Arc<Route>, graph: &str, thread: String) -> Result<Turn, TurnError> {
    let request = ChatRequest {
        thread_id: Some(thread),
        user_id: Some("ann".to_owned()),
        message: Some("hello".to_owned()),
        graph: Some(graph.to_owned()),
        ..ChatRequest::default()
    };
    gateway.turn(route, request, None).await
}

/// Runs that wait though nobody here waits for them, as a gateway that is gone has left them: on so many threads in
/// turn.
async fn left_behind(world: &World, runs: i32, threads: i32) {
    let sql = "WITH thread AS (
           INSERT INTO threads (agent_id, id, given) SELECT $1, md5(n::text)::uuid, n::text FROM generate_series(0, $4 - 1) n
         )
         INSERT INTO runs (id, agent_id, release_id, thread_id, graph, turn, status, request, ready)
         SELECT gen_random_uuid(), $1, $2, md5((n % $4)::text)::uuid, 'memory', true, 'pending',
           '{\"kind\": \"chat\", \"message\": \"hello\", \"full\": false}', n < $4
         FROM generate_series(0, $3 - 1) n";
    let query = sqlx::query(sql).bind(world.agent.id).bind(world.release.id).bind(runs).bind(threads);
    query.execute(world.pool()).await.unwrap();
}

async fn count(world: &World, condition: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM runs WHERE {condition}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(world.pool()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_two_thousand_drains_in_order_each_run_once() {
    let world = World::new().await;
    let runner = world.start(&GRAPHS, 20, &[]).await;
    left_behind(&world, 2000, 250).await;

    world.serve(&[&runner], RunLimits::default());

    let left = || count(&world, "status IN ('pending', 'running')");
    // As long as it gets shorter.
    let mut before = left().await;
    while before > 0 {
        before = until("fewer runs that wait", left, |now| *now < before).await;
    }
    assert_eq!(count(&world, "status = 'success' AND attempt = 1").await, 2000);
    assert_eq!(world.overlaps().await, 0);
    let sql = "SELECT count(*) FROM runs a JOIN runs b ON a.thread_id = b.thread_id AND (a.accepted_at, a.id) < (b.accepted_at, b.id)
               WHERE a.started_at > b.started_at";
    let disordered: i64 = sqlx::query_scalar(sql).fetch_one(world.pool()).await.unwrap();
    assert_eq!(disordered, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_on_one_database_never_run_a_thread_twice_at_once() {
    // Given two gateways, each with a replica of its own, a queue, and clients at both,
    let world = World::new().await;
    let one = world.start(&GRAPHS, 4, &[]).await;
    let beside = world.beside().await;
    let two = world.attach_to(&beside.gateway, Process::runner(&GRAPHS, &[]), 4).await;
    left_behind(&world, 60, 6).await;

    world.serve(&[&one], RunLimits::default());
    world.serve_on(&beside.route, &[&two], RunLimits::default());
    let ask_one_of_them = |n: usize| {
        let (gateway, route) =
            if n.is_multiple_of(2) { (&world.gateway, &world.route) } else { (&beside.gateway, &beside.route) };
        tokio::spawn(ask(gateway.clone(), Arc::clone(route), "memory", format!("t{}", n % 5)))
    };
    let turns: Vec<_> = (0..40).map(ask_one_of_them).collect();

    // then every run is made once, and none beside another on its thread.
    let ended = || count(&world, "status = 'success' AND attempt = 1");
    let mut before = -1;
    while before < 100 {
        before = until("more runs that have ended", ended, |now| *now > before).await;
    }
    assert_eq!(count(&world, "true").await, 100);
    assert_eq!(world.overlaps().await, 0);
    drop(turns);
    beside.shutdown.cancel();
}

#[tokio::test]
async fn as_many_turns_wait_as_limits_queue_allows_and_no_more() {
    let world = World::new().await;
    let gate = tempfile::tempdir().unwrap();
    let open = gate.path().join("open");
    let runner = world.start(&GRAPHS, 1, &[("STORY_GATE", open.to_str().unwrap())]).await;
    world.serve(&[&runner], RunLimits { queue: Some(3), ..RunLimits::default() });
    let turn = |graph: &'static str, thread: &str| {
        tokio::spawn(ask(world.gateway.clone(), Arc::clone(&world.route), graph, thread.to_owned()))
    };

    // Given one that runs and three that wait, one of them on the same thread,
    let mut taken = vec![turn("gated", "a")];
    until("the one that runs", || count(&world, "status = 'running'"), |runs| *runs == 1).await;
    taken.extend([turn("memory", "a"), turn("memory", "b"), turn("memory", "c")]);
    until("those that wait", || count(&world, "status = 'pending'"), |runs| *runs == 3).await;

    // then the next is refused at once, on any thread, and leaves nothing behind,
    for thread in ["a", "d"] {
        let refused = turn("memory", thread).await.unwrap();
        assert!(matches!(refused, Err(TurnError::Store(StoreError::QueueFull(3)))), "{refused:?}");
    }
    assert_eq!(count(&world, "true").await, 4);
    // and those that wait are answered.
    std::fs::write(&open, "").unwrap();
    for turn in taken {
        turn.await.unwrap().unwrap();
    }
    world.answer("memory", "d", "hello").await;
}

/// From now on the database takes no checkpoint of that thread: it fails with `code`.
async fn poison(world: &World, thread: &str, code: &str) {
    let (schema, thread) = (world.schema.name(), rapidclaw::base::ids::thread_id(thread));
    let sql = format!(
        "CREATE FUNCTION poisoned() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = '{code}'; END $$;
         CREATE TRIGGER poison BEFORE INSERT ON \"{schema}\".checkpoints FOR EACH ROW
         WHEN (NEW.thread_id = '{thread}') EXECUTE FUNCTION poisoned()"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(world.pool()).await.unwrap();
}

async fn ends_only_its_run(code: &str, message: &str) {
    let world = World::new().await;
    let runner = world.start(&GRAPHS, 20, &[]).await;
    world.serve(&[&runner], RunLimits::default());
    poison(&world, "guilty", code).await;

    let neighbours = join_all(
        (0..16).map(|n| tokio::spawn(ask(world.gateway.clone(), Arc::clone(&world.route), "pacing", format!("t{n}")))),
    );
    let (failure, neighbours) = tokio::join!(world.failure("pacing", "guilty", "hello"), neighbours);

    let Outcome::Fault(fault) = failure.1 else { panic!("{failure:?}") };
    assert_eq!((fault.kind.as_str(), fault.message.as_deref()), ("CheckpointRejected", Some(message)));
    assert_eq!(world.run_row(failure.0).await.status, "error");
    for turn in neighbours {
        assert_eq!(turn.unwrap().unwrap().answer.result.as_deref(), Some("heard 1: hello"));
    }
    assert_eq!(count(&world, "attempt > 1").await, 0);
    // Its thread is free again.
    sqlx::raw_sql("DROP FUNCTION poisoned CASCADE").execute(world.pool()).await.unwrap();
    world.answer("pacing", "guilty", "again").await;
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_the_fault_of_one_run() {
    ends_only_its_run("57014", "the database took too long to store the run's state").await;
}

#[tokio::test]
async fn a_message_that_is_too_large_is_the_fault_of_one_run() {
    ends_only_its_run("08P01", "the run's state is too large for the database").await;
}

#[tokio::test]
async fn what_a_column_cannot_hold_is_the_fault_of_one_run() {
    ends_only_its_run("22P05", "the run's state could not be stored").await;
}

/// Whether the usual turn is so many round trips at most: leases are renewed beside some. On a busy machine frames are
/// held up, and come in more batches: then it is measured again.
async fn costs_at_most(most: usize, graph: &str) {
    let (world, counting, _runner) = counted().await;
    let mut seen = Vec::new();
    for _ in 0..20 {
        let mut turns = [0; 9];
        for turn in &mut turns {
            let before = counting.round_trips();
            world.answer(graph, "t", "hello").await;
            *turn = counting.round_trips() - before;
        }
        turns.sort_unstable();
        if turns[turns.len() / 2] <= most {
            return;
        }
        seen.push(turns);
    }
    panic!("more than {most} round trips each time: {seen:?}");
}

async fn counted() -> (World, Counting, Runner) {
    let database = TestDatabase::new().await;
    let counting = Counting::new(database.socket());
    let world = World::reached_by(database.options().socket(counting.folder()), database).await;
    let runner = world.start(&GRAPHS, 4, &[]).await;
    world.serve(&[&runner], RunLimits::default());
    // Statements are prepared.
    for _ in 0..8 {
        world.answer("memory", "t", "hello").await;
        world.answer("pacing", "t", "hello").await;
    }
    (world, counting, runner)
}

#[tokio::test]
async fn a_turn_on_a_known_thread_is_three_round_trips() {
    costs_at_most(3, "memory").await;
}

#[tokio::test]
async fn a_turn_of_three_slow_nodes_is_seven_round_trips() {
    costs_at_most(7, "pacing").await;
}
