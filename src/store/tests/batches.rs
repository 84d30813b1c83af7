//! Batches: what live attempts sent is stored, what others sent is not, and ends end what they should.

use super::*;
use crate::run::cost::Bill;
use crate::run::loss::Loss;
use crate::runner::protocol::Checkpoint;
use crate::store::batches::Batch;
use crate::store::checkpoints::{Op, Schema, ensure_schema};
use std::collections::HashSet;

async fn schema(world: &World, name: &str) -> Schema {
    let schema = Schema::new(name).unwrap();
    ensure_schema(world.store.pool(), &schema).await.unwrap();
    schema
}

fn op(thread: &str, id: &str, value: &[u8]) -> Op {
    Op::from(Checkpoint {
        run: String::new(),
        attempt: 1,
        id: 0,
        thread_id: thread.into(),
        ns: String::new(),
        checkpoint_id: id.into(),
        parent_id: None,
        checkpoint: br#"{"v": 4}"#.to_vec().into(),
        metadata: b"{}".to_vec().into(),
        blobs: vec![("a".into(), id.into(), "msgpack".into(), Some(value.to_vec().into()))],
        usage: vec![],
    })
}

async fn stored(world: &World, schema: &str) -> Vec<(String, String)> {
    let sql = format!("SELECT thread_id, checkpoint_id FROM \"{schema}\".checkpoints ORDER BY 1, 2");
    sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(world.store.pool()).await.unwrap()
}

#[tokio::test]
async fn one_statement_stores_what_live_attempts_sent_and_ends_what_they_end() {
    // Given a run that goes on, one that ends, one that another attempt has, and one that is unknown,
    let world = World::new().await;
    let schema = schema(&world, "one").await;
    let (goes_on, _) = world.accept("a").await;
    let (ends, _) = world.accept("b").await;
    let (moved, _) = world.accept("c").await;
    let behind = world.queue("b").await;
    world.store.requeue_run(moved, 1, Loss::NONE, None).await.unwrap();
    assert_eq!(world.claim().await, Some((moved, 2)));
    let unknown = ids::new_id();

    // when one batch holds something of each, of one run of two attempts,
    let ops = [op("a", "1", b"x"), op("b", "1", b"x"), op("c", "1", b"old"), op("c", "1", b"new"), op("d", "1", b"x")];
    let endings = [
        Ending::new(ends, 1, RunStatus::Success),
        Ending::new(moved, 1, RunStatus::Error),
        Ending::new(unknown, 1, RunStatus::Error),
    ];
    let mut batch = Batch::new(&schema);
    let keys = [(goes_on, 1), (ends, 1), (moved, 1), (moved, 2), (unknown, 1)];
    for (key, op) in keys.into_iter().zip(&ops) {
        batch.save(key, op, None);
    }
    for ending in &endings {
        batch.end(ending);
    }
    let committed = world.store.commit(&[batch]).await.unwrap();

    // then that of live attempts is there,
    assert_eq!(committed.live, HashSet::from([(goes_on, 1), (ends, 1), (moved, 2)]));
    assert_eq!(committed.ended, HashSet::from([ends]));
    let there: Vec<String> = stored(&world, "one").await.into_iter().map(|(thread, _)| thread).collect();
    assert_eq!(there, ["a", "b", "c"]);
    let blob: Vec<u8> = sqlx::query_scalar("SELECT blob FROM one.checkpoint_blobs WHERE thread_id = 'c'")
        .fetch_one(world.store.pool())
        .await
        .unwrap();
    assert_eq!(blob, b"new");
    // and the thread of the run that ended is the next one's.
    assert_eq!(world.of_run::<String>(ends, "status").await, "success");
    assert_eq!(world.of_run::<String>(moved, "status").await, "running");
    assert_eq!(world.claim().await, Some((behind, 1)));
}

#[tokio::test]
async fn batches_of_several_agents_are_committed_together_or_not_at_all() {
    let world = World::new().await;
    let (one, two) = (schema(&world, "one").await, schema(&world, "two").await);
    let (first, _) = world.accept("a").await;
    let (second, _) = world.accept("b").await;
    let (good, bad) = (op("a", "1", b"x"), op("b", "1\0", b"x"));
    let batches = |second_op| {
        let (mut in_one, mut in_two) = (Batch::new(&one), Batch::new(&two));
        in_one.save((first, 1), &good, None);
        in_two.save((second, 1), second_op, None);
        [in_one, in_two]
    };

    let error = world.store.commit(&batches(&bad)).await.unwrap_err();
    assert!(!error.is_passing(), "{error:?}");
    assert_eq!(stored(&world, "one").await, []);
    world.store.commit(&batches(&good)).await.unwrap();
    assert_eq!((stored(&world, "one").await.len(), stored(&world, "two").await.len()), (1, 1));
    assert!(world.store.commit(&[]).await.unwrap().live.is_empty());
}

#[tokio::test]
async fn a_run_has_used_what_all_its_attempts_have_each_once() {
    let world = World::new().await;
    let schema = schema(&world, "one").await;
    let bill = |input_tokens, cost| Bill { input_tokens, output_tokens: 1, cost };
    let ops = [op("a", "1", b"x"), op("a", "2", b"x")];
    let run = world.accept("a").await.0;
    let save = async |attempt, used| {
        let mut batch = Batch::new(&schema);
        batch.save((run, attempt), &ops[0], None);
        batch.save((run, attempt), &ops[1], Some(used));
        world.store.commit(&[batch]).await.unwrap()
    };

    // Given an attempt that is lost after it has told what it has used, twice,
    save(1, bill(1, Some(0.25))).await;
    save(1, bill(10, Some(0.5))).await;
    world.store.requeue_run(run, 1, Loss::NONE, None).await.unwrap();
    assert_eq!(world.claim().await, Some((run, 2)));
    // (what it still sends does not count,)
    save(1, bill(1_000_000, None)).await;
    // and one that drains, and tells more with its end,
    save(2, bill(100, Some(1.0))).await;
    world.store.requeue_run(run, 2, Loss::NONE, Some(bill(200, Some(2.0)))).await.unwrap();
    assert_eq!(world.claim().await, Some((run, 3)));

    // when the third ends in one batch with what it tells before,
    let mut batch = Batch::new(&schema);
    batch.save((run, 3), &ops[0], Some(bill(1000, Some(4.0))));
    let end = Ending {
        used: Bill { input_tokens: 3000, output_tokens: 1, cost: Some(8.0) },
        ..Ending::new(run, 3, RunStatus::Success)
    };
    batch.end(&end);
    world.store.commit(&[batch]).await.unwrap();

    // then all three are in it.
    assert_eq!(world.of_run::<i64>(run, "input_tokens").await, 3210);
    assert_eq!(world.of_run::<i64>(run, "output_tokens").await, 3);
    assert_eq!(world.of_run::<Option<f64>>(run, "cost").await, Some(10.5));

    // A run that is ended without its replica's word has used what its attempts told; what it cost is not known.
    let other = world.accept("b").await.0;
    let mut batch = Batch::new(&schema);
    batch.save((other, 1), &ops[0], Some(bill(7, Some(1.0))));
    world.store.commit(&[batch]).await.unwrap();
    world.store.end_runs(&[Ending { whole: false, ..Ending::new(other, 1, RunStatus::Error) }]).await.unwrap();
    assert_eq!(world.of_run::<i64>(other, "input_tokens").await, 7);
    assert_eq!(world.of_run::<Option<f64>>(other, "cost").await, None);
}

#[tokio::test]
async fn a_document_is_committed_with_its_runs_end_or_not_at_all_and_goes_with_its_thread() {
    use crate::store::checkpoints::{self, Change, Document, change};
    // Given a run that ends, and one that another attempt has taken over, each with a document,
    let world = World::new().await;
    let schema = schema(&world, "one").await;
    let (ends, _) = world.accept("a").await;
    let (moved, _) = world.accept("b").await;
    world.store.requeue_run(moved, 1, Loss::NONE, None).await.unwrap();
    assert_eq!(world.claim().await, Some((moved, 2)));
    let ending = |run, attempt, thread: &str, text: &str| {
        let (thread_id, target, text) = (thread.to_owned(), "echo".to_owned(), text.to_owned());
        let document = Some(Box::new(Op::from(Document { thread_id, target, run, text })));
        Ending { document, ..Ending::new(run, attempt, RunStatus::Success) }
    };

    // when both end in one batch,
    let text = r#"{"b": 1e400, "a": ["\u0000", "ü"], "b": -0.0}"#;
    let endings = [ending(ends, 1, "a", text), ending(moved, 1, "b", "{}")];
    let mut batch = Batch::new(&schema);
    for ending in &endings {
        batch.end(ending);
    }
    let committed = world.store.commit(&[batch]).await.unwrap();

    // then the first one's is there, as it was written, and the other's is not,
    assert_eq!(committed.ended, HashSet::from([ends]));
    let document = async |thread, target| world.store.document(&schema, thread, target).await.unwrap();
    assert_eq!(document("a", "echo").await.as_deref(), Some(text));
    assert_eq!(document("b", "echo").await, None);
    let newest = checkpoints::head(world.store.pool(), &schema, "a").await.unwrap().unwrap();
    assert_eq!((newest.checkpoint_id.as_str(), newest.checkpoints), ("document", 0));
    // for its own target alone, whose thread has no checkpoint of a graph.
    assert_eq!(document("a", "other").await, None);
    assert!(world.store.newest_checkpoint(&schema, "a").await.unwrap().is_none());

    // The next run's end replaces it, also where old checkpoints are cut away,
    let mut batch = Batch::new(&schema);
    let next = ending(moved, 2, "a", "[2]");
    batch.end(&next);
    assert_eq!(world.store.commit(&[batch]).await.unwrap().ended, HashSet::from([moved]));
    let mut connection = world.store.pool().acquire().await.unwrap();
    let cut = Change::Prune { thread_ids: vec!["a".into()], strategy: "keep_latest".into() };
    change(&mut connection, &schema, &cut, None).await.unwrap();
    assert_eq!(document("a", "echo").await.as_deref(), Some("[2]"));
    assert_eq!(stored(&world, "one").await, [("a".to_owned(), "document".to_owned())]);
    // and it goes with its thread.
    change(&mut connection, &schema, &Change::DeleteThread { thread_id: "a".into() }, None).await.unwrap();
    assert_eq!(document("a", "echo").await, None);
}
