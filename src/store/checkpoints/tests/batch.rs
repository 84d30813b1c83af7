use super::*;
use sqlx::Connection as _;

#[tokio::test]
async fn tables_are_made_once_also_by_many_at_a_time() {
    let database = TestDatabase::new().await;
    let schema = Schema::new("Agent \"x\"").unwrap();
    let pool = database.pool();
    let all = futures_util::future::join_all((0..6).map(|_| ensure_schema(pool, &schema))).await;
    for one in all {
        one.unwrap();
    }
    assert_eq!(count(pool, &schema, "checkpoint_migrations").await, 10);
    put(pool, &schema, vec![checkpoint("t", "", "1", None)]).await;
    ensure_schema(pool, &schema).await.unwrap();
    assert_eq!(count(pool, &schema, "checkpoints").await, 1);
}

#[tokio::test]
async fn tables_of_an_older_saver_are_brought_up_to_date() {
    let (database, schema) = agent().await;
    let pool = database.pool();
    for sql in [
        "ALTER TABLE {s}.checkpoint_writes DROP COLUMN task_path",
        "ALTER TABLE {s}.checkpoint_blobs ALTER COLUMN blob SET NOT NULL",
        "DELETE FROM {s}.checkpoint_migrations WHERE v > 3",
    ] {
        sqlx::query(schema.sql(sql)).execute(pool).await.unwrap();
    }
    ensure_schema(pool, &schema).await.unwrap();
    assert_eq!(count(pool, &schema, "checkpoint_migrations").await, 10);
    put_writes(pool, &schema, writes("t", "1", "task", false, &[(0, "x", b"v")])).await;
}

#[tokio::test]
async fn a_batch_leaves_what_its_operations_would_leave_one_by_one() {
    // Given a thread with a checkpoint, a blob and two writes.
    let (database, schema) = agent().await;
    let pool = database.pool();
    let old = with(checkpoint("t", "", "1", None), &[("a", "v1", Some(b"old"))]);
    put(pool, &schema, vec![old]).await;
    put_writes(pool, &schema, writes("t", "1", "k", false, &[(0, "x", b"old"), (-1, "__error__", b"old")])).await;

    // When a batch touches all of them again, some twice.
    let again = with(checkpoint("t", "", "1", Some("0")), &[("a", "v1", Some(b"new")), ("b", "v1", Some(b"first"))]);
    let again = meta(again, r#"{"step": 7}"#);
    let twice = with(checkpoint("t", "", "1", None), &[("a", "v1", None), ("b", "v1", Some(b"second"))]);
    let twice = meta(twice, r#"{"step": 8}"#);
    let ops = [
        Op::Writes(writes("t", "1", "k", false, &[(0, "x", b"new"), (1, "y", b"new")])),
        Op::Checkpoint(Box::new(again)),
        Op::Writes(writes("t", "1", "k", true, &[(-1, "__error__", b"one")])),
        Op::Writes(writes("t", "1", "k", true, &[(-1, "__error__", b"two")])),
        Op::Writes(writes("t", "1", "k", false, &[(1, "y", b"late")])),
        Op::Checkpoint(Box::new(twice)),
        Op::Checkpoint(Box::new(checkpoint("u", "child:1", "1", None))),
    ];
    store(pool, &schema, &ops).await;

    // Then checkpoint and metadata are the last's, blobs and plain writes the first's, special writes the last's.
    let tuple = get(pool, &schema, "t", "", None).await.unwrap().unwrap();
    assert_eq!(tuple.parent_id, None);
    assert_eq!(tuple.metadata.as_slice(), br#"{"step": 8}"#);
    let blobs: Vec<_> = tuple
        .blobs
        .iter()
        .map(|(channel, _, value)| (channel.as_str(), value.as_deref().unwrap().as_slice()))
        .collect();
    assert!(blobs.contains(&("a", b"old")) && blobs.contains(&("b", b"first")) && blobs.len() == 2, "{blobs:?}");
    let found: Vec<_> = tuple.writes.iter().map(|write| (write.5, write.3.as_slice())).collect();
    assert_eq!(found, [(-1, &b"two"[..]), (0, b"old"), (1, b"new")]);
    assert_eq!(ids(pool, &schema, "u", "child:1").await, ["1"]);
}

#[tokio::test]
async fn a_batch_is_part_of_its_callers_transaction_and_an_empty_one_does_nothing() {
    let (database, schema) = agent().await;
    let mut connection = database.pool().acquire().await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    apply(&mut transaction, &schema, &[]).await.unwrap();
    apply(&mut transaction, &schema, &[Op::Checkpoint(Box::new(checkpoint("t", "", "1", None)))]).await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(count(database.pool(), &schema, "checkpoints").await, 0);
}

#[tokio::test]
async fn what_jsonb_cannot_hold_is_the_datas_fault_and_a_missing_table_is_not() {
    let (database, schema) = agent().await;
    for wrong in [r#"{"a": "\u0000"}"#, "{"] {
        let op = Op::Checkpoint(Box::new(meta(checkpoint("t", "", "1", None), wrong)));
        let error = apply(&mut database.pool().acquire().await.unwrap(), &schema, &[op]).await.unwrap_err();
        assert!(error.is_fault_of_data(), "{error:?}");
    }
    let nul = Op::Writes(writes("t\0", "1", "k", false, &[(0, "x", b"v")]));
    let error = apply(&mut database.pool().acquire().await.unwrap(), &schema, &[nul]).await.unwrap_err();
    assert!(error.is_fault_of_data(), "{error:?}");
    let nowhere = Schema::new("nowhere").unwrap();
    let error = get(database.pool(), &nowhere, "t", "", None).await.unwrap_err();
    assert!(!error.is_fault_of_data());
}
