//! Many at once on one thread, and many gateways on one queue.

use super::*;
use futures_util::future::join_all;
use std::collections::HashSet;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_runs_accepted_at_once_on_one_thread_one_begins_and_the_others_follow_in_order() {
    // Given thirty clients that speak on one thread in the same moment,
    let world = World::new().await;
    let accepted = join_all((0..30).map(|_| world.accept("t"))).await;

    // then exactly one run has begun, and the thread was made once.
    let running: Vec<Uuid> = accepted.iter().filter(|(_, run)| run.running).map(|(id, _)| *id).collect();
    assert_eq!(running.len(), 1);
    assert_eq!(accepted.iter().filter(|(_, run)| run.created).count(), 1);

    // The others begin in the order in which they were accepted, each when the one before has ended.
    let order: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM runs ORDER BY status <> 'running', accepted_at, id")
        .fetch_all(world.store.pool())
        .await
        .unwrap();
    assert_eq!(order[0], running[0]);
    for pair in order.windows(2) {
        assert_eq!(world.claim().await, None, "the thread is not free");
        assert!(world.end(pair[0], 1, RunStatus::Success).await);
        assert_eq!(world.claim().await, Some((pair[1], 1)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn accepting_claiming_and_ending_at_once_on_one_thread_never_fails_and_never_runs_two() {
    const CLIENTS: usize = 12;
    const TURNS: usize = 8;
    let world = World::new().await;
    let clients = join_all((0..CLIENTS).map(|_| async {
        for _ in 0..TURNS {
            // `accept` panics when the index's refusal reaches the caller.
            let (run, accepted) = world.accept("t").await;
            if accepted.running {
                assert!(world.end(run, 1, RunStatus::Success).await);
            }
        }
    }));
    let ended = || async {
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM runs WHERE status = 'success'")
            .fetch_one(world.store.pool())
            .await
            .unwrap()
    };
    let dispatchers = join_all((0..2).map(|_| async {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            while let Some((run, attempt)) = world.claim().await {
                assert!(world.end(run, attempt, RunStatus::Success).await);
            }
            let ended = ended().await;
            if usize::try_from(ended) == Ok(CLIENTS * TURNS) {
                return;
            }
            assert!(Instant::now() < deadline, "{ended} of {} runs have ended", CLIENTS * TURNS);
        }
    }));
    tokio::join!(clients, dispatchers);

    let overlaps: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM runs a JOIN runs b ON a.id < b.id WHERE a.started_at < b.ended_at AND b.started_at < a.ended_at",
    )
    .fetch_one(world.store.pool())
    .await
    .unwrap();
    assert_eq!(overlaps, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_gateways_claim_each_run_once() {
    let world = World::new().await;
    let mut waiting = HashSet::new();
    for n in 0..24 {
        waiting.insert(world.queue(&format!("t{n}")).await);
    }

    let claimed = join_all((0..6).map(|_| async {
        let mut mine = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(30);
        // Nothing claimed may mean that the others hold what is left for a moment.
        while !world.store.agents_with_waiting_runs().await.unwrap().is_empty() {
            mine.extend(world.claim().await);
            assert!(Instant::now() < deadline);
        }
        mine
    }))
    .await
    .concat();

    assert_eq!(claimed.len(), 24, "{claimed:?}");
    assert_eq!(claimed.into_iter().map(|(run, _)| run).collect::<HashSet<_>>(), waiting);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_key_used_many_times_at_once_makes_one_run() {
    let world = World::new().await;
    let offers = join_all((0..10).map(|_| world.offer("t", Some(world.place), Some("key")))).await;

    let made: Vec<Uuid> =
        offers.iter().filter(|(_, one)| matches!(one, Acceptance::Accepted(_))).map(|(id, _)| *id).collect();
    assert_eq!(made.len(), 1, "{offers:?}");
    assert!(
        offers.iter().all(|(_, one)| matches!(one, Acceptance::Accepted(_)) || *one == Acceptance::Repeated(made[0]))
    );
}
