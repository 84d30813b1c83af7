use super::*;
use crate::runner::protocol::Read;
use crate::store::StoreError;
use crate::store::postgres::Hot;

#[tokio::test]
async fn the_newest_checkpoint_or_one_by_its_id_with_the_versions_it_names() {
    let (database, schema) = agent().await;
    let pool = database.pool();
    let one = with(checkpoint("t", "", "1", None), &[("a", "v1", Some(b"a1")), ("b", "v1", Some(b"b1"))]);
    let mut two = with(checkpoint("t", "", "2", Some("1")), &[("a", "v2", Some(b"a2")), ("b", "v1", None)]);
    two.blobs.push(("unnamed".into(), "v9".into(), "msgpack".into(), Some(b"x".to_vec().into())));
    two.blobs.push(("gone".into(), "v9".into(), "empty".into(), None));
    put(pool, &schema, vec![one, two, checkpoint("t", "child:1", "3", None), checkpoint("u", "", "4", None)]).await;

    let newest = get(pool, &schema, "t", "", None).await.unwrap().unwrap();
    assert_eq!((newest.checkpoint_id.as_str(), newest.parent_id.as_deref()), ("2", Some("1")));
    let mut blobs: Vec<_> =
        newest.blobs.iter().map(|(channel, _, value)| (channel.clone(), value.clone().unwrap().into_vec())).collect();
    blobs.sort();
    assert_eq!(blobs, [("a".into(), b"a2".to_vec()), ("b".into(), b"b1".to_vec())]);

    let first = get(pool, &schema, "t", "", Some("1")).await.unwrap().unwrap();
    assert!(
        first.blobs.iter().any(|(channel, _, value)| channel == "a" && value.as_deref().unwrap().as_slice() == b"a1")
    );
    assert!(get(pool, &schema, "t", "", Some("3")).await.unwrap().is_none());
    assert!(get(pool, &schema, "none", "", None).await.unwrap().is_none());
    assert!(get(pool, &schema, "u", "", None).await.unwrap().unwrap().blobs.is_empty());
}

#[tokio::test]
async fn a_blob_without_a_value_is_read_as_such() {
    let (database, schema) = agent().await;
    let mut one = with(checkpoint("t", "", "1", None), &[("a", "v1", None)]);
    one.blobs.push(("a".into(), "v1".into(), "empty".into(), None));
    put(database.pool(), &schema, vec![one]).await;
    let tuple = get(database.pool(), &schema, "t", "", None).await.unwrap().unwrap();
    assert_eq!(tuple.blobs, [("a".into(), "empty".into(), None)]);
}

#[tokio::test]
async fn writes_come_in_the_order_in_which_langgraph_applies_them() {
    let (database, schema) = agent().await;
    let pool = database.pool();
    // Written before their checkpoint, and out of order; by code point "Z" stands before "a".
    for (path, task, idx) in
        [("~a", "t1", 1), ("~Z", "t9", 0), ("", "t5", 2), ("~a", "t1", 0), ("~a", "t0", 3), ("", "T6", 0)]
    {
        let mut one = writes("t", "1", task, false, &[(idx, "x", b"v")]);
        one.task_path = path.into();
        put_writes(pool, &schema, one).await;
    }
    put(pool, &schema, vec![checkpoint("t", "", "1", None)]).await;
    let tuple = get(pool, &schema, "t", "", None).await.unwrap().unwrap();
    let order: Vec<_> = tuple.writes.iter().map(|write| (write.4.as_str(), write.0.as_str(), write.5)).collect();
    assert_eq!(
        order,
        [("", "T6", 0), ("", "t5", 2), ("~Z", "t9", 0), ("~a", "t0", 3), ("~a", "t1", 0), ("~a", "t1", 1)]
    );
}

#[tokio::test]
async fn a_list_is_narrowed_by_all_that_is_given_and_newest_first() {
    let (database, schema) = agent().await;
    let pool = database.pool();
    let of = |id: &str, metadata: &str| meta(checkpoint("t", "", id, None), metadata);
    put(
        pool,
        &schema,
        vec![
            of("1", r#"{"source": "input", "step": 1}"#),
            of("2", r#"{"source": "loop", "step": 1}"#),
            of("3", r#"{"source": "input", "step": 2}"#),
            of("4", r#"{"source": "loop", "step": 3, "score": 42}"#),
            checkpoint("t", "child:1", "5", None),
            checkpoint("u", "", "6", None),
        ],
    )
    .await;
    let find = async |change: &dyn Fn(&mut Filter)| -> Vec<String> {
        let mut filter = Filter { thread_id: Some("t".into()), ns: Some(String::new()), ..Filter::default() };
        change(&mut filter);
        list(pool, &schema, &filter).await.unwrap().into_iter().map(|tuple| tuple.checkpoint_id).collect()
    };
    let json = |text: &str| Some(text.as_bytes().to_vec().into());
    assert_eq!(find(&|_| {}).await, ["4", "3", "2", "1"]);
    assert_eq!(find(&|filter| filter.ns = None).await, ["5", "4", "3", "2", "1"]);
    assert_eq!(find(&|filter| filter.thread_id = None).await, ["6", "4", "3", "2", "1"]);
    assert_eq!(find(&|filter| *filter = Filter::default()).await, ["6", "5", "4", "3", "2", "1"]);
    assert_eq!(find(&|filter| filter.checkpoint_id = Some("2".into())).await, ["2"]);
    assert_eq!(find(&|filter| filter.before = Some("3".into())).await, ["2", "1"]);
    assert_eq!(find(&|filter| filter.limit = Some(1)).await, ["4"]);
    assert_eq!(find(&|filter| (filter.before, filter.limit) = (Some("4".into()), Some(1))).await, ["3"]);
    assert_eq!(find(&|filter| filter.metadata = json(r#"{"source": "input"}"#)).await, ["3", "1"]);
    assert_eq!(find(&|filter| filter.metadata = json(r#"{"source": "input", "step": 2}"#)).await, ["3"]);
    assert_eq!(find(&|filter| filter.metadata = json(r#"{"score": 42}"#)).await, ["4"]);
    assert_eq!(find(&|filter| filter.metadata = json(r#"{"score": 43}"#)).await, Vec::<String>::new());
    assert_eq!(find(&|filter| filter.limit = Some(0)).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_long_history_is_read_with_one_statement() {
    let (database, schema) = agent().await;
    let pool = database.pool();
    let id = |number: usize| format!("{number:06}");
    let all: Vec<Checkpoint> = (0..2_000)
        .map(|number| {
            let version = id(number);
            with(checkpoint("t", "", &id(number), None), &[("a", &version, Some(b"value")), ("b", "v0", None)])
        })
        .collect();
    put(pool, &schema, all).await;
    let filter = Filter { thread_id: Some("t".into()), ..Filter::default() };
    // Without statistics, as right after a burst, where plans are at their worst.
    let started = std::time::Instant::now();
    let tuples = list(pool, &schema, &filter).await.unwrap();
    assert_eq!(tuples.len(), 2_000);
    assert!(tuples.iter().all(|tuple| tuple.blobs.len() == 1));
    assert_eq!(tuples[0].checkpoint_id, id(1_999));
    assert!(started.elapsed() < std::time::Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn the_head_of_a_thread_tells_all_but_the_values() {
    let (database, schema) = agent().await;
    let pool = database.pool();
    let one = with(checkpoint("t", "", "1", None), &[("a", "v1", Some(b"a1"))]);
    let two = with(checkpoint("t", "", "2", Some("1")), &[("b", "v1", Some(b"b1")), ("a", "v1", None)]);
    put(pool, &schema, vec![one, two, checkpoint("t", "child:1", "3", None)]).await;
    let newest = head(pool, &schema, "t").await.unwrap().unwrap();
    assert_eq!((newest.checkpoint_id.as_str(), newest.parent_id.as_deref()), ("2", Some("1")));
    assert_eq!((newest.channels.join(" ").as_str(), newest.checkpoints), ("a b", 2));
    assert_eq!(newest.metadata.0["step"], 1);
    assert!(head(pool, &schema, "none").await.unwrap().is_none());
}

/// A thread with so many checkpoints, each with a value of so many bytes.
async fn history(count: usize, bytes: usize) -> (TestDatabase, Schema) {
    let (database, schema) = agent().await;
    let value = vec![b'x'; bytes];
    for n in 0..count {
        let id = format!("{n:04}");
        put(database.pool(), &schema, vec![with(checkpoint("t", "", &id, None), &[("a", &id, Some(&value))])]).await;
    }
    (database, schema)
}

fn question(pages: bool, limit: Option<u64>, before: Option<String>) -> crate::runner::protocol::Read {
    crate::runner::protocol::Read {
        thread_id: Some("t".into()),
        ns: Some(String::new()),
        limit,
        before,
        pages,
        ..Default::default()
    }
}

/// Answers a question as the server does.
async fn answer(hot: &Hot, schema: &Schema, question: &Read) -> Result<Page, StoreError> {
    hot.ask(async |connection| Ok(super::super::read(connection, schema, question).await?)).await
}

/// How many tuples each page has that a reader asks for, one after the other.
async fn pages(database: &TestDatabase, schema: &Schema, limit: Option<u64>) -> Vec<usize> {
    let hot = Hot::new(database.options(), 1);
    let (mut sizes, mut before, mut last) = (Vec::new(), None, usize::MAX);
    loop {
        let page = answer(&hot, schema, &question(true, limit, before)).await.unwrap();
        for tuple in &page.tuples {
            let id = tuple.checkpoint_id.parse().unwrap();
            assert!(id < last, "newest first, none twice");
            last = id;
        }
        sizes.push(page.tuples.len());
        if !page.more {
            return sizes;
        }
        before = page.tuples.last().map(|tuple| tuple.checkpoint_id.clone());
    }
}

#[tokio::test]
async fn a_page_has_so_many_tuples_and_so_many_bytes_and_says_whether_there_is_more() {
    let (database, schema) = history(130, 10).await;
    assert_eq!(pages(&database, &schema, None).await, [64, 64, 2]);
    assert_eq!(pages(&database, &schema, Some(1000)).await, [64, 64, 2]);
    assert_eq!(pages(&database, &schema, Some(3)).await, [3], "as many as were asked for are all");
    let (database, schema) = history(10, 5 << 20).await;
    assert_eq!(pages(&database, &schema, None).await, [3, 3, 3, 1]);
    // One that is larger than a page is a page.
    let (database, schema) = history(2, 17 << 20).await;
    assert_eq!(pages(&database, &schema, Some(64)).await, [1, 1]);
}

#[tokio::test]
async fn who_does_not_read_in_pages_gets_all_or_is_told_why_not() {
    let (database, schema) = history(10, 5 << 20).await;
    let hot = Hot::new(database.options(), 1);
    let read = async |limit| answer(&hot, &schema, &question(false, limit, None)).await;
    let some = read(Some(9)).await.unwrap();
    assert_eq!((some.tuples.len(), some.more), (9, false));
    let error = read(None).await.unwrap_err();
    assert_eq!(error.to_string(), "the history has more than 48 MiB: ask for less of it (`limit`)");
    assert!(matches!(error, StoreError::Checkpoints(error) if error.is_fault_of_data()));
    // The connection that was given up was replaced.
    assert_eq!(read(Some(1)).await.unwrap().tuples.len(), 1);
}
