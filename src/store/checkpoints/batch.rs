//! Writing: the operations of one or several runs, as parts of one statement (`store/batches.rs`).

use super::error::CheckpointError;
use crate::runner::protocol::{Checkpoint, Writes};
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

/// What a runner asks to have stored.
#[derive(Debug, Clone)]
pub enum Op {
    /// A checkpoint with the blobs that are new in it.
    Checkpoint(Box<Checkpoint>),
    /// Writes of a task.
    Writes(Writes),
}

/// What an operation takes beside its values: keys, ids, the columns' share.
const OVERHEAD: usize = 256;

impl Op {
    /// Roughly the bytes that it holds and that a statement carries for it.
    pub fn bytes(&self) -> usize {
        let values = match self {
            Self::Checkpoint(body) => {
                let blobs =
                    body.blobs.iter().map(|(_, _, _, blob)| blob.as_ref().map_or(0, |blob| blob.len()) + OVERHEAD);
                body.checkpoint.len() + body.metadata.len() + blobs.sum::<usize>()
            }
            Self::Writes(body) => body.writes.iter().map(|(_, _, _, blob)| blob.len() + OVERHEAD).sum(),
        };
        values + OVERHEAD
    }
}

/// Parameters of [`changes`].
pub(in crate::store) const PARAMETERS: usize = 34;

/// Checkpoints, blobs and writes as parts of one statement: each array is a column, and the first of each part
/// says which of the batch's attempts a row is of. Postgres carries out every part, though nothing reads from
/// them. `live` says whether the attempt `new.attempt` may write.
pub(in crate::store) fn changes(live: &str) -> String {
    let writes = "
    INSERT INTO {s}.checkpoint_writes
        (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
    SELECT thread_id, ns, checkpoint_id, task_id, task_path, idx, channel, type, blob";
    let new_writes = "AS new (attempt, thread_id, ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)";
    format!(
        "blobs AS (
    INSERT INTO {{s}}.checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
    SELECT thread_id, ns, channel, version, type, blob
    FROM unnest($1::int4[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[])
        AS new (attempt, thread_id, ns, channel, version, type, blob)
    WHERE {live}
    ON CONFLICT (thread_id, checkpoint_ns, channel, version) DO NOTHING
), writes AS ({writes}
    FROM unnest($8::int4[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::int4[], $15::text[],
        $16::text[], $17::bytea[]) {new_writes}
    WHERE {live}
    ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO NOTHING
), overwrites AS (
    -- Writes to the special channels (error, interrupt, resume), which replace what is there.{writes}
    FROM unnest($18::int4[], $19::text[], $20::text[], $21::text[], $22::text[], $23::text[], $24::int4[], $25::text[],
        $26::text[], $27::bytea[]) {new_writes}
    WHERE {live}
    ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
    DO UPDATE SET channel = excluded.channel, type = excluded.type, blob = excluded.blob
), checkpoints AS (
    INSERT INTO {{s}}.checkpoints
        (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
    SELECT thread_id, ns, checkpoint_id, parent_id, checkpoint::jsonb, metadata::jsonb
    FROM unnest($28::int4[], $29::text[], $30::text[], $31::text[], $32::text[], $33::text[], $34::text[])
        AS new (attempt, thread_id, ns, checkpoint_id, parent_id, checkpoint, metadata)
    WHERE {live}
    ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id)
    DO UPDATE SET checkpoint = excluded.checkpoint, metadata = excluded.metadata
)"
    )
}

/// Stores the operations as if one after the other, in their order, whoever sent them.
#[cfg(test)]
pub async fn apply<'a>(
    connection: &mut sqlx::PgConnection,
    schema: &super::Schema,
    ops: impl IntoIterator<Item = &'a Op>,
) -> Result<(), CheckpointError> {
    let rows = Rows::of(ops.into_iter().map(|op| (1, op)))?;
    let sql = schema.sql(&format!("WITH {} SELECT 1", changes("true")));
    let query = rows.bind(sqlx::query(sql)).execute(connection).await;
    query.map(drop).map_err(super::error::failed("store checkpoints"))
}

/// The columns of what a batch leaves behind: each key of an attempt once, as one statement can touch a row only
/// once. Of the attempts at one thread one at most is live.
#[derive(Debug, Default)]
pub(in crate::store) struct Rows<'a> {
    checkpoints: CheckpointColumns<'a>,
    blobs: BlobColumns<'a>,
    kept_writes: WriteColumns<'a>,
    overwrites: WriteColumns<'a>,
}

#[derive(Debug, Default)]
struct CheckpointColumns<'a> {
    attempt: Vec<i32>,
    thread_id: Vec<&'a str>,
    ns: Vec<&'a str>,
    checkpoint_id: Vec<&'a str>,
    parent_id: Vec<Option<&'a str>>,
    checkpoint: Vec<&'a str>,
    metadata: Vec<&'a str>,
}

#[derive(Debug, Default)]
struct BlobColumns<'a> {
    attempt: Vec<i32>,
    thread_id: Vec<&'a str>,
    ns: Vec<&'a str>,
    channel: Vec<&'a str>,
    version: Vec<&'a str>,
    kind: Vec<&'a str>,
    blob: Vec<Option<&'a [u8]>>,
}

#[derive(Debug, Default)]
struct WriteColumns<'a> {
    attempt: Vec<i32>,
    thread_id: Vec<&'a str>,
    ns: Vec<&'a str>,
    checkpoint_id: Vec<&'a str>,
    task_id: Vec<&'a str>,
    task_path: Vec<&'a str>,
    idx: Vec<i32>,
    channel: Vec<&'a str>,
    kind: Vec<&'a str>,
    blob: Vec<&'a [u8]>,
}

/// What becomes of one key of `checkpoint_writes`.
struct Write<'a> {
    attempt: i32,
    of: &'a Writes,
    /// The path of the operation that came first: that one makes the row, and updates leave the path.
    task_path: &'a str,
    row: &'a (i32, String, String, serde_bytes::ByteBuf),
    overwrite: bool,
}

impl<'a> Rows<'a> {
    /// Each operation with the attempt that sent it.
    pub(in crate::store) fn of(ops: impl IntoIterator<Item = (i32, &'a Op)>) -> Result<Self, CheckpointError> {
        let mut rows = Self::default();
        let (mut checkpoints, mut blobs, mut writes) = (Keyed::default(), Keyed::default(), Keyed::default());
        for (attempt, op) in ops {
            match op {
                Op::Checkpoint(new) => {
                    let key = (attempt, new.thread_id.as_str(), new.ns.as_str(), new.checkpoint_id.as_str());
                    // A second put replaces checkpoint and metadata, not the parent.
                    checkpoints.of(key, || (new.parent_id.as_deref(), new)).1 = new;
                    for blob in &new.blobs {
                        // A version's value never changes: the first stays.
                        blobs.of((attempt, key.1, key.2, blob.0.as_str(), blob.1.as_str()), || blob);
                    }
                }
                Op::Writes(new) => {
                    let task = (attempt, new.thread_id.as_str(), new.ns.as_str(), new.checkpoint_id.as_str());
                    for row in &new.writes {
                        let key = (task, new.task_id.as_str(), row.0);
                        let first =
                            || Write { attempt, of: new, task_path: &new.task_path, row, overwrite: new.overwrite };
                        let write = writes.of(key, first);
                        if new.overwrite {
                            (write.row, write.overwrite) = (row, true);
                        }
                    }
                }
            }
        }
        for ((attempt, thread_id, ns, checkpoint_id), (parent_id, new)) in checkpoints.in_order {
            rows.checkpoints.attempt.push(attempt);
            rows.checkpoints.push(thread_id, ns, checkpoint_id, parent_id, new)?;
        }
        for ((attempt, thread_id, ns, channel, version), (_, _, kind, blob)) in blobs.in_order {
            rows.blobs.attempt.push(attempt);
            rows.blobs.push(thread_id, ns, channel, version, kind, blob.as_deref().map(Vec::as_slice));
        }
        for (_, write) in writes.in_order {
            if write.overwrite { &mut rows.overwrites } else { &mut rows.kept_writes }.push(&write);
        }
        Ok(rows)
    }

    /// As the parameters of [`changes`].
    pub(in crate::store) fn bind<'q>(
        &'q self,
        query: Query<'q, Postgres, PgArguments>,
    ) -> Query<'q, Postgres, PgArguments> {
        let (blobs, checkpoints) = (&self.blobs, &self.checkpoints);
        let query = query
            .bind(&blobs.attempt)
            .bind(&blobs.thread_id)
            .bind(&blobs.ns)
            .bind(&blobs.channel)
            .bind(&blobs.version)
            .bind(&blobs.kind)
            .bind(&blobs.blob);
        let query = self.overwrites.bind(self.kept_writes.bind(query));
        query
            .bind(&checkpoints.attempt)
            .bind(&checkpoints.thread_id)
            .bind(&checkpoints.ns)
            .bind(&checkpoints.checkpoint_id)
            .bind(&checkpoints.parent_id)
            .bind(&checkpoints.checkpoint)
            .bind(&checkpoints.metadata)
    }
}

impl<'a> CheckpointColumns<'a> {
    fn push(
        &mut self,
        thread_id: &'a str,
        ns: &'a str,
        checkpoint_id: &'a str,
        parent_id: Option<&'a str>,
        new: &'a Checkpoint,
    ) -> Result<(), CheckpointError> {
        let text = |part, json: &'a [u8]| {
            std::str::from_utf8(json)
                .map_err(|_| CheckpointError::NotText { part, checkpoint_id: checkpoint_id.to_owned() })
        };
        self.thread_id.push(thread_id);
        self.ns.push(ns);
        self.checkpoint_id.push(checkpoint_id);
        self.parent_id.push(parent_id);
        self.checkpoint.push(text("value", &new.checkpoint)?);
        self.metadata.push(text("metadata", &new.metadata)?);
        Ok(())
    }
}

impl<'a> BlobColumns<'a> {
    fn push(
        &mut self,
        thread_id: &'a str,
        ns: &'a str,
        channel: &'a str,
        version: &'a str,
        kind: &'a str,
        blob: Option<&'a [u8]>,
    ) {
        self.thread_id.push(thread_id);
        self.ns.push(ns);
        self.channel.push(channel);
        self.version.push(version);
        self.kind.push(kind);
        self.blob.push(blob);
    }
}

impl<'a> WriteColumns<'a> {
    fn bind<'q>(&'q self, query: Query<'q, Postgres, PgArguments>) -> Query<'q, Postgres, PgArguments> {
        query
            .bind(&self.attempt)
            .bind(&self.thread_id)
            .bind(&self.ns)
            .bind(&self.checkpoint_id)
            .bind(&self.task_id)
            .bind(&self.task_path)
            .bind(&self.idx)
            .bind(&self.channel)
            .bind(&self.kind)
            .bind(&self.blob)
    }

    fn push(&mut self, write: &Write<'a>) {
        let (idx, channel, kind, blob) = write.row;
        self.attempt.push(write.attempt);
        self.thread_id.push(&write.of.thread_id);
        self.ns.push(&write.of.ns);
        self.checkpoint_id.push(&write.of.checkpoint_id);
        self.task_id.push(&write.of.task_id);
        self.task_path.push(write.task_path);
        self.idx.push(*idx);
        self.channel.push(channel);
        self.kind.push(kind);
        self.blob.push(blob);
    }
}

/// A map that remembers the order in which its keys came.
struct Keyed<K, V> {
    places: HashMap<K, usize>,
    in_order: Vec<(K, V)>,
}

impl<K, V> Default for Keyed<K, V> {
    fn default() -> Self {
        Self { places: HashMap::new(), in_order: Vec::new() }
    }
}

impl<K: Copy + Eq + Hash, V> Keyed<K, V> {
    /// The value of `key`, which is `first` where the key is new.
    fn of(&mut self, key: K, first: impl FnOnce() -> V) -> &mut V {
        let place = match self.places.entry(key) {
            Entry::Occupied(there) => *there.get(),
            Entry::Vacant(free) => {
                self.in_order.push((key, first()));
                *free.insert(self.in_order.len() - 1)
            }
        };
        &mut self.in_order[place].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::checkpoints::tests::{checkpoint, writes};

    #[test]
    fn of_the_same_checkpoint_the_last_wins_and_the_first_ones_parent_stays() {
        let mut first = checkpoint("t", "", "1", None);
        first.blobs = vec![("a".into(), "v1".into(), "msgpack".into(), Some(b"one".to_vec().into()))];
        let mut second = checkpoint("t", "", "1", Some("0"));
        second.metadata = b"{\"step\": 2}".to_vec().into();
        second.blobs = vec![("a".into(), "v1".into(), "msgpack".into(), Some(b"two".to_vec().into()))];
        let ops = [Op::Checkpoint(Box::new(first)), Op::Checkpoint(Box::new(second))];
        let rows = Rows::of(ops.iter().map(|op| (1, op))).unwrap();
        assert_eq!(rows.checkpoints.parent_id, [None]);
        assert_eq!(rows.checkpoints.metadata, ["{\"step\": 2}"]);
        assert_eq!(rows.blobs.blob, [Some(&b"one"[..])]);
    }

    #[test]
    fn attempts_at_one_thread_do_not_mix() {
        let (mut old, mut new) = (checkpoint("t", "", "1", None), checkpoint("t", "", "1", None));
        old.blobs = vec![("a".into(), "v1".into(), "msgpack".into(), Some(b"old".to_vec().into()))];
        new.blobs = vec![("a".into(), "v1".into(), "msgpack".into(), Some(b"new".to_vec().into()))];
        let ops = [Op::Checkpoint(Box::new(old)), Op::Checkpoint(Box::new(new))];
        let rows = Rows::of([(1, &ops[0]), (2, &ops[1])]).unwrap();
        assert_eq!((rows.checkpoints.attempt, rows.blobs.attempt), (vec![1, 2], vec![1, 2]));
        assert_eq!(rows.blobs.blob, [Some(&b"old"[..]), Some(&b"new"[..])]);
    }

    #[test]
    fn of_the_same_write_the_first_stays_unless_a_later_one_overwrites() {
        let path = |mut writes: Writes, path: &str| {
            writes.task_path = path.into();
            Op::Writes(writes)
        };
        let ops = [
            path(writes("t", "1", "task", false, &[(0, "x", b"first"), (1, "y", b"kept")]), "p1"),
            path(writes("t", "1", "task", true, &[(0, "x", b"second")]), "p2"),
            path(writes("t", "1", "task", false, &[(0, "x", b"third"), (1, "y", b"late")]), "p3"),
        ];
        let rows = Rows::of(ops.iter().map(|op| (1, op))).unwrap();
        assert_eq!(rows.overwrites.blob, [b"second"]);
        assert_eq!(rows.overwrites.task_path, ["p1"]);
        assert_eq!(rows.kept_writes.blob, [b"kept"]);
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_before_postgres_sees_them() {
        let mut wrong = checkpoint("t", "", "1", None);
        wrong.metadata = vec![0xff].into();
        let error = Rows::of([(1, &Op::Checkpoint(Box::new(wrong)))]).unwrap_err();
        assert!(error.is_fault_of_data());
        assert_eq!(error.to_string(), "the metadata of checkpoint 1 is not UTF-8");
    }
}
