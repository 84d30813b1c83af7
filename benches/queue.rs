//! What a claim, an end and an accept cost, by how much waits and by how long the thread is; on a Postgres of the
//! tests' (no fsync: what is compared is Postgres' work). `benches/queue.sh` runs it. Prints a table and JSON.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use rapidclaw::base::ids;
use rapidclaw::store::Store;
use rapidclaw::store::agents::Agent;
use rapidclaw::store::runs::{Acceptance, Ending, NewRun, Place, RunRequest, RunStatus};
use rapidclaw::store::test_database::TestDatabase;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Runs that one claim asks for.
const PLACES: usize = 4;

struct World {
    store: Store,
    agent: Agent,
    gateway: Uuid,
    release: Uuid,
    _database: TestDatabase,
}

impl World {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let store = Store::open(database.options()).await.unwrap();
        let agent = store.ensure_agent("agent").await.unwrap();
        let world = Self { store, agent, gateway: ids::new_id(), release: ids::new_id(), _database: database };
        // As a server that has been up for a while: statements are planned, when there was nothing in the tables.
        sqlx::query("ANALYZE").execute(world.store.pool()).await.unwrap();
        for _ in 0..10 {
            world.claim().await;
            let run = world.accept("warm").await;
            world.end(run).await;
        }
        world
    }

    async fn fill(&self, runs: i32, threads: i32) {
        sqlx::query(
            "INSERT INTO runs (id, agent_id, thread_id, graph, turn, status, request, ready, accepted_at)
             SELECT gen_random_uuid(), $1, md5((n % $3)::text)::uuid, 'agent', true, 'pending',
               '{\"kind\": \"chat\", \"message\": \"hello\", \"full\": false}', n < $3, now() - interval '1 hour' + n * interval '1 ms'
             FROM generate_series(0, $2 - 1) n",
        )
        .bind(self.agent.id)
        .bind(runs)
        .bind(threads)
        .execute(self.store.pool())
        .await
        .unwrap();
    }

    async fn claim(&self) -> Vec<Uuid> {
        let places = vec![self.gateway; PLACES];
        let claimed = self.store.claim_runs(self.agent.id, self.release, self.gateway, &places, false).await.unwrap();
        claimed.into_iter().map(|claimed| claimed.id).collect()
    }

    async fn accept(&self, thread: &str) -> Uuid {
        let id = ids::new_id();
        let new = NewRun {
            id,
            agent: self.agent.id,
            release: self.release,
            thread: ids::thread_id(thread),
            given: thread,
            graph: "agent",
            request: &RunRequest::Chat { message: "hello".into(), full: false, more: None },
            metadata: &json!({ "user_id": "ann" }),
            idempotency_key: None,
            queue_limit: Some(1000),
        };
        let place = Place { gateway: self.gateway, replica: self.gateway };
        let accepted = self.store.accept_run(&new, Some(place)).await.unwrap();
        assert!(matches!(accepted, Acceptance::Accepted(accepted) if accepted.running));
        id
    }

    async fn end(&self, run: Uuid) {
        let ending = Ending::new(run, 1, RunStatus::Success);
        assert_eq!(self.store.end_runs(&[ending]).await.unwrap(), [run]);
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

/// Median of a claim and of an end, in milliseconds.
async fn queue(runs: i32, threads: i32, analyzed: bool, times: usize) -> (f64, f64) {
    let world = World::new().await;
    world.fill(runs, threads).await;
    if analyzed {
        sqlx::query("ANALYZE").execute(world.store.pool()).await.unwrap();
    }
    let (mut claims, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..times {
        let begin = Instant::now();
        let claimed = world.claim().await;
        claims.push(begin.elapsed());
        assert!(!claimed.is_empty());
        for run in claimed {
            let begin = Instant::now();
            world.end(run).await;
            ends.push(begin.elapsed());
        }
    }
    (median(claims), median(ends))
}

/// Median of an accept on a thread that has so many turns, in milliseconds.
async fn accept(turns: i32, times: usize) -> f64 {
    let world = World::new().await;
    sqlx::query(
        "INSERT INTO runs (id, agent_id, thread_id, graph, turn, status, request, attempt, accepted_at, ended_at)
         SELECT gen_random_uuid(), $1, $2, 'agent', true, 'success', '{}', 1, now() - n * interval '1 s', now()
         FROM generate_series(1, $3) n",
    )
    .bind(world.agent.id)
    .bind(ids::thread_id("t"))
    .bind(turns)
    .execute(world.store.pool())
    .await
    .unwrap();
    let mut accepts = Vec::new();
    for _ in 0..times {
        let begin = Instant::now();
        let run = world.accept("t").await;
        accepts.push(begin.elapsed());
        world.end(run).await;
    }
    median(accepts)
}

#[tokio::main]
async fn main() {
    let smoke = std::env::args().any(|argument| argument == "--smoke");
    let (lengths, times): (&[i32], usize) =
        if smoke { (&[100, 10_000], 20) } else { (&[100, 1000, 10_000, 100_000], 100) };
    let mut rows: Vec<Value> = Vec::new();
    println!("| waiting | on threads | statistics | a claim of up to {PLACES}, median ms | an end, median ms |");
    println!("| --- | --- | --- | --- | --- |");
    for analyzed in [false, true] {
        for one in [false, true] {
            for &runs in lengths {
                let threads = if one { 1 } else { runs };
                // Of 100 on as many threads there is enough for 25 claims.
                let times = if one { times.min(90) } else { times.min(20) };
                let (claim, end) = queue(runs, threads, analyzed, times).await;
                let statistics = if analyzed { "fresh" } else { "stale" };
                println!("| {runs} | {threads} | {statistics} | {claim:.2} | {end:.2} |");
                rows.push(json!({ "waiting": runs, "threads": threads, "statistics": statistics, "claim_ms": claim, "end_ms": end }));
            }
        }
    }
    println!("\n| turns of the thread | an accept, median ms |\n| --- | --- |");
    let mut accepts = Vec::new();
    for turns in [0, 10_000] {
        let took = accept(turns, times).await;
        println!("| {turns} | {took:.2} |");
        accepts.push(json!({ "turns": turns, "accept_ms": took }));
    }
    println!("{}", json!({ "queue": rows, "accept": accepts }));
}
