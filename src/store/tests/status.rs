//! The figures of `status`.

use super::*;
use crate::store::rollouts::NewRollout;

/// A run that took so long, ended so many minutes ago, and cost so much.
async fn ended(world: &World, seconds: f64, minutes_ago: f64, cost: Option<f64>, turn: bool) {
    let (run, _) = world.accept(&ids::new_id().to_string()).await;
    world.end(run, 1, RunStatus::Success).await;
    sqlx::query(
        "UPDATE runs SET ended_at = now() - make_interval(secs => $2 * 60),
           accepted_at = now() - make_interval(secs => $2 * 60 + $3), cost = $4, turn = $5 WHERE id = $1",
    )
    .bind(run)
    .bind(minutes_ago)
    .bind(seconds)
    .bind(cost)
    .bind(turn)
    .execute(world.store.pool())
    .await
    .unwrap();
}

async fn figures(world: &World) -> (Option<f64>, Option<f64>, i64) {
    let row = world.store.agent_rows(Some("agent")).await.unwrap().remove(0);
    (row.p95_ms, row.cost_per_turn, row.runs)
}

fn close(found: Option<f64>, wanted: f64) {
    assert!(found.is_some_and(|found| (found - wanted).abs() < 1e-6), "{found:?}, not {wanted}");
}

#[tokio::test]
async fn p95_and_cost_per_turn_are_those_of_the_last_hour() {
    let world = World::new().await;
    assert_eq!(figures(&world).await, (None, None, 0));

    // Given twenty turns of 1 to 20 s at 1 to 20 cents, and what is not to be counted: an older one, one under way.
    for n in 1..=20_u32 {
        ended(&world, f64::from(n), 30.0, Some(f64::from(n) / 100.0), true).await;
    }
    ended(&world, 900.0, 61.0, Some(99.0), true).await;
    world.accept("under way").await;

    let (p95, cost, runs) = figures(&world).await;
    // 19 of 20 took no longer than the p95.
    close(p95, 19_000.0);
    close(cost, 0.105);
    assert_eq!(runs, 20);
}

#[tokio::test]
async fn one_turn_without_a_price_makes_the_cost_unknown_and_a_run_that_is_no_turn_does_not() {
    let world = World::new().await;
    ended(&world, 1.0, 1.0, Some(0.5), true).await;
    ended(&world, 1.0, 1.0, None, false).await;
    close(figures(&world).await.1, 0.5);

    ended(&world, 1.0, 1.0, None, true).await;
    let (p95, cost, runs) = figures(&world).await;
    close(p95, 1000.0);
    assert_eq!((cost, runs), (None, 3));
}

#[tokio::test]
async fn each_agent_has_a_row_with_its_release_and_its_last_rollout() {
    use crate::api::control::{PhaseTime, RolloutFailure};
    use crate::release::state::Phase;
    let world = World::new().await;
    let store = &world.store;
    store.ensure_agent("an-other").await.unwrap();
    let rows = store.agent_rows(None).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["agent", "an-other"]);
    assert_eq!((rows[0].version, rows[0].serving_release, rows[0].rolling), (Some(1), None, true));
    assert_eq!((rows[1].version, rows[1].rolling), (None, false));

    // The first rollout succeeds, the second fails.
    let rollout = store.running_rollout(world.agent.id).await.unwrap().unwrap();
    store.finish_rollout(&rollout, &PhaseTime { phase: Phase::Switch, seconds: 0.1 }, 60.0).await.unwrap();
    let (_, second) = store.begin_rollout(world.agent.id, &new_release("two"), NewRollout::default()).await.unwrap();
    let failure =
        RolloutFailure { code: "not-ready".into(), message: "it did not start".into(), log: vec![], hints: vec![] };
    store.fail_rollout(second.id, &failure).await.unwrap();

    let row = store.agent_rows(Some("agent")).await.unwrap().remove(0);
    assert_eq!((row.serving_release, row.version), (Some(world.release.id), Some(1)));
    assert_eq!(row.draining.0, []);
    assert_eq!((row.image.as_deref(), row.inputs_digest.as_deref()), (Some("one"), Some("inputs of one")));
    assert_eq!((row.rolling, row.last_failure.as_deref()), (false, Some("it did not start")));
    store.destroy_agent(world.agent.id).await.unwrap();
    assert!(store.agent_rows(Some("agent")).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_release_that_no_longer_serves_shows_its_runs_until_they_end() {
    use crate::api::control::PhaseTime;
    use crate::release::state::Phase;
    let world = World::new().await;
    let store = &world.store;
    // Given a run on the release that serves, begun a minute ago,
    let rollout = store.running_rollout(world.agent.id).await.unwrap().unwrap();
    let switch = PhaseTime { phase: Phase::Switch, seconds: 0.1 };
    store.finish_rollout(&rollout, &switch, 60.0).await.unwrap();
    let (run, _) = world.accept("old").await;
    let earlier = "UPDATE runs SET started_at = started_at - interval '1 minute' WHERE id = $1";
    sqlx::query(earlier).bind(run).execute(store.pool()).await.unwrap();
    let draining = async || store.agent_rows(None).await.unwrap().remove(0).draining.0;
    assert_eq!(draining().await, []);

    // when the next one takes the traffic, then it drains until the run has ended.
    let (_, second) = store.begin_rollout(world.agent.id, &new_release("two"), NewRollout::default()).await.unwrap();
    store.finish_rollout(&second, &switch, 60.0).await.unwrap();
    let old = draining().await.remove(0);
    assert_eq!((old.version, old.runs), (1, 1));
    assert!((60.0..90.0).contains(&old.oldest_seconds), "{old:?}");
    world.end(run, 1, RunStatus::Success).await;
    assert_eq!(draining().await, []);
}
