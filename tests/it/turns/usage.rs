//! What a run of several attempts has used: what each of them has, once.

use crate::support::until;
use crate::support::world::World;
use rapidclaw::gateway::route::RunLimits;

#[tokio::test]
async fn a_run_that_is_drained_or_lost_between_two_calls_of_a_model_costs_both() {
    let world = World::new().await;
    let pool = world.pool();
    let graphs = [("metered", "stories.py:metered")];
    for is_lost in [false, true] {
        // Given a run that has called its model once, in a step that is stored,
        let (mut first, second) = tokio::join!(world.start(&graphs, 4, &[]), world.start(&graphs, 4, &[]));
        world.serve(&[&first], RunLimits::default());
        let thread = format!("lost-{is_lost}");
        let moves = async {
            let run = world.running(&thread).await;
            let used = || async move {
                let sql = "SELECT input_tokens FROM attempts WHERE run_id = $1 AND number = 1";
                sqlx::query_scalar::<_, i64>(sql).bind(run).fetch_one(pool).await.unwrap()
            };
            until("what the first call has used", used, |used| *used == 1000).await;
            // when its replica drains, or is killed,
            world.serve(&[&second], RunLimits::default());
            if is_lost {
                first.process.kill().await;
            } else {
                first.replica.hand_over("the test moves it");
            }
            run
        };
        let (answer, run) = tokio::join!(world.answer("metered", &thread, "hello"), moves);

        // then the other's call comes to it.
        assert_eq!((answer.replica, answer.result.as_deref()), (Some(second.replica.id), Some("spent")));
        let attempts: Vec<(i64, f64)> =
            sqlx::query_as("SELECT input_tokens, cost FROM attempts WHERE run_id = $1 ORDER BY number")
                .bind(run)
                .fetch_all(pool)
                .await
                .unwrap();
        assert_eq!(attempts.len(), 2);
        assert_eq!(attempts[0].0, 1000);
        let row = world.run_row(run).await;
        assert_eq!((row.status.as_str(), row.input_tokens, row.output_tokens), ("success", 2000, 200));
        let one = (1000.0 * 0.15 + 100.0 * 0.6) / 1e6;
        assert!((attempts[0].1 - one).abs() < 1e-12 && (row.cost.unwrap() - 2.0 * one).abs() < 1e-12, "{row:?}");
    }
}
