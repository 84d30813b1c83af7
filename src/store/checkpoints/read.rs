//! Reading: a checkpoint, or the history of a thread, each with one statement.

use super::error::{CheckpointError, failed};
use super::schema::{Frequent, Schema};
use crate::runner::protocol::{Json, Tuple};
use crate::store::postgres::HotConnection;
use futures_util::TryStreamExt as _;
use serde_bytes::ByteBuf;
use sqlx::postgres::{PgArguments, PgExecutor, PgRow};
use sqlx::query::Query;
use sqlx::{Postgres, Row as _, SqlStr};

/// What [`list`] shall find; every part that is given narrows.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this thread alone.
    pub thread_id: Option<String>,
    /// Of this namespace alone; the root graph's is empty.
    pub ns: Option<String>,
    /// This checkpoint alone.
    pub checkpoint_id: Option<String>,
    /// Older than this checkpoint.
    pub before: Option<String>,
    /// A JSON object that the metadata contain.
    pub metadata: Option<Json>,
    /// At most so many; none: all.
    pub limit: Option<u64>,
}

/// A checkpoint with the blobs of the versions that it names, and with its writes in the order in
/// which LangGraph applies them: by code point, whatever the database's collation. `picked` chooses
/// rows and their order before anything is looked up for them; each blob is looked up by its key
/// (`LIMIT 1`): a join would be planned to read all blobs of a long thread for each of its rows.
fn select(picked: &str) -> String {
    format!(
        "SELECT c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.parent_checkpoint_id,
    c.checkpoint::text, c.metadata::text,
    b.channels, b.types, b.blobs, w.tasks, w.channels, w.types, w.blobs, w.paths, w.idxs
FROM ({picked}) AS c
CROSS JOIN LATERAL (
    SELECT array_agg(l.channel) AS channels, array_agg(l.type) AS types, array_agg(l.blob) AS blobs
    FROM jsonb_each_text(c.checkpoint -> 'channel_versions') AS v
    CROSS JOIN LATERAL (
        SELECT r.channel, r.type, r.blob FROM {{s}}.checkpoint_blobs AS r
        WHERE r.thread_id = c.thread_id AND r.checkpoint_ns = c.checkpoint_ns
            AND r.channel = v.key AND r.version = v.value
        LIMIT 1
    ) AS l
) AS b
CROSS JOIN LATERAL (
    SELECT array_agg(o.task_id) AS tasks, array_agg(o.channel) AS channels,
        array_agg(coalesce(o.type, '')) AS types, array_agg(o.blob) AS blobs,
        array_agg(o.task_path) AS paths, array_agg(o.idx) AS idxs
    FROM (
        SELECT * FROM {{s}}.checkpoint_writes AS r
        WHERE r.thread_id = c.thread_id AND r.checkpoint_ns = c.checkpoint_ns
            AND r.checkpoint_id = c.checkpoint_id
        ORDER BY r.task_path COLLATE \"C\", r.task_id COLLATE \"C\", r.idx
    ) AS o
) AS w"
    )
}

/// The statement of [`get`].
fn get_sql(by_id: bool) -> String {
    let which = if by_id { "AND checkpoint_id = $3" } else { "ORDER BY checkpoint_id DESC LIMIT 1" };
    select(&format!("SELECT * FROM {{s}}.checkpoints WHERE thread_id = $1 AND checkpoint_ns = $2 {which}"))
}

/// The checkpoint of this id, or the newest of thread and namespace.
pub async fn get(
    executor: impl PgExecutor<'_>,
    schema: &Schema,
    thread_id: &str,
    ns: &str,
    checkpoint_id: Option<&str>,
) -> Result<Option<Tuple>, CheckpointError> {
    let query = match checkpoint_id {
        Some(id) => sqlx::query(schema.frequent(Frequent::Get, || get_sql(true))).bind(thread_id).bind(ns).bind(id),
        None => sqlx::query(schema.frequent(Frequent::GetNewest, || get_sql(false))).bind(thread_id).bind(ns),
    };
    let row = query.fetch_optional(executor).await.map_err(failed("read a checkpoint"))?;
    row.map(|row| tuple(&row)).transpose().map_err(failed("read a checkpoint"))
}

/// The checkpoints that the filter lets pass, newest first.
pub async fn list(
    executor: impl PgExecutor<'_>,
    schema: &Schema,
    filter: &Filter,
) -> Result<Vec<Tuple>, CheckpointError> {
    let rows = list_query(schema, filter)?.fetch_all(executor).await.map_err(failed("list checkpoints"))?;
    rows.iter().map(tuple).collect::<Result<_, _>>().map_err(failed("list checkpoints"))
}

/// As [`list`], but for those that would make it more than `most` bytes together, and whether there are such. No
/// more than that is ever held, whatever the filter asks for.
pub async fn list_within(
    connection: &mut HotConnection,
    schema: &Schema,
    filter: &Filter,
    most: usize,
) -> Result<(Vec<Tuple>, bool), CheckpointError> {
    let error = || failed("list checkpoints");
    let query = list_query(schema, filter)?;
    let (mut tuples, mut bytes, mut cut) = (Vec::new(), 0, false);
    {
        let mut rows = query.fetch(&mut **connection);
        while let Some(row) = rows.try_next().await.map_err(error())? {
            let next = tuple(&row).map_err(error())?;
            bytes += next.bytes();
            if bytes > most && !tuples.is_empty() {
                cut = true;
                break;
            }
            tuples.push(next);
        }
    }
    if cut {
        // It would have to read all of the rest.
        connection.spoil();
    }
    Ok((tuples, cut))
}

fn list_query<'q>(schema: &Schema, filter: &'q Filter) -> Result<Query<'q, Postgres, PgArguments>, CheckpointError> {
    let metadata = filter.metadata.as_ref().map(|json| std::str::from_utf8(json)).transpose();
    let metadata = metadata.map_err(|_| CheckpointError::Filter)?;
    let texts = [
        filter.thread_id.as_deref(),
        filter.ns.as_deref(),
        filter.checkpoint_id.as_deref(),
        filter.before.as_deref(),
        metadata,
    ];
    let mut query = sqlx::query(list_sql(schema, texts.map(|text| text.is_some()), filter.limit.is_some()));
    for text in texts.into_iter().flatten() {
        query = query.bind(text);
    }
    if let Some(limit) = filter.limit {
        query = query.bind(i64::try_from(limit).unwrap_or(i64::MAX));
    }
    Ok(query)
}

/// One statement for each set of conditions, so that each has a plan that fits it.
fn list_sql(schema: &Schema, given: [bool; 5], limited: bool) -> SqlStr {
    const CONDITIONS: [&str; 5] =
        ["thread_id = ", "checkpoint_ns = ", "checkpoint_id = ", "checkpoint_id < ", "metadata @> "];
    let mut picked = String::from("SELECT * FROM {s}.checkpoints");
    let mut number = 0;
    for (index, condition) in CONDITIONS.iter().enumerate().filter(|(index, _)| given[*index]) {
        number += 1;
        picked.push_str(if number == 1 { " WHERE " } else { " AND " });
        picked.push_str(condition);
        picked.push('$');
        picked.push_str(&number.to_string());
        if index == 4 {
            picked.push_str("::text::jsonb");
        }
    }
    picked.push_str(" ORDER BY checkpoint_id DESC");
    if limited {
        picked.push_str(" LIMIT $");
        picked.push_str(&(number + 1).to_string());
    }
    schema.sql(&format!("{} ORDER BY c.checkpoint_id DESC", select(&picked)))
}

/// What can be said of a thread's newest checkpoint without reading its values.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Head {
    /// Its id.
    pub checkpoint_id: String,
    /// The one before it.
    pub parent_id: Option<String>,
    /// When it was made.
    pub created_at: Option<String>,
    /// What LangGraph keeps with it.
    pub metadata: sqlx::types::Json<serde_json::Value>,
    /// The channels that it has versions of.
    pub channels: Vec<String>,
    /// How many checkpoints of the root graph there are.
    pub checkpoints: i64,
}

const HEAD: &str = "
SELECT checkpoint_id, parent_checkpoint_id AS parent_id, checkpoint ->> 'ts' AS created_at, metadata,
    ARRAY(SELECT jsonb_object_keys(checkpoint -> 'channel_versions') ORDER BY 1) AS channels,
    (SELECT count(*) FROM {s}.checkpoints WHERE thread_id = $1 AND checkpoint_ns = '') AS checkpoints
FROM (
    (SELECT * FROM {s}.checkpoints WHERE thread_id = $1 AND checkpoint_ns = '' ORDER BY checkpoint_id DESC LIMIT 1)
    UNION ALL SELECT * FROM {s}.checkpoints WHERE thread_id = $1 AND starts_with(checkpoint_ns, '::')
) AS newest ORDER BY checkpoint ->> 'ts' DESC NULLS LAST LIMIT 1";

/// The newest checkpoint of a thread's root graph, or its newest document (`document.rs`).
pub async fn head(
    executor: impl PgExecutor<'_>,
    schema: &Schema,
    thread_id: &str,
) -> Result<Option<Head>, CheckpointError> {
    let query = sqlx::query_as(schema.sql(HEAD)).bind(thread_id).persistent(false);
    query.fetch_optional(executor).await.map_err(failed("read a checkpoint"))
}

fn tuple(row: &PgRow) -> Result<Tuple, sqlx::Error> {
    let json = |index: usize| row.try_get::<String, _>(index).map(|text| ByteBuf::from(text.into_bytes()));
    let texts = |index: usize| row.try_get::<Option<Vec<String>>, _>(index).map(Option::unwrap_or_default);
    let blobs: Vec<Option<Vec<u8>>> = row.try_get::<Option<_>, _>(8)?.unwrap_or_default();
    let writes: Vec<Vec<u8>> = row.try_get::<Option<_>, _>(12)?.unwrap_or_default();
    let idxs: Vec<i32> = row.try_get::<Option<_>, _>(14)?.unwrap_or_default();
    Ok(Tuple {
        thread_id: row.try_get(0)?,
        ns: row.try_get(1)?,
        checkpoint_id: row.try_get(2)?,
        parent_id: row.try_get(3)?,
        checkpoint: json(4)?,
        metadata: json(5)?,
        blobs: texts(6)?
            .into_iter()
            .zip(texts(7)?)
            .zip(blobs)
            .map(|((channel, kind), blob)| (channel, kind, blob.map(ByteBuf::from)))
            .collect(),
        writes: texts(9)?
            .into_iter()
            .zip(texts(10)?)
            .zip(texts(11)?)
            .zip(writes)
            .zip(texts(13)?)
            .zip(idxs)
            .map(|(((((task, channel), kind), blob), path), idx)| (task, channel, kind, ByteBuf::from(blob), path, idx))
            .collect(),
    })
}
