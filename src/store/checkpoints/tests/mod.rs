//! On a real Postgres: every statement, and both ways between us and LangGraph's own `PostgresSaver`.

mod batch;
mod manage;
mod python;
mod read;

use super::*;
use crate::runner::protocol::{Checkpoint, Writes};
use crate::store::test_database::TestDatabase;
use sqlx::PgPool;

/// A database with the tables of one agent.
pub(super) async fn agent() -> (TestDatabase, Schema) {
    let database = TestDatabase::new().await;
    let schema = Schema::new("agent-one").unwrap();
    ensure_schema(database.pool(), &schema).await.unwrap();
    (database, schema)
}

pub(super) fn checkpoint(thread_id: &str, ns: &str, id: &str, parent: Option<&str>) -> Checkpoint {
    Checkpoint {
        run: "run".into(),
        attempt: 1,
        id: 0,
        thread_id: thread_id.into(),
        ns: ns.into(),
        checkpoint_id: id.into(),
        parent_id: parent.map(Into::into),
        checkpoint: format!(r#"{{"v": 4, "id": "{id}", "channel_values": {{}}, "channel_versions": {{}}}}"#)
            .into_bytes()
            .into(),
        metadata: br#"{"source": "loop", "step": 1, "parents": {}}"#.to_vec().into(),
        blobs: vec![],
        usage: vec![],
    }
}

/// The checkpoint names these versions; those with a value are new in it.
pub(super) fn with(mut checkpoint: Checkpoint, versions: &[(&str, &str, Option<&[u8]>)]) -> Checkpoint {
    let named: Vec<String> =
        versions.iter().map(|(channel, version, _)| format!(r#""{channel}": "{version}""#)).collect();
    let text = String::from_utf8(checkpoint.checkpoint.to_vec()).unwrap();
    let text = text.replace(r#""channel_versions": {}"#, &format!(r#""channel_versions": {{{}}}"#, named.join(", ")));
    checkpoint.checkpoint = text.into_bytes().into();
    checkpoint.blobs = versions
        .iter()
        .filter_map(|(channel, version, value)| {
            Some(((*channel).into(), (*version).into(), "msgpack".into(), Some(value.as_ref()?.to_vec().into())))
        })
        .collect();
    checkpoint
}

pub(super) fn meta(mut checkpoint: Checkpoint, metadata: &str) -> Checkpoint {
    checkpoint.metadata = metadata.as_bytes().to_vec().into();
    checkpoint
}

pub(super) fn writes(
    thread_id: &str,
    checkpoint_id: &str,
    task_id: &str,
    overwrite: bool,
    rows: &[(i32, &str, &[u8])],
) -> Writes {
    Writes {
        run: "run".into(),
        attempt: 1,
        id: 0,
        thread_id: thread_id.into(),
        ns: String::new(),
        checkpoint_id: checkpoint_id.into(),
        task_id: task_id.into(),
        task_path: String::new(),
        overwrite,
        writes: rows
            .iter()
            .map(|(idx, channel, value)| (*idx, (*channel).into(), "msgpack".into(), value.to_vec().into()))
            .collect(),
        usage: vec![],
    }
}

pub(super) async fn put(pool: &PgPool, schema: &Schema, checkpoints: Vec<Checkpoint>) {
    let ops: Vec<Op> = checkpoints.into_iter().map(|one| Op::Checkpoint(Box::new(one))).collect();
    store(pool, schema, &ops).await;
}

pub(super) async fn put_writes(pool: &PgPool, schema: &Schema, writes: Writes) {
    store(pool, schema, &[Op::Writes(writes)]).await;
}

pub(super) async fn store(pool: &PgPool, schema: &Schema, ops: &[Op]) {
    let mut transaction = pool.begin().await.unwrap();
    apply(&mut transaction, schema, ops).await.unwrap();
    transaction.commit().await.unwrap();
}

/// The ids of a thread's checkpoints, newest first.
pub(super) async fn ids(pool: &PgPool, schema: &Schema, thread_id: &str, ns: &str) -> Vec<String> {
    let filter = Filter { thread_id: Some(thread_id.into()), ns: Some(ns.into()), ..Filter::default() };
    list(pool, schema, &filter).await.unwrap().into_iter().map(|tuple| tuple.checkpoint_id).collect()
}

pub(super) async fn count(pool: &PgPool, schema: &Schema, table: &str) -> i64 {
    sqlx::query_scalar(schema.sql(&format!("SELECT count(*) FROM {{s}}.{table}"))).fetch_one(pool).await.unwrap()
}
