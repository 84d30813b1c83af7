//! The queue: several at once, bounded, at the same cost however long it is, and beside the version before.

use super::*;
use crate::run::loss::Loss;
use crate::store::runs::{ACCEPT, CLAIM};
use futures_util::future::join_all;
use serde_json::Value;
use sqlx::types::Json;

#[tokio::test]
async fn several_claimed_at_once_are_the_first_of_their_threads_in_order() {
    let world = World::new().await;
    let busy = world.accept("busy").await.0;
    let mut waiting = Vec::new();
    for thread in ["busy", "a", "b", "a", "b", "c", "a"] {
        waiting.push(world.queue(thread).await);
    }

    assert_eq!(world.claim_several(0).await, []);
    assert_eq!(world.claim_several(2).await, [(waiting[1], 1), (waiting[2], 1)], "no more than there are places");
    assert_eq!(world.claim_several(9).await, [(waiting[5], 1)], "one a thread");
    world.end(busy, 1, RunStatus::Success).await;
    world.end(waiting[2], 1, RunStatus::Error).await;
    assert_eq!(world.claim_several(9).await, [(waiting[0], 1), (waiting[4], 1)]);
    world.end(waiting[1], 1, RunStatus::Timeout).await;
    assert_eq!(world.claim_several(9).await, [(waiting[3], 1)]);
    world.end(waiting[3], 1, RunStatus::Interrupted).await;
    assert_eq!(world.claim_several(9).await, [(waiting[6], 1)]);
}

#[tokio::test]
async fn each_claimed_run_has_its_own_place() {
    let world = World::new().await;
    let runs = [world.queue("a").await, world.queue("b").await];
    let replicas = [ids::new_id(), ids::new_id(), ids::new_id()];
    let claimed =
        world.store.claim_runs(world.agent.id, world.release.id, world.place.gateway, &replicas, false).await.unwrap();
    for (n, (run, replica)) in runs.into_iter().zip(replicas).enumerate() {
        assert_eq!((claimed[n].id, usize::try_from(claimed[n].place).unwrap()), (run, n + 1));
        let sql = "SELECT replica FROM attempts WHERE run_id = $1";
        let at: Uuid = sqlx::query_scalar(sql).bind(run).fetch_one(world.store.pool()).await.unwrap();
        assert_eq!(at, replica);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn as_many_wait_as_may_however_many_come_at_once() {
    let world = World::new().await;
    let is_full = |offer: &Result<Acceptance, StoreError>| matches!(offer, Err(StoreError::QueueFull(10)));
    // What runs does not wait.
    for thread in ["x", "y", "z"] {
        world.accept(thread).await;
    }

    let offers = join_all((0..40).map(|n| {
        let world = &world;
        async move { world.offer_to(&format!("t{}", n % 25), None, None, Some(10)).await.1 }
    }));
    let offers = offers.await;

    let refused = offers.iter().filter(|offer| is_full(offer)).count();
    assert_eq!((offers.iter().filter(|offer| offer.is_ok()).count(), refused), (10, 30), "{offers:?}");
    // A run that begins at once passes, one that waits for its thread does not; a refused one leaves nothing.
    assert!(world.offer_to("free", Some(world.place), None, Some(10)).await.1.is_ok());
    assert!(is_full(&world.offer_to("x", Some(world.place), None, Some(10)).await.1));
    assert!(is_full(&world.offer_to("never", None, None, Some(10)).await.1));
    let threads: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM threads t WHERE NOT EXISTS (SELECT FROM runs r WHERE r.thread_id = t.id)",
    )
    .fetch_one(world.store.pool())
    .await
    .unwrap();
    assert_eq!(threads, 0);
    // One place becomes free, for one.
    world.claim().await.unwrap();
    assert!(world.offer_to("one", None, None, Some(10)).await.1.is_ok());
    assert!(is_full(&world.offer_to("two", None, None, Some(10)).await.1));
    // Another agent has a queue of its own; and one that may hold nothing holds nothing.
    let other = World { agent: world.store.ensure_agent("other").await.unwrap(), ..world };
    assert!(other.offer_to("t", None, None, Some(1)).await.1.is_ok());
    assert!(matches!(other.offer_to("u", None, None, Some(0)).await.1, Err(StoreError::QueueFull(0))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_longer_queue_has_its_end_too() {
    let world = World::new().await;
    fill(&world, 990, 990).await;
    let offers = join_all((0..30).map(|n| {
        let world = &world;
        async move { world.offer_to(&format!("t{n}"), None, None, Some(1000)).await.1.is_ok() }
    }));
    assert_eq!(offers.await.into_iter().filter(|taken| *taken).count(), 10);
}

/// What the version before migration 7 says to the tables.
mod before {
    pub const ACCEPT: &str = "
        WITH ahead AS (
          SELECT $4 OR EXISTS (SELECT 1 FROM runs WHERE agent_id = $2 AND thread_id = $3 AND status IN ('pending', 'running')) AS waits
        )
        INSERT INTO runs (id, agent_id, thread_id, graph, turn, request, status, attempt)
        SELECT $1, $2, $3, 'agent', true, '{\"kind\": \"chat\", \"message\": \"hello\", \"full\": false}',
          CASE WHEN waits THEN 'pending' ELSE 'running' END, CASE WHEN waits THEN 0 ELSE 1 END FROM ahead
        RETURNING status";
    pub const CLAIM: &str = "UPDATE runs SET status = 'running', attempt = attempt + 1 WHERE id = $1";
    pub const END: &str = "UPDATE runs SET status = 'success', ended_at = now() WHERE id = $1";
    pub const REQUEUE: &str = "UPDATE runs SET status = 'pending', losses = losses + 1 WHERE id = $1";
}

#[tokio::test]
async fn the_version_before_and_this_one_keep_one_queue() {
    let world = World::new().await;
    let old = async |run: Uuid, thread: &str, waits: bool| {
        let query = sqlx::query_scalar::<_, String>(before::ACCEPT).bind(run).bind(world.agent.id);
        query.bind(ids::thread_id(thread)).bind(waits).fetch_one(world.store.pool()).await.unwrap()
    };
    let say = async |sql: &'static str, run: Uuid| {
        sqlx::query(sql).bind(run).execute(world.store.pool()).await.unwrap();
    };

    // Given runs that both have accepted on two threads,
    let [one, two, three, four] = [(); 4].map(|()| ids::new_id());
    assert_eq!(old(one, "t", false).await, "running");
    assert_eq!(old(two, "t", false).await, "pending");
    let behind = world.queue("t").await;
    assert_eq!(old(three, "u", true).await, "pending");
    assert_eq!(old(four, "u", false).await, "pending");

    // then each is claimed in its turn, whoever ended, lost or claimed the one before.
    assert_eq!(world.claim_several(9).await, [(three, 1)]);
    assert_eq!(world.claim().await, None, "one has run since before");
    say(before::REQUEUE, one).await;
    assert_eq!(world.claim_several(9).await, [(one, 2)]);
    say(before::END, one).await;
    say(before::CLAIM, two).await;
    assert_eq!(world.claim().await, None);
    say(before::END, two).await;
    assert_eq!(world.claim_several(9).await, [(behind, 1)]);
    assert!(world.end(three, 1, RunStatus::Success).await);
    assert_eq!(world.claim_several(9).await, [(four, 1)]);
}

#[tokio::test]
async fn runs_that_waited_when_the_tables_changed_go_on_in_their_order() {
    // Given a database of the version before, with runs in all states,
    let world = World::new().await;
    let (lost, _) = world.accept("t").await;
    let next = world.queue("t").await;
    let (running, _) = world.accept("u").await;
    let behind = world.queue("u").await;
    let free = world.queue("v").await;
    world.store.requeue_run(lost, 1, Loss { died: true, counts: true, ..Loss::NONE }, None).await.unwrap();
    let undo = "DROP TRIGGER runs_placed ON runs; DROP TRIGGER runs_freed ON runs; DROP TRIGGER agents_gone ON agents;
        ALTER TABLE runs DROP COLUMN ready;
        CREATE INDEX runs_waiting ON runs (agent_id, accepted_at) WHERE status = 'pending';
        DROP FUNCTION place_run, run_was_placed, thread_is_free, agent_is_gone;
        ALTER TABLE attempts ADD CONSTRAINT attempts_run_id_fkey FOREIGN KEY (run_id) REFERENCES runs ON DELETE CASCADE;
        ALTER TABLE runs ADD CONSTRAINT runs_agent_id_fkey FOREIGN KEY (agent_id) REFERENCES agents ON DELETE CASCADE;
        ALTER TABLE runs ADD CONSTRAINT runs_release_id_fkey FOREIGN KEY (release_id) REFERENCES releases ON DELETE SET NULL;
        ALTER TABLE threads ADD CONSTRAINT threads_agent_id_fkey FOREIGN KEY (agent_id) REFERENCES agents ON DELETE CASCADE;
        DELETE FROM _sqlx_migrations WHERE version = 7";
    sqlx::raw_sql(undo).execute(world.store.pool()).await.unwrap();

    // when this version opens it,
    let world = World { store: Store::open(world.database.options()).await.unwrap(), ..world };

    // then the first of each thread is next.
    assert_eq!(world.claim_several(9).await, [(lost, 2), (free, 1)]);
    assert!(world.end(running, 1, RunStatus::Success).await && world.end(lost, 2, RunStatus::Success).await);
    assert_eq!(world.claim_several(9).await, [(next, 1), (behind, 1)]);
}

#[tokio::test]
async fn an_agent_that_is_removed_takes_its_runs_along_and_no_others() {
    let world = World::new().await;
    let (mine, _) = world.accept("t").await;
    let other = World { agent: world.store.ensure_agent("other").await.unwrap(), ..world };
    let (theirs, _) = other.accept("t").await;
    let agent = other.store.find_agent("agent").await.unwrap().unwrap();
    other.store.remove_agent(&agent).await.unwrap();
    for (table, column) in [("runs", "id"), ("attempts", "run_id")] {
        let left: Vec<Uuid> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT {column} FROM {table}")))
            .fetch_all(other.store.pool())
            .await
            .unwrap();
        assert_eq!(left, [theirs], "{table}: {mine} is gone");
    }
    let threads: i64 = sqlx::query_scalar("SELECT count(*) FROM threads").fetch_one(other.store.pool()).await.unwrap();
    assert_eq!(threads, 1);
}

/// So many runs that wait on so many threads, in turn.
async fn fill(world: &World, runs: i32, threads: i32) {
    sqlx::query(
        "INSERT INTO runs (id, agent_id, thread_id, graph, turn, status, request, ready, accepted_at)
         SELECT gen_random_uuid(), $1, md5((n % $3)::text)::uuid, 'agent', true, 'pending',
           '{\"kind\": \"chat\", \"message\": \"hello\", \"full\": false}', n < $3, now() - interval '1 hour' + n * interval '1 ms'
         FROM generate_series(0, $2 - 1) n",
    )
    .bind(world.agent.id)
    .bind(runs)
    .bind(threads)
    .execute(world.store.pool())
    .await
    .unwrap();
}

/// Blocks that Postgres reads for a claim of four, planned anew and planned for good.
async fn blocks_of_a_claim(world: &World) -> i64 {
    let places = vec![world.place.replica; 4];
    let sql = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {CLAIM}");
    let mut transaction = world.store.pool().begin().await.unwrap();
    let mut blocks = 0;
    for mode in ["force_generic_plan", "force_custom_plan"] {
        let set = format!("SET LOCAL plan_cache_mode = {mode}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(set)).execute(&mut *transaction).await.unwrap();
        let query = sqlx::query_scalar::<_, Json<Value>>(sqlx::AssertSqlSafe(sql.clone()));
        let query =
            query.bind(world.agent.id).bind(world.release.id).bind(world.place.gateway).bind(&places).bind(false);
        let plan = query.persistent(false).fetch_one(&mut *transaction).await.unwrap().0;
        blocks = blocks.max(plan[0]["Plan"]["Shared Hit Blocks"].as_i64().unwrap());
    }
    transaction.rollback().await.unwrap();
    blocks
}

#[tokio::test]
async fn a_claim_reads_the_same_few_pages_however_long_the_queue_is() {
    for analyzed in [false, true] {
        for one_thread in [false, true] {
            let mut seen = Vec::new();
            for runs in [100, 20_000] {
                let world = World::new().await;
                fill(&world, runs, if one_thread { 1 } else { runs }).await;
                if analyzed {
                    sqlx::query("ANALYZE runs").execute(world.store.pool()).await.unwrap();
                }
                seen.push(blocks_of_a_claim(&world).await);
            }
            assert!(seen[1] <= 2 * seen[0], "analyzed {analyzed}, on one thread {one_thread}: {seen:?} blocks");
        }
    }
}

#[tokio::test]
async fn an_accept_reads_the_same_few_pages_however_long_its_thread_is() {
    let mut seen = Vec::new();
    for turns in [1, 10_000] {
        let world = World::new().await;
        let (first, _) = world.accept("t").await;
        world.end(first, 1, RunStatus::Success).await;
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
        // On a connection that has read what it needs of the catalogues.
        let mut connection = world.store.pool().acquire().await.unwrap();
        sqlx::query("SELECT place_run($1, $2, true, 1000)")
            .bind(world.agent.id)
            .bind(ids::thread_id("t"))
            .execute(&mut *connection)
            .await
            .unwrap();
        let request = Json(RunRequest::Chat { message: "hello".into(), full: false, more: None });
        let sql = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {ACCEPT}");
        let query = sqlx::query_scalar::<_, Json<Value>>(sqlx::AssertSqlSafe(sql))
            .bind(world.agent.id)
            .bind(ids::thread_id("t"))
            .bind("t")
            .bind(ids::new_id())
            .bind(world.release.id)
            .bind("agent")
            .bind(request)
            .bind(Json(json!({})))
            .bind(world.place.gateway)
            .bind(world.place.replica)
            .bind(None::<&str>)
            .bind(Some(1000));
        let plan = query.fetch_one(&mut *connection).await.unwrap().0;
        seen.push(plan[0]["Plan"]["Shared Hit Blocks"].as_i64().unwrap());
    }
    assert!(seen[1] <= 2 * seen[0], "{seen:?} blocks");
}
