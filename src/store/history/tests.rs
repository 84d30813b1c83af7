use super::*;
use crate::api::control::RolloutFailure;
use crate::api::problem::RunFault;
use crate::base::ids;
use crate::release::state::{Phase, RolloutState};
use crate::run::cost::Bill;
use crate::store::runs::{Ending, RunStatus};
use crate::store::test_database::TestDatabase;
use crate::store::testing::{agent, release, run, serving};

async fn store() -> (TestDatabase, Store) {
    let database = TestDatabase::new().await;
    let store = Store::open(database.options()).await.unwrap();
    (database, store)
}

fn ending(run: Uuid, status: RunStatus) -> Ending {
    let fault = (status == RunStatus::Error).then(|| RunFault {
        kind: "ValueError".into(),
        message: None,
        ..RunFault::default()
    });
    Ending {
        answer: (status == RunStatus::Success).then(|| r#"{"result":"hi\u0000"}"#.to_owned()),
        fault,
        used: Bill { input_tokens: 3, output_tokens: 4, cost: Some(0.5) },
        ..Ending::new(run, 1, status)
    }
}

#[tokio::test]
async fn releases_say_which_serves_which_is_next_for_a_rollback_and_how_they_were_rolled_out() {
    let (_database, store) = store().await;
    let agent = agent(&store, "a").await;
    for _ in 0..2 {
        release(&store, agent.id).await;
        serving(&store, agent.id).await;
    }
    release(&store, agent.id).await;
    let rollout = store.running_rollout(agent.id).await.unwrap().unwrap();
    let failure = RolloutFailure { code: "c".into(), message: "why".into(), log: Vec::new(), hints: Vec::new() };
    store.fail_rollout(rollout.id, &failure).await.unwrap();

    let all = store.list_releases(agent.id, 10).await.unwrap();
    let marks: Vec<_> = all.iter().map(|one| (one.version, one.serving, one.previous, one.rollout)).collect();
    let (failed, succeeded) = (Some(RolloutState::Failed), Some(RolloutState::Succeeded));
    assert_eq!(marks, [(3, false, false, failed), (2, true, false, succeeded), (1, false, true, succeeded)]);
    assert_eq!(all[0].failure.as_deref(), Some("why"));
    assert!(all[0].created_at.ends_with('Z'), "{}", all[0].created_at);
    assert_eq!(store.list_releases(agent.id, 1).await.unwrap().len(), 1);
    assert!(store.list_releases(Uuid::nil(), 1).await.unwrap().is_empty());
}

#[tokio::test]
async fn rollouts_are_listed_newest_first() {
    let (_database, store) = store().await;
    let agent = agent(&store, "a").await;
    release(&store, agent.id).await;
    serving(&store, agent.id).await;
    let second = release(&store, agent.id).await;
    let rollouts = store.list_rollouts(agent.id, 10).await.unwrap();
    assert_eq!((rollouts[0].state, rollouts[0].phase), (RolloutState::Running, Phase::Start));
    assert_eq!(
        (rollouts[0].version, rollouts[0].from_version, &rollouts[0].ended_at),
        (second.version, Some(1), &None)
    );
    assert_eq!((rollouts[1].state, rollouts[1].from_version), (RolloutState::Succeeded, None));
    assert_eq!(rollouts[1].phases.len(), 1);
    assert!(rollouts[1].ended_at.is_some());
}

#[tokio::test]
async fn runs_are_found_by_thread_and_state_newest_first() {
    let (_database, store) = store().await;
    let agent = agent(&store, "a").await;
    let release = release(&store, agent.id).await;
    let first = run(&store, agent.id, release.id, "one").await;
    let waits = run(&store, agent.id, release.id, "one").await;
    let failed = run(&store, agent.id, release.id, "two").await;
    store.end_runs(&[ending(first, RunStatus::Success), ending(failed, RunStatus::Error)]).await.unwrap();

    let found = async |filter| -> Vec<Uuid> {
        let runs = store.list_runs(agent.id, filter, 10).await.unwrap();
        runs.into_iter().map(|run| run.id).collect()
    };
    let thread = Some(ids::thread_id("one"));
    assert_eq!(found(RunFilter::default()).await, [failed, waits, first]);
    assert_eq!(found(RunFilter { thread, status: None }).await, [waits, first]);
    for (word, run) in [(RunWord::Pending, waits), (RunWord::Success, first), (RunWord::Error, failed)] {
        assert_eq!(found(RunFilter { thread: None, status: Some(word) }).await, [run]);
        assert_eq!(RunWord::parse(word.as_str()), Some(word));
    }
    assert!(found(RunFilter { thread, status: Some(RunWord::Error) }).await.is_empty());
    assert_eq!(store.list_runs(agent.id, RunFilter::default(), 1).await.unwrap().len(), 1);
    let view = &store.list_runs(agent.id, RunFilter { thread, status: Some(RunWord::Success) }, 1).await.unwrap()[0];
    assert_eq!((view.thread.as_deref(), view.version, view.attempt), (Some("one"), Some(1), 1));
    assert_eq!((view.input_tokens, view.output_tokens, view.cost), (3, 4, Some(0.5)));
    assert!(view.ended_at.is_some() && view.seconds >= 0.0);
}

#[tokio::test]
async fn a_run_comes_with_its_attempts_its_answer_and_its_fault() {
    let (_database, store) = store().await;
    let agent = agent(&store, "a").await;
    let release = release(&store, agent.id).await;
    let (good, bad) = (run(&store, agent.id, release.id, "one").await, run(&store, agent.id, release.id, "two").await);
    store.end_runs(&[ending(good, RunStatus::Success), ending(bad, RunStatus::Error)]).await.unwrap();

    let detail = store.run_detail(good).await.unwrap().unwrap();
    assert_eq!((detail.agent.as_str(), detail.run.id, detail.run.status.as_str()), ("a", good, "success"));
    assert_eq!(detail.answer.unwrap()["result"], "hi\u{0}");
    assert_eq!(detail.request["message"], "hello");
    assert_eq!(detail.metadata["user_id"], "u");
    let attempts: Vec<_> = detail.attempts.iter().map(|one| (one.number, one.replica, one.state.as_str())).collect();
    assert_eq!(attempts, [(1, Uuid::from_u128(7), "ended")]);

    let detail = store.run_detail(bad).await.unwrap().unwrap();
    assert_eq!(detail.fault.unwrap().kind, "ValueError");
    assert_eq!(detail.run.error.as_deref(), Some("ValueError"));
    assert!(detail.answer.is_none());
    let waits = run(&store, agent.id, release.id, "three").await;
    assert!(store.run_detail(waits).await.unwrap().unwrap().run.ended_at.is_none());
    assert!(store.run_detail(Uuid::nil()).await.unwrap().is_none());
}

#[tokio::test]
async fn threads_come_with_their_runs_those_that_ran_last_first() {
    let (_database, store) = store().await;
    let agent = agent(&store, "a").await;
    let release = release(&store, agent.id).await;
    let first = run(&store, agent.id, release.id, "one").await;
    run(&store, agent.id, release.id, "two").await;
    run(&store, agent.id, release.id, "two").await;

    let threads = store.list_threads(agent.id, 10).await.unwrap();
    let seen: Vec<_> = threads.iter().map(|one| (one.thread.as_str(), one.status.as_str(), one.runs)).collect();
    assert_eq!(seen, [("two", "busy", 2), ("one", "busy", 1)]);
    store.end_runs(&[ending(first, RunStatus::Error)]).await.unwrap();
    assert_eq!(store.list_threads(agent.id, 1).await.unwrap()[0].thread, "one");
    let one = store.find_thread(agent.id, ids::thread_id("one")).await.unwrap().unwrap();
    assert_eq!((one.status.as_str(), one.thread_id), ("error", ids::thread_id("one")));
    assert!(store.find_thread(agent.id, Uuid::nil()).await.unwrap().is_none());
}
