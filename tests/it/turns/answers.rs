//! Interrupts and their answers.

use super::questions;
use crate::support::until;
use crate::support::world::World;
use rapidclaw::base::ids;
use rapidclaw::gateway::outcome::{Answer, Outcome};
use rapidclaw::gateway::route::RunLimits;
use rapidclaw::gateway::turn::TurnError;
use serde_json::{Value, json};

/// What the graph asks, with the ids.
fn asked(answer: &Answer) -> Vec<(String, Value)> {
    let interrupts: Vec<Value> = serde_json::from_str(answer.interrupts.as_ref().unwrap().get()).unwrap();
    interrupts.iter().map(|one| (one["id"].as_str().unwrap().to_owned(), one["value"].clone())).collect()
}

#[tokio::test]
async fn an_answer_given_before_its_replica_was_lost_is_for_no_other_question() {
    // Given a sub-graph that asks twice, and a run that has answered the first question,
    let world = World::new().await;
    let gate = tempfile::tempdir().unwrap();
    let open = gate.path().join("open");
    let env = [("QUESTIONS_GATE", open.to_str().unwrap())];
    let (mut one, two) = tokio::join!(questions(&world, &env), questions(&world, &env));
    world.serve(&[&one], RunLimits::default());
    assert_eq!(asked(&world.answer("below_together", "t", "go").await)[0].1, json!("one?"));
    let thread = ids::thread_id("t").to_string();
    let noted = || async {
        let sql = format!(
            "SELECT count(*) FROM \"{}\".checkpoint_writes WHERE thread_id = $1 AND channel = '__rapidclaw_answers__'",
            world.schema.name()
        );
        let query = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(sql)).bind(&thread);
        query.fetch_one(world.pool()).await.unwrap()
    };
    let lose = async {
        until("the note of what is answered", noted, |count| *count == 1).await;
        world.serve(&[&two], RunLimits::default());
        one.process.kill().await;
        std::fs::write(&open, "").unwrap();
    };

    // when its replica is lost before the second,
    let (answer, ()) = tokio::join!(world.answer("below_together", "t", "yes"), lose);

    // then the next attempt asks the second question,
    assert_eq!(answer.replica, Some(two.replica.id));
    assert_eq!(asked(&answer)[0].1, json!("two?"));
    // which has an answer of its own.
    let last = world.answer("below_together", "t", "no").await;
    assert_eq!(last.result.as_deref(), Some("one=yes two=no"));
}

#[tokio::test]
async fn a_failed_answer_leaves_the_question_open_and_several_want_their_ids() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let flaw = folder.path().join("flaw");
    let runner = questions(&world, &[("QUESTIONS_FLAW", flaw.to_str().unwrap())]).await;
    world.serve(&[&runner], RunLimits::default());

    // A failure with the answer leaves the question open.
    world.answer("approval", "a", "delete").await;
    std::fs::write(&flaw, "").unwrap();
    let (run, _) = world.failure("approval", "a", "yes").await;
    assert_eq!(world.run_row(run).await.thread_status, "error");
    std::fs::remove_file(&flaw).unwrap();
    let decisions = json!({ "decisions": [{ "type": "approve" }] });
    let body = json!({ "user_id": "ann", "thread_id": "a", "graph": "approval", "resume": decisions });
    let answered = world.chat(body.clone(), None).await.unwrap();
    assert_eq!(answered.answer.result.as_deref(), Some("deleted={'decisions': [{'type': 'approve'}]}"));
    let refused = world.chat(body, None).await.unwrap_err();
    assert_eq!(code(&refused), Some("nothing-to-resume"), "{refused:?}");

    // Of several questions a message answers none.
    let two = asked(&world.answer("side_by_side", "b", "go").await);
    assert_eq!(two.len(), 2);
    let refused = world.turn("side_by_side", "b", "yes").await.unwrap_err();
    assert_eq!(code(&refused), Some("several-interrupts"), "{refused:?}");
    let status: String =
        sqlx::query_scalar("SELECT status FROM threads WHERE given = 'b'").fetch_one(world.pool()).await.unwrap();
    assert_eq!(status, "interrupted");
    let by_id = json!({ &two[0].0: "yes", &two[1].0: null });
    let body = json!({ "user_id": "ann", "thread_id": "b", "graph": "side_by_side", "resume": by_id });
    assert!(world.chat(body, None).await.unwrap().answer.interrupts.is_none());
}

#[tokio::test]
async fn an_answer_of_any_depth_is_given_kept_and_given_again() {
    let world = World::new().await;
    let runner = questions(&world, &[]).await;
    world.serve(&[&runner], RunLimits::default());

    for depth in ["100", "126", "200", "250"] {
        let body = json!({ "user_id": "ann", "thread_id": depth, "graph": "nested", "message": depth, "full": true });
        let first = world.chat(body.clone(), Some(depth)).await.unwrap();
        let text = first.answer.interrupts.unwrap();
        assert!(text.get().contains(&"[".repeat(depth.parse().unwrap())), "{text}");
        // From the row, as it was.
        let again = world.chat(body, Some(depth)).await.unwrap();
        assert_eq!((again.run_id, again.answer.interrupts.unwrap().get()), (first.run_id, text.get()));
        assert!(world.store().run_detail(first.run_id).await.unwrap().unwrap().answer.is_some());
    }

    assert!(world.answer("memory", "other", "hello").await.result.is_some());
}

#[tokio::test]
async fn no_message_of_a_failure_holds_a_secret_and_the_operator_reads_the_private_ones() {
    let world = World::new().await;
    let runner = questions(&world, &[]).await;
    world.serve(&[&runner], RunLimits::default());

    let (run, outcome) = world.failure("leaky", "a", "publicly").await;
    let Outcome::Fault(fault) = outcome else { panic!("{outcome:?}") };
    assert_eq!((fault.kind.as_str(), fault.message.as_deref()), ("ValueError", Some("no access with ***")));
    assert_eq!(world.run_row(run).await.fault.unwrap()["message"], "no access with ***");

    let (run, outcome) = world.failure("leaky", "b", "privately").await;
    let Outcome::Fault(fault) = outcome else { panic!("{outcome:?}") };
    assert_eq!((fault.kind.as_str(), fault.message, fault.reason), ("PrivateError", None, None));
    let detail = world.store().run_detail(run).await.unwrap().unwrap();
    assert_eq!(detail.fault.unwrap().reason.as_deref(), Some("no access with ***"));
}

fn code(error: &TurnError) -> Option<&str> {
    let TurnError::Failed { outcome, .. } = error else { return None };
    let Outcome::Fault(fault) = outcome.as_ref() else { return None };
    fault.code.as_deref()
}
