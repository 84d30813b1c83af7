//! One run at a time: begin, wait, end, lose, go on.

use super::*;
use crate::api::problem::RunFault;
use crate::run::cost::Bill;
use crate::run::loss::{Death, Loss};
use crate::store::runs::{Requeued, live_attempts};

#[tokio::test]
async fn a_run_begins_at_once_where_there_is_a_place_and_its_thread_is_free() {
    let world = World::new().await;

    let (first, accepted) = world.accept("t").await;
    assert_eq!(accepted, Accepted { created: true, thread_status: "idle".into(), running: true });
    let (_, behind) = world.accept("t").await;
    assert_eq!(behind, Accepted { created: false, thread_status: "idle".into(), running: false });
    assert!(world.accept("other").await.1.running);

    // A thread that waits for a human says so to the next.
    world.end(first, 1, RunStatus::Interrupted).await;
    let second = world.claim().await.unwrap().0;
    world.end(second, 1, RunStatus::Interrupted).await;
    assert_eq!(world.accept("t").await.1.thread_status, "interrupted");
}

#[tokio::test]
async fn the_oldest_run_whose_thread_is_free_is_claimed_first() {
    let world = World::new().await;
    let busy = world.accept("busy").await.0;
    let behind = world.queue("busy").await;
    let two = world.queue("a").await;
    let three = world.queue("b").await;
    let four = world.queue("a").await;

    assert_eq!(world.claim().await, Some((two, 1)), "the thread of the oldest is busy");
    assert_eq!(world.claim().await, Some((three, 1)));
    assert_eq!(world.claim().await, None);
    world.end(busy, 1, RunStatus::Success).await;
    world.end(two, 1, RunStatus::Success).await;
    assert_eq!(world.claim().await, Some((behind, 1)), "older than what waits on the other thread");
    assert_eq!(world.claim().await, Some((four, 1)));
    assert!(world.store.agents_with_waiting_runs().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_claim_tells_all_that_its_execution_needs() {
    let world = World::new().await;
    let run = world.queue("t").await;
    let places = [world.place.replica];
    let claimed =
        world.store.claim_runs(world.agent.id, world.release.id, world.place.gateway, &places, false).await.unwrap();
    let [claimed] = <[_; 1]>::try_from(claimed).unwrap();
    assert_eq!((claimed.id, claimed.thread_id, claimed.attempt), (run, Some(ids::thread_id("t")), 1));
    assert_eq!((claimed.graph.as_str(), claimed.thread_status.as_deref()), ("agent", Some("idle")));
    assert_eq!(claimed.request.0, RunRequest::Chat { message: "hello".into(), full: false, more: None });
    assert_eq!(claimed.metadata.0, json!({ "user_id": "ann" }));
    assert!(claimed.elapsed >= 0.0 && claimed.elapsed < 5.0);
}

#[tokio::test]
async fn a_run_ends_once_with_what_is_known_of_it() {
    let world = World::new().await;
    let cases = [
        (RunStatus::Success, "success", "idle"),
        (RunStatus::Interrupted, "success", "interrupted"),
        (RunStatus::Error, "error", "error"),
        (RunStatus::Timeout, "timeout", "error"),
    ];
    for (status, run_status, thread_status) in cases {
        let (run, _) = world.accept("t").await;
        assert!(!world.end(run, 2, status).await, "there is no attempt 2");
        let fault = RunFault { kind: "X".into(), message: None, ..RunFault::default() };
        let whole = Ending {
            answer: Some(r#"{"result":"hi"}"#.into()),
            fault: Some(fault),
            used: Bill { input_tokens: 7, output_tokens: 3, cost: Some(0.5) },
            ..Ending::new(run, 1, status)
        };
        assert_eq!(world.store.end_runs(&[whole]).await.unwrap(), [run]);
        assert!(!world.end(run, 1, RunStatus::Error).await, "it has ended");

        let row = world.store.find_run(run).await.unwrap().unwrap();
        assert_eq!((row.status.as_str(), row.given.as_deref()), (run_status, Some("t")));
        assert_eq!((row.answer.unwrap().0.get(), row.fault.unwrap().0.kind.as_str()), (r#"{"result":"hi"}"#, "X"));
        assert_eq!(world.of_run::<i64>(run, "input_tokens * 10 + output_tokens").await, 73);
        assert_eq!(world.of_run::<Option<f64>>(run, "cost").await, Some(0.5));
        let thread: String =
            sqlx::query_scalar("SELECT status FROM threads").fetch_one(world.store.pool()).await.unwrap();
        assert_eq!(thread, thread_status);
    }
    assert!(world.store.find_run(ids::new_id()).await.unwrap().is_none());
}

#[tokio::test]
async fn only_live_attempts_may_write() {
    let world = World::new().await;
    let (one, _) = world.accept("a").await;
    let (two, _) = world.accept("b").await;
    world.end(two, 1, RunStatus::Success).await;
    let asked = [(one, 1), (one, 2), (two, 1), (ids::new_id(), 1)];
    let mut connection = world.store.pool().acquire().await.unwrap();
    assert_eq!(live_attempts(&mut connection, &asked).await.unwrap(), [(one, 1)]);
}

#[tokio::test]
async fn a_run_that_lost_its_attempt_goes_on_before_those_behind_it() {
    let world = World::new().await;
    let (run, _) = world.accept("t").await;
    let behind = world.queue("t").await;

    let lost = Loss { died: true, counts: true, ..Loss::NONE };
    assert_eq!(world.store.requeue_run(run, 1, lost, None).await.unwrap(), Requeued::Waiting);
    assert_eq!(world.store.requeue_run(run, 1, lost, None).await.unwrap(), Requeued::Fenced, "only once");
    assert!(!world.end(run, 1, RunStatus::Success).await, "the attempt is over");
    assert_eq!(world.claim().await, Some((run, 2)));
    assert_eq!(world.claim().await, None);
    // Handed over is not lost: it does not count.
    assert_eq!(world.store.requeue_run(run, 2, Loss::NONE, None).await.unwrap(), Requeued::Waiting);
    assert_eq!(world.claim().await, Some((run, 3)));
    // After the second it is to have a replica for itself. The third is one too many: the attempt ends the run.
    assert_eq!(world.store.requeue_run(run, 3, lost, None).await.unwrap(), Requeued::Waiting);
    assert_eq!((world.claim().await, world.claim_alone().await), (None, Some((run, 4))));
    assert_eq!(world.store.requeue_run(run, 4, lost, None).await.unwrap(), Requeued::GivenUp);
    assert!(world.end(run, 4, RunStatus::Error).await);
    assert_eq!(world.claim().await, Some((behind, 1)));
}

#[tokio::test]
async fn a_run_that_is_suspected_waits_for_a_replica_of_its_own_and_is_given_up_when_it_ends_that() {
    let world = World::new().await;
    let (run, _) = world.accept("t").await;
    let (neighbour, _) = world.accept("other").await;
    let behind = world.queue("t").await;
    assert!(!world.has_suspect().await);

    let crash = Death { runs: 2, apart: false, by_itself: true };
    assert_eq!(world.store.requeue_run(neighbour, 1, crash.against(0), None).await.unwrap(), Requeued::Waiting);
    assert_eq!(world.store.requeue_run(run, 1, crash.against(1), None).await.unwrap(), Requeued::Waiting);
    assert!(world.has_suspect().await);
    // Its neighbour goes on like any other; who waits behind it on its thread does not overtake it.
    assert_eq!([world.claim().await, world.claim().await], [Some((neighbour, 2)), None]);
    assert_eq!(world.claim_alone().await, Some((run, 2)));
    assert!(!world.has_suspect().await);
    let proof = Death { runs: 1, apart: true, by_itself: true };
    assert_eq!(world.store.requeue_run(run, 2, proof.against(0), None).await.unwrap(), Requeued::GivenUp);
    assert!(world.end(run, 2, RunStatus::Error).await);
    assert_eq!(world.claim().await, Some((behind, 1)));
    assert_eq!(world.of_run::<i32>(neighbour, "losses").await, 0);
}

#[tokio::test]
async fn leases_of_other_gateways_tell_what_changes_and_what_has_ended() {
    let world = World::new().await;
    let (run, _) = world.accept("t").await;
    let (store, gateway, own) = (&world.store, world.place.gateway, crate::base::ids::new_id());
    let look = async |silence| store.foreign_leases(own, silence).await.unwrap();

    let none = look(0.0).await;
    assert_eq!((none[0].gateway, none[0].lease.as_deref(), none[0].expired), (gateway, None, true));
    store.renew_lease(gateway, 60.0).await.unwrap();
    let first = look(0.0).await;
    assert!(first.len() == 1 && first[0].lease.is_some() && !first[0].expired);
    assert_eq!(look(0.0).await, first, "nobody renewed it");
    store.renew_lease(gateway, 60.0).await.unwrap();
    assert_ne!(look(0.0).await, first);
    store.renew_lease(gateway, -5.0).await.unwrap();
    assert!(!look(60.0).await[0].expired && look(1.0).await[0].expired);
    assert_eq!(store.foreign_leases(gateway, 0.0).await.unwrap(), [], "one's own is no foreign one");
    assert_eq!(store.live_attempts_of(&[gateway]).await.unwrap(), [(run, 1)]);
    assert_eq!(store.live_attempts_of(&[own]).await.unwrap(), []);
    world.end(run, 1, RunStatus::Success).await;
    assert_eq!(look(0.0).await, [], "nothing depends on it");
    assert_eq!(store.live_attempts_of(&[gateway]).await.unwrap(), []);
}

#[tokio::test]
async fn a_key_finds_its_run_and_belongs_to_one_agent() {
    let world = World::new().await;
    let (run, first) = world.offer("t", None, Some("key")).await;
    assert!(matches!(first, Acceptance::Accepted(_)));
    assert_eq!(world.offer("t", None, Some("key")).await.1, Acceptance::Repeated(run));
    let other = World { agent: world.store.ensure_agent("other").await.unwrap(), ..world };
    assert!(matches!(other.offer("t", None, Some("key")).await.1, Acceptance::Accepted(_)));
}

#[tokio::test]
async fn a_run_that_is_offered_again_after_it_was_taken_is_there_once() {
    let world = World::new().await;
    let request = RunRequest::Chat { message: "hello".into(), full: false, more: None };
    let new = NewRun {
        id: ids::new_id(),
        agent: world.agent.id,
        release: world.release.id,
        thread: ids::thread_id("t"),
        given: "t",
        graph: "agent",
        request: &request,
        metadata: &json!({ "user_id": "ann" }),
        idempotency_key: None,
        queue_limit: None,
    };
    let taken = world.store.accept_run(&new, Some(world.place)).await.unwrap();
    assert!(matches!(taken, Acceptance::Accepted(Accepted { running: true, .. })), "{taken:?}");
    // The answer was lost with the connection: with and without a key it is found to be there.
    assert_eq!(world.store.accept_run(&new, Some(world.place)).await.unwrap(), Acceptance::Repeated(new.id));
    assert_eq!(world.store.accept_run(&new, None).await.unwrap(), Acceptance::Repeated(new.id));
    let keyed = NewRun { id: ids::new_id(), idempotency_key: Some("k"), thread: ids::thread_id("u"), ..new };
    world.store.accept_run(&keyed, Some(world.place)).await.unwrap();
    assert_eq!(world.store.accept_run(&keyed, Some(world.place)).await.unwrap(), Acceptance::Repeated(keyed.id));
    let runs: i64 = sqlx::query_scalar("SELECT count(*) FROM runs").fetch_one(world.store.pool()).await.unwrap();
    assert_eq!(runs, 2);
}
