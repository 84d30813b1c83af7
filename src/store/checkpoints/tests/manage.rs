use super::*;

async fn thread(pool: &PgPool, schema: &Schema, thread_id: &str, ns: &str, count: usize) {
    let mut parent: Option<String> = None;
    for number in 1..=count {
        let id = number.to_string();
        let versions = [("a", id.as_str(), Some(&b"new"[..])), ("b", "v1", Some(b"same"))];
        put(pool, schema, vec![with(checkpoint(thread_id, ns, &id, parent.as_deref()), &versions)]).await;
        let mut one = writes(thread_id, &id, "task", false, &[(0, "x", b"v")]);
        one.ns = ns.into();
        put_writes(pool, schema, one).await;
        parent = Some(id);
    }
}

#[tokio::test]
async fn a_deleted_thread_is_gone_and_others_stay() {
    let (database, schema) = agent().await;
    let pool = database.pool();
    for (name, ns) in [("t", ""), ("t", "child:1"), ("u", "")] {
        thread(pool, &schema, name, ns, 2).await;
    }
    let mut connection = pool.acquire().await.unwrap();
    delete_thread(&mut connection, &schema, "t").await.unwrap();
    delete_thread(&mut connection, &schema, "never").await.unwrap();
    assert_eq!(count(pool, &schema, "checkpoints").await, 2);
    assert_eq!(count(pool, &schema, "checkpoint_writes").await, 2);
    assert_eq!(count(pool, &schema, "checkpoint_blobs").await, 3);
    assert_eq!(ids(pool, &schema, "u", "").await, ["2", "1"]);
}

#[tokio::test]
async fn a_copy_has_everything_and_leaves_the_source_alone() {
    let (database, schema) = agent().await;
    let pool = database.pool();
    thread(pool, &schema, "t", "", 3).await;
    thread(pool, &schema, "t", "child:1", 1).await;
    let mut connection = pool.acquire().await.unwrap();
    copy_thread(&mut connection, &schema, "t", "copy").await.unwrap();
    copy_thread(&mut connection, &schema, "t", "copy").await.unwrap();
    copy_thread(&mut connection, &schema, "t", "t").await.unwrap();
    copy_thread(&mut connection, &schema, "never", "nothing").await.unwrap();
    assert_eq!(ids(pool, &schema, "copy", "").await, ids(pool, &schema, "t", "").await);
    assert_eq!(ids(pool, &schema, "copy", "child:1").await, ["1"]);
    assert!(ids(pool, &schema, "nothing", "").await.is_empty());
    let (source, copy) = (
        get(pool, &schema, "t", "", None).await.unwrap().unwrap(),
        get(pool, &schema, "copy", "", None).await.unwrap().unwrap(),
    );
    assert_eq!((source.checkpoint, source.metadata, source.blobs), (copy.checkpoint, copy.metadata, copy.blobs));
    assert_eq!((source.writes.len(), source.writes, source.parent_id), (1, copy.writes, copy.parent_id));
}

#[tokio::test]
async fn checkpoints_of_a_run_go_with_their_writes_and_what_only_they_named() {
    let (database, schema) = agent().await;
    let pool = database.pool();
    let of = |thread: &str, ns: &str, id: &str, parent: Option<&str>, run: &str, version: &str| {
        let one = with(checkpoint(thread, ns, id, parent), &[("a", version, Some(b"a")), ("b", "v1", Some(b"same"))]);
        meta(one, &format!(r#"{{"run_id": "{run}"}}"#))
    };
    put(
        pool,
        &schema,
        vec![
            of("t", "", "1", None, "keep", "v1"),
            of("t", "", "2", Some("1"), "drop", "v2"),
            of("t", "", "3", Some("2"), "later", "v3"),
            of("t", "child:1", "2", None, "drop", "v1"),
            of("u", "", "1", None, "drop", "v1"),
        ],
    )
    .await;
    put_writes(pool, &schema, writes("t", "2", "task", false, &[(0, "x", b"v")])).await;
    let mut transaction = pool.begin().await.unwrap();
    let runs = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    delete_for_runs(&mut transaction, &schema, &runs(&[]), None).await.unwrap();
    delete_for_runs(&mut transaction, &schema, &runs(&["never"]), None).await.unwrap();
    delete_for_runs(&mut transaction, &schema, &runs(&["drop"]), Some("t")).await.unwrap();
    transaction.commit().await.unwrap();

    assert_eq!(ids(pool, &schema, "t", "").await, ["3", "1"]);
    assert!(ids(pool, &schema, "t", "child:1").await.is_empty());
    assert_eq!(ids(pool, &schema, "u", "").await, ["1"]);
    assert_eq!(count(pool, &schema, "checkpoint_writes").await, 0);
    // a v1 and v3, b v1 of t; a and b of u.
    assert_eq!(count(pool, &schema, "checkpoint_blobs").await, 5);
    assert_eq!(get(pool, &schema, "t", "", None).await.unwrap().unwrap().parent_id, None);

    delete_for_runs(&mut pool.acquire().await.unwrap(), &schema, &runs(&["drop", "keep"]), None).await.unwrap();
    assert_eq!(count(pool, &schema, "checkpoints").await, 1);
    assert_eq!(count(pool, &schema, "checkpoint_blobs").await, 2);
}

#[tokio::test]
async fn pruned_threads_keep_the_latest_of_each_namespace_and_all_it_needs() {
    let (database, schema) = agent().await;
    let pool = database.pool();
    for (name, ns, count) in [("t", "", 4), ("t", "child:1", 2), ("u", "", 2), ("other", "", 2)] {
        thread(pool, &schema, name, ns, count).await;
    }
    // A write that came before its checkpoint stays.
    put_writes(pool, &schema, writes("t", "5", "task", false, &[(0, "x", b"early")])).await;
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut transaction = pool.begin().await.unwrap();
    prune(&mut transaction, &schema, &[], Strategy::KeepLatest).await.unwrap();
    prune(&mut transaction, &schema, &names(&["t", "u", "never"]), Strategy::KeepLatest).await.unwrap();
    transaction.commit().await.unwrap();

    assert_eq!(ids(pool, &schema, "t", "").await, ["4"]);
    assert_eq!(ids(pool, &schema, "t", "child:1").await, ["2"]);
    assert_eq!(ids(pool, &schema, "u", "").await, ["2"]);
    assert_eq!(ids(pool, &schema, "other", "").await, ["2", "1"]);
    let kept = get(pool, &schema, "t", "", None).await.unwrap().unwrap();
    assert_eq!((kept.blobs.len(), kept.writes.len(), kept.parent_id), (2, 1, None));
    // Two blobs for each of the three heads, three of the untouched thread.
    assert_eq!(count(pool, &schema, "checkpoint_blobs").await, 9);
    assert_eq!(count(pool, &schema, "checkpoint_writes").await, 3 + 2 + 1);

    prune(&mut pool.acquire().await.unwrap(), &schema, &names(&["t", "u"]), Strategy::Delete).await.unwrap();
    assert_eq!(count(pool, &schema, "checkpoints").await, 2);
}

#[tokio::test]
async fn a_subgraphs_call_is_pruned_with_the_checkpoint_it_started_from() {
    let (database, schema) = agent().await;
    let pool = database.pool();
    thread(pool, &schema, "t", "", 3).await;
    let call =
        |ns: &str, root: &str| meta(checkpoint("t", ns, "2", None), &format!(r#"{{"parents": {{"": "{root}"}}}}"#));
    put(
        pool,
        &schema,
        vec![call("node:old", "2"), call("node:live", "3"), call("node:early", "4"), call("memory", "1")],
    )
    .await;
    prune(&mut pool.acquire().await.unwrap(), &schema, &["t".into()], Strategy::KeepLatest).await.unwrap();
    for (ns, left) in [("node:old", 0), ("node:live", 1), ("node:early", 1), ("memory", 1), ("", 1)] {
        assert_eq!(ids(pool, &schema, "t", ns).await.len(), left, "{ns}");
    }
}

#[tokio::test]
async fn a_thread_whose_state_is_spread_over_its_history_is_not_cut() {
    let (database, schema) = agent().await;
    let pool = database.pool();
    thread(pool, &schema, "plain", "", 2).await;
    let counted = meta(checkpoint("counted", "", "1", None), r#"{"counters_since_delta_snapshot": {"a": 1}}"#);
    let mut snapshot = with(checkpoint("snapshot", "", "1", None), &[("a", "v1", Some(b"whole"))]);
    let text = String::from_utf8(snapshot.checkpoint.to_vec()).unwrap();
    snapshot.checkpoint =
        text.replace(r#""channel_values": {}"#, r#""channel_values": {"a": true, "b": true}"#).into_bytes().into();
    put(pool, &schema, vec![counted, snapshot]).await;
    let all = ["plain", "counted", "snapshot"].map(ToString::to_string);
    let error = prune(&mut pool.acquire().await.unwrap(), &schema, &all, Strategy::KeepLatest).await.unwrap_err();
    assert!(matches!(&error, CheckpointError::DeltaChannel(threads) if threads == &["counted", "snapshot"]));
    assert_eq!(ids(pool, &schema, "plain", "").await.len(), 2);
}

#[tokio::test]
async fn a_long_thread_is_pruned_in_time_that_grows_with_its_length() {
    let (database, schema) = agent().await;
    let pool = database.pool();
    let all: Vec<Checkpoint> = (0..5_000)
        .map(|number| {
            let id = format!("{number:06}");
            with(checkpoint("t", "", &id, None), &[("a", &id, Some(b"x")), ("b", &id, Some(b"y")), ("c", "v1", None)])
        })
        .collect();
    put(pool, &schema, all).await;
    let started = std::time::Instant::now();
    prune(&mut pool.acquire().await.unwrap(), &schema, &["t".into()], Strategy::KeepLatest).await.unwrap();
    assert_eq!(count(pool, &schema, "checkpoint_blobs").await, 2);
    assert!(started.elapsed() < std::time::Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn strategies_have_langgraphs_names() {
    assert_eq!(Strategy::from_name("keep_latest"), Some(Strategy::KeepLatest));
    assert_eq!(Strategy::from_name("delete"), Some(Strategy::Delete));
    assert_eq!(Strategy::from_name("keep"), None);
}
