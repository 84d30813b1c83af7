//! LangGraph's own saver and we read what the other wrote.

use super::*;
use crate::runner::protocol::Tuple;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

const THREAD: &str = "thread ä";

/// Runs the script beside this file in the tests' virtual environment.
async fn saver(database: &TestDatabase, schema: &Schema, what: &str) -> Value {
    let Ok(python) = std::env::var("RAPIDCLAW_TEST_PYTHON") else {
        panic!(
            "RAPIDCLAW_TEST_PYTHON names no Python with langgraph-checkpoint-postgres: `python3 -m venv .venv && \
             .venv/bin/pip install langgraph-checkpoint-postgres==3.2.0 'psycopg[binary]'`, then \
             RAPIDCLAW_TEST_PYTHON=.venv/bin/python (scripts/test.sh does both)"
        )
    };
    let output = tokio::process::Command::new(&python)
        .args(["-c", include_str!("python.py"), &database.url(), schema.name(), what])
        .output()
        .await
        .unwrap_or_else(|error| panic!("{python}: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

/// Columns, keys and indexes of a schema, in words.
async fn layout(pool: &PgPool, schema: &Schema) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT format('%s.%s %s %s null=%s default=%s', table_name, ordinal_position, column_name, data_type, is_nullable, column_default)
         FROM information_schema.columns WHERE table_schema = $1
         UNION ALL SELECT replace(indexdef, schemaname, '') FROM pg_indexes
             -- The primary keys begin with that column.
             WHERE schemaname = $1 AND indexname NOT LIKE '%thread_id_idx'
         UNION ALL SELECT format('%s %s', c.conrelid::regclass::text, pg_get_constraintdef(c.oid))
             FROM pg_constraint AS c JOIN pg_namespace AS n ON n.oid = c.connamespace WHERE n.nspname = $1 AND false
         ORDER BY 1",
    )
    .bind(schema.name())
    .fetch_all(pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn our_tables_are_those_of_postgres_savers_setup() {
    let database = TestDatabase::new().await;
    let pool = database.pool();
    let (ours, theirs) = (Schema::new("ours").unwrap(), Schema::new("theirs").unwrap());
    ensure_schema(pool, &ours).await.unwrap();
    saver(&database, &theirs, "setup").await;
    assert_eq!(layout(pool, &ours).await, layout(pool, &theirs).await);
    assert!(layout(pool, &ours).await.len() > 22);
    assert_eq!(count(pool, &ours, "checkpoint_migrations").await, count(pool, &theirs, "checkpoint_migrations").await);
    // And theirs need nothing of us.
    ensure_schema(pool, &theirs).await.unwrap();
}

#[tokio::test]
async fn we_read_what_postgres_saver_wrote() {
    let (database, schema) = agent().await;
    let told = saver(&database, &schema, "write").await;
    let newest = get(database.pool(), &schema, THREAD, "", None).await.unwrap().unwrap();
    compare(&newest, &told["newest"]);
    assert_eq!(
        newest.writes.iter().map(|write| (write.4.as_str(), write.5)).collect::<Vec<_>>(),
        [("~Z", 0), ("~b", -1), ("~b", 0), ("~b", 1)]
    );
    let filter = Filter { thread_id: Some(THREAD.into()), ns: Some(String::new()), ..Filter::default() };
    let all = list(database.pool(), &schema, &filter).await.unwrap();
    assert_eq!(all.len(), 3);
    for (ours, theirs) in all.iter().zip(told["all"].as_array().unwrap()) {
        compare(ours, theirs);
    }
}

#[tokio::test]
async fn postgres_saver_reads_what_we_wrote_and_its_setup_has_nothing_to_do() {
    let (database, schema) = agent().await;
    let pool = database.pool();
    let message = rmp_serde::to_vec(&vec!["hällo", "du"]).unwrap();
    let one = with(checkpoint(THREAD, "", "1", None), &[("messages", "v1", Some(&message)), ("gone", "v1", None)]);
    let mut two = with(checkpoint(THREAD, "", "2", Some("1")), &[("messages", "v1", None), ("count", "v2", None)]);
    let text = String::from_utf8(two.checkpoint.to_vec()).unwrap();
    two.checkpoint = text.replace(r#""channel_values": {}"#, r#""channel_values": {"count": 7}"#).into_bytes().into();
    let two = meta(two, r#"{"source": "loop", "step": 1, "user": "ä"}"#);
    let mut late = writes(THREAD, "2", "task-b", false, &[(0, "messages", &message), (1, "count", &[5])]);
    late.task_path = "~b".into();
    let mut early = writes(THREAD, "2", "task-z", true, &[(-1, "__error__", &[1]), (-3, "__interrupt__", &[2])]);
    early.task_path = "~Z".into();
    store(
        pool,
        &schema,
        &[Op::Writes(late), Op::Checkpoint(Box::new(one)), Op::Writes(early), Op::Checkpoint(Box::new(two))],
    )
    .await;

    let told = saver(&database, &schema, "read").await;
    assert_eq!(told["newest"]["values"], json!({"messages": ["hällo", "du"], "count": 7}));
    assert_eq!(told["newest"]["metadata"], json!({"source": "loop", "step": 1, "user": "ä"}));
    let writes: Vec<_> = told["newest"]["writes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|write| (write[0].clone(), write[1].clone(), write[2].clone()))
        .collect();
    assert_eq!(
        writes,
        [
            (json!("task-z"), json!("__interrupt__"), json!(2)),
            (json!("task-z"), json!("__error__"), json!(1)),
            (json!("task-b"), json!("messages"), json!(["hällo", "du"])),
            (json!("task-b"), json!("count"), json!(5)),
        ]
    );
    assert_eq!(told["all"].as_array().unwrap().len(), 2);
    compare(&get(pool, &schema, THREAD, "", None).await.unwrap().unwrap(), &told["newest"]);
}

/// A tuple is what the saver tells of the same checkpoint.
fn compare(ours: &Tuple, theirs: &Value) {
    assert_eq!(ours.checkpoint_id, theirs["checkpoint_id"]);
    assert_eq!(json!(ours.parent_id), theirs["parent_id"]);
    let mut checkpoint: Value = serde_json::from_slice(&ours.checkpoint).unwrap();
    let inline = checkpoint.as_object_mut().unwrap().remove("channel_values").unwrap();
    assert_eq!(checkpoint, theirs["checkpoint"]);
    assert_eq!(serde_json::from_slice::<Value>(&ours.metadata).unwrap(), theirs["metadata"]);

    // Values that stand inline are equal; the others are the same bytes.
    let mut blobs: BTreeMap<&str, Value> = BTreeMap::new();
    for (channel, kind, value) in ours.blobs.iter().filter(|blob| blob.1 != "empty") {
        blobs.insert(channel, json!([kind, hex(value.as_deref().unwrap())]));
    }
    for (channel, value) in theirs["values"].as_object().unwrap() {
        match blobs.remove(channel.as_str()) {
            Some(blob) => assert_eq!(blob, theirs["typed"][channel], "{channel}"),
            None => assert_eq!(&inline[channel], value, "{channel}"),
        }
    }
    assert!(blobs.is_empty(), "{blobs:?}");

    let writes: Vec<Value> =
        ours.writes.iter().map(|write| json!([write.0, write.1, [write.2, hex(&write.3)]])).collect();
    let told: Vec<Value> =
        theirs["writes"].as_array().unwrap().iter().map(|write| json!([write[0], write[1], write[3]])).collect();
    assert_eq!(writes, told);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
