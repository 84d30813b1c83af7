//! Threads as a whole: deleting, copying, cutting to what is needed.
//!
//! Several statements each: the caller's transaction makes them one. Where a run appends to the thread
//! meanwhile, its newer checkpoints stay, and with them every blob that they name.

use super::error::{CheckpointError, failed};
use super::schema::Schema;
use sqlx::{PgConnection, Row as _};
use std::collections::{BTreeMap, HashSet};

/// What [`prune`] leaves of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// The newest checkpoint of each namespace, with its writes and blobs.
    KeepLatest,
    /// Nothing.
    Delete,
}

impl Strategy {
    /// By the name that `BaseCheckpointSaver.prune` has for it.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "keep_latest" => Some(Self::KeepLatest),
            "delete" => Some(Self::Delete),
            _ => None,
        }
    }
}

const DELETE_THREADS: &str = "
WITH blobs AS (DELETE FROM {s}.checkpoint_blobs WHERE thread_id = ANY($1)),
writes AS (DELETE FROM {s}.checkpoint_writes WHERE thread_id = ANY($1))
DELETE FROM {s}.checkpoints WHERE thread_id = ANY($1)";

const COPY_THREAD: &str = "
WITH blobs AS (
    INSERT INTO {s}.checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
    SELECT $2, checkpoint_ns, channel, version, type, blob FROM {s}.checkpoint_blobs WHERE thread_id = $1
    ON CONFLICT DO NOTHING
), writes AS (
    INSERT INTO {s}.checkpoint_writes
        (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob, task_path)
    SELECT $2, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob, task_path
    FROM {s}.checkpoint_writes WHERE thread_id = $1
    ON CONFLICT DO NOTHING
)
INSERT INTO {s}.checkpoints
    (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata)
SELECT $2, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata
FROM {s}.checkpoints WHERE thread_id = $1
ON CONFLICT DO NOTHING";

/// A checkpoint row that goes tells its key and the versions that it named.
const DELETE_RUNS: &str = "
DELETE FROM {s}.checkpoints
WHERE metadata ->> 'run_id' = ANY($1) AND ($2::text IS NULL OR thread_id = $2)
RETURNING thread_id, checkpoint_ns, checkpoint_id,
    ARRAY(SELECT jsonb_object_keys(checkpoint -> 'channel_versions')) AS channels,
    ARRAY(SELECT value FROM jsonb_each_text(checkpoint -> 'channel_versions')) AS versions";

/// A channel whose value is spread over the thread leaves counters in the metadata (or, of
/// LangGraph.js, a mark), or a snapshot: `true` in the checkpoint with a blob behind it.
const DELTA_THREADS: &str = "
SELECT DISTINCT c.thread_id FROM {s}.checkpoints AS c
WHERE c.thread_id = ANY($1) AND (
    c.metadata ?| ARRAY['counters_since_delta_snapshot', 'delta_writes_versioned']
    OR EXISTS (
        SELECT 1 FROM jsonb_each(c.checkpoint -> 'channel_values') AS v
        CROSS JOIN LATERAL (
            SELECT 1 FROM {s}.checkpoint_blobs AS b
            WHERE b.thread_id = c.thread_id AND b.checkpoint_ns = c.checkpoint_ns AND b.channel = v.key
                AND b.version = c.checkpoint -> 'channel_versions' ->> v.key
            LIMIT 1
        ) AS snapshot
        WHERE v.value = 'true'
    )
)
ORDER BY 1";

/// Per namespace: the newest checkpoint, the parent that it still reads pending sends from (layouts
/// before 4), and the root graph's checkpoint that a subgraph's call started from, where that is stored.
/// Rows are looked up one by one (`LIMIT 1`): a join would be planned from estimates that are worst for
/// the threads most in need of this.
const HEADS: &str = "
SELECT h.checkpoint_ns, h.checkpoint_id,
    CASE WHEN (c.checkpoint ->> 'v')::int < 4 AND EXISTS (
        SELECT 1 FROM {s}.checkpoint_writes AS w
        WHERE w.thread_id = $1 AND w.checkpoint_ns = h.checkpoint_ns
            AND w.checkpoint_id = c.parent_checkpoint_id AND w.channel = '__pregel_tasks'
    ) THEN c.parent_checkpoint_id END AS sends,
    r.checkpoint_id AS root
FROM (
    SELECT DISTINCT ON (checkpoint_ns) checkpoint_ns, checkpoint_id FROM {s}.checkpoints
    WHERE thread_id = $1 ORDER BY checkpoint_ns DESC, checkpoint_id DESC
) AS h
CROSS JOIN LATERAL (
    SELECT checkpoint, metadata, parent_checkpoint_id FROM {s}.checkpoints
    WHERE thread_id = $1 AND checkpoint_ns = h.checkpoint_ns AND checkpoint_id = h.checkpoint_id LIMIT 1
) AS c
LEFT JOIN LATERAL (
    SELECT checkpoint_id FROM {s}.checkpoints
    WHERE thread_id = $1 AND checkpoint_ns = '' AND checkpoint_id = c.metadata -> 'parents' ->> '' LIMIT 1
) AS r ON true";

const DELETE_CALLS: &str = "
WITH blobs AS (DELETE FROM {s}.checkpoint_blobs WHERE thread_id = $1 AND checkpoint_ns = ANY($2)),
writes AS (DELETE FROM {s}.checkpoint_writes WHERE thread_id = $1 AND checkpoint_ns = ANY($2))
DELETE FROM {s}.checkpoints WHERE thread_id = $1 AND checkpoint_ns = ANY($2)";

const DELETE_OLDER: &str = "
DELETE FROM {s}.checkpoints
WHERE thread_id = $1 AND checkpoint_ns = $2 AND checkpoint_id < $3 AND checkpoint_id IS DISTINCT FROM $4
RETURNING thread_id, checkpoint_ns, checkpoint_id,
    ARRAY(SELECT jsonb_object_keys(checkpoint -> 'channel_versions')) AS channels,
    ARRAY(SELECT value FROM jsonb_each_text(checkpoint -> 'channel_versions')) AS versions";

const DELETE_WRITES: &str = "
DELETE FROM {s}.checkpoint_writes WHERE thread_id = $1 AND checkpoint_ns = $2 AND checkpoint_id = ANY($3)";

const ORPHAN: &str = "
UPDATE {s}.checkpoints SET parent_checkpoint_id = NULL
WHERE thread_id = $1 AND checkpoint_ns = $2 AND parent_checkpoint_id = ANY($3)";

const REFERENCED: &str = "
SELECT DISTINCT v.key, v.value FROM {s}.checkpoints AS c
CROSS JOIN LATERAL jsonb_each_text(c.checkpoint -> 'channel_versions') AS v
WHERE c.thread_id = $1 AND c.checkpoint_ns = $2";

const DELETE_BLOBS: &str = "
DELETE FROM {s}.checkpoint_blobs AS b USING unnest($3::text[], $4::text[]) AS gone (channel, version)
WHERE b.thread_id = $1 AND b.checkpoint_ns = $2 AND b.channel = gone.channel AND b.version = gone.version";

/// Deletes everything of a thread; one that is not there is no error.
pub async fn delete_thread(
    connection: &mut PgConnection,
    schema: &Schema,
    thread_id: &str,
) -> Result<(), CheckpointError> {
    delete_threads(connection, schema, &[thread_id.to_owned()]).await
}

async fn delete_threads(
    connection: &mut PgConnection,
    schema: &Schema,
    thread_ids: &[String],
) -> Result<(), CheckpointError> {
    let query = sqlx::query(schema.sql(DELETE_THREADS)).bind(thread_ids);
    query.execute(connection).await.map(drop).map_err(failed("delete threads"))
}

/// Copies everything of a thread to another; what the target has already, stays.
pub async fn copy_thread(
    connection: &mut PgConnection,
    schema: &Schema,
    source: &str,
    target: &str,
) -> Result<(), CheckpointError> {
    let query = sqlx::query(schema.sql(COPY_THREAD)).bind(source).bind(target);
    query.execute(connection).await.map(drop).map_err(failed("copy a thread"))
}

/// Deletes the checkpoints that these runs made (by `run_id` in their metadata), with their writes and
/// the blobs that no other needs; of one thread, or (slowly: it reads every checkpoint) of all.
pub async fn delete_for_runs(
    connection: &mut PgConnection,
    schema: &Schema,
    run_ids: &[String],
    thread_id: Option<&str>,
) -> Result<(), CheckpointError> {
    if run_ids.is_empty() {
        return Ok(());
    }
    let query = sqlx::query(schema.sql(DELETE_RUNS)).bind(run_ids).bind(thread_id).persistent(false);
    let rows = query.fetch_all(&mut *connection).await.map_err(failed("delete runs"))?;
    for ((thread_id, ns), gone) in Gone::by_namespace(&rows).map_err(failed("delete runs"))? {
        sweep(connection, schema, &thread_id, &ns, &gone).await?;
    }
    Ok(())
}

/// Cuts threads to what the strategy leaves; a checkpoint that stays without its parent gets none. Where
/// one of the threads cannot be cut to its latest checkpoint, none is.
pub async fn prune(
    connection: &mut PgConnection,
    schema: &Schema,
    thread_ids: &[String],
    strategy: Strategy,
) -> Result<(), CheckpointError> {
    if thread_ids.is_empty() {
        return Ok(());
    }
    if strategy == Strategy::Delete {
        return delete_threads(connection, schema, thread_ids).await;
    }
    let spread: Vec<String> = sqlx::query_scalar(schema.sql(DELTA_THREADS))
        .bind(thread_ids)
        .persistent(false)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("look for what a prune would lose"))?;
    if !spread.is_empty() {
        return Err(CheckpointError::DeltaChannel(spread));
    }
    for thread_id in thread_ids {
        keep_latest(connection, schema, thread_id).await?;
    }
    Ok(())
}

async fn keep_latest(connection: &mut PgConnection, schema: &Schema, thread_id: &str) -> Result<(), CheckpointError> {
    let error = || failed("prune a thread");
    let query = sqlx::query_as::<_, Head>(schema.sql(HEADS)).bind(thread_id).persistent(false);
    let heads = query.fetch_all(&mut *connection).await.map_err(error())?;
    let (calls, heads) = sort_out(heads);
    if !calls.is_empty() {
        let query = sqlx::query(schema.sql(DELETE_CALLS)).bind(thread_id).bind(calls).persistent(false);
        query.execute(&mut *connection).await.map_err(error())?;
    }
    for head in heads {
        let query = sqlx::query(schema.sql(DELETE_OLDER))
            .bind(thread_id)
            .bind(&head.checkpoint_ns)
            .bind(&head.checkpoint_id)
            .bind(&head.sends)
            .persistent(false);
        let rows = query.fetch_all(&mut *connection).await.map_err(error())?;
        for ((thread_id, ns), gone) in Gone::by_namespace(&rows).map_err(error())? {
            sweep(connection, schema, &thread_id, &ns, &gone).await?;
        }
    }
    Ok(())
}

/// The newest checkpoint of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
struct Head {
    checkpoint_ns: String,
    checkpoint_id: String,
    sends: Option<String>,
    root: Option<String>,
}

/// The namespaces that go, and the heads of those that stay.
///
/// A subgraph's call has a namespace of its own (`node:task`), which goes with the root checkpoint that
/// it started from; not before that one is stored, as a call can be stored first. A subgraph with a
/// memory of its own (`checkpointer=True`) has no task in its namespace and stays.
fn sort_out(heads: Vec<Head>) -> (Vec<String>, Vec<Head>) {
    let kept: Vec<String> = heads
        .iter()
        .filter(|head| head.checkpoint_ns.is_empty())
        .flat_map(|head| std::iter::once(head.checkpoint_id.clone()).chain(head.sends.clone()))
        .collect();
    let is_call =
        |head: &Head| head.checkpoint_ns.contains(':') && head.root.as_ref().is_some_and(|root| !kept.contains(root));
    let (calls, heads): (Vec<Head>, Vec<Head>) = heads.into_iter().partition(is_call);
    (calls.into_iter().map(|head| head.checkpoint_ns).collect(), heads)
}

/// Checkpoints of one namespace that were deleted.
#[derive(Debug, Default)]
struct Gone {
    checkpoint_ids: Vec<String>,
    /// The channels and versions that they named.
    versions: HashSet<(String, String)>,
}

impl Gone {
    /// In the order of threads and namespaces, so that two of these lock rows in the same order.
    fn by_namespace(rows: &[sqlx::postgres::PgRow]) -> Result<BTreeMap<(String, String), Self>, sqlx::Error> {
        let mut all = BTreeMap::<_, Self>::new();
        for row in rows {
            let gone = all.entry((row.try_get(0)?, row.try_get(1)?)).or_default();
            gone.checkpoint_ids.push(row.try_get(2)?);
            let (channels, versions): (Vec<String>, Vec<String>) = (row.try_get(3)?, row.try_get(4)?);
            gone.versions.extend(channels.into_iter().zip(versions));
        }
        Ok(all)
    }
}

/// What deleted checkpoints leave behind: their writes, their children's parent, and the blobs that no
/// checkpoint names any more.
async fn sweep(
    connection: &mut PgConnection,
    schema: &Schema,
    thread_id: &str,
    ns: &str,
    gone: &Gone,
) -> Result<(), CheckpointError> {
    let error = || failed("delete what checkpoints left behind");
    for template in [DELETE_WRITES, ORPHAN] {
        let query = sqlx::query(schema.sql(template)).bind(thread_id).bind(ns).bind(&gone.checkpoint_ids);
        query.persistent(false).execute(&mut *connection).await.map_err(error())?;
    }
    let referenced: Vec<(String, String)> = sqlx::query_as(schema.sql(REFERENCED))
        .bind(thread_id)
        .bind(ns)
        .persistent(false)
        .fetch_all(&mut *connection)
        .await
        .map_err(error())?;
    let referenced: HashSet<(String, String)> = referenced.into_iter().collect();
    let (channels, versions): (Vec<&str>, Vec<&str>) =
        gone.versions.difference(&referenced).map(|(channel, version)| (channel.as_str(), version.as_str())).unzip();
    if !channels.is_empty() {
        let query = sqlx::query(schema.sql(DELETE_BLOBS)).bind(thread_id).bind(ns).bind(channels).bind(versions);
        query.persistent(false).execute(&mut *connection).await.map_err(error())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(ns: &str, id: &str, root: Option<&str>) -> Head {
        Head { checkpoint_ns: ns.into(), checkpoint_id: id.into(), sends: None, root: root.map(Into::into) }
    }

    #[test]
    fn a_subgraphs_call_goes_with_the_root_checkpoint_it_started_from() {
        let heads = vec![
            head("", "9", None),
            head("node:old", "5", Some("4")),
            head("node:live", "8", Some("9")),
            head("node:early", "8", None),
            head("memory", "3", Some("2")),
        ];
        let (calls, kept) = sort_out(heads);
        assert_eq!(calls, ["node:old"]);
        assert_eq!(kept.len(), 4);
    }
}
