//! Writing: the operations of one or several runs, in one statement.

use super::{CheckpointError, Schema, failed};
use crate::runner::protocol::{Checkpoint, Writes};
use sqlx::PgConnection;
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

/// Checkpoints, blobs and writes in one round trip: each array is a column. Postgres carries out
/// every part, though nothing reads from them.
pub(super) const APPLY: &str = "
WITH blobs AS (
    INSERT INTO {s}.checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[])
    ON CONFLICT (thread_id, checkpoint_ns, channel, version) DO NOTHING
), writes AS (
    INSERT INTO {s}.checkpoint_writes
        (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
    SELECT * FROM unnest($7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::int4[], $13::text[],
        $14::text[], $15::bytea[])
    ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO NOTHING
)
INSERT INTO {s}.checkpoints
    (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
SELECT thread_id, checkpoint_ns, checkpoint_id, parent_id, checkpoint::jsonb, metadata::jsonb
FROM unnest($16::text[], $17::text[], $18::text[], $19::text[], $20::text[], $21::text[])
    AS new (thread_id, checkpoint_ns, checkpoint_id, parent_id, checkpoint, metadata)
ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id)
DO UPDATE SET checkpoint = excluded.checkpoint, metadata = excluded.metadata";

/// Writes to the special channels (error, interrupt, resume), which replace what is there. Seldom.
pub(super) const OVERWRITE: &str = "
INSERT INTO {s}.checkpoint_writes
    (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int4[], $7::text[], $8::text[],
    $9::bytea[])
ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
DO UPDATE SET channel = excluded.channel, type = excluded.type, blob = excluded.blob";

/// Stores the operations as if one after the other, in their order, in the caller's transaction.
pub async fn apply<'a>(
    connection: &mut PgConnection,
    schema: &Schema,
    ops: impl IntoIterator<Item = &'a Op>,
) -> Result<(), CheckpointError> {
    let rows = Rows::of(ops)?;
    let statements = schema.statements();
    if !rows.is_empty() {
        let (blobs, writes, checkpoints) = (&rows.blobs, &rows.kept_writes, &rows.checkpoints);
        sqlx::query(statements.apply.clone())
            .bind(&blobs.thread_id)
            .bind(&blobs.ns)
            .bind(&blobs.channel)
            .bind(&blobs.version)
            .bind(&blobs.kind)
            .bind(&blobs.blob)
            .bind(&writes.thread_id)
            .bind(&writes.ns)
            .bind(&writes.checkpoint_id)
            .bind(&writes.task_id)
            .bind(&writes.task_path)
            .bind(&writes.idx)
            .bind(&writes.channel)
            .bind(&writes.kind)
            .bind(&writes.blob)
            .bind(&checkpoints.thread_id)
            .bind(&checkpoints.ns)
            .bind(&checkpoints.checkpoint_id)
            .bind(&checkpoints.parent_id)
            .bind(&checkpoints.checkpoint)
            .bind(&checkpoints.metadata)
            .execute(&mut *connection)
            .await
            .map_err(failed("store checkpoints"))?;
    }
    let writes = &rows.overwrites;
    if !writes.thread_id.is_empty() {
        sqlx::query(statements.overwrite.clone())
            .bind(&writes.thread_id)
            .bind(&writes.ns)
            .bind(&writes.checkpoint_id)
            .bind(&writes.task_id)
            .bind(&writes.task_path)
            .bind(&writes.idx)
            .bind(&writes.channel)
            .bind(&writes.kind)
            .bind(&writes.blob)
            .execute(&mut *connection)
            .await
            .map_err(failed("store a task's writes"))?;
    }
    Ok(())
}

/// The columns of what a batch leaves behind: each key once, as one statement can touch a row only once.
#[derive(Debug, Default)]
pub(super) struct Rows<'a> {
    pub checkpoints: CheckpointColumns<'a>,
    pub blobs: BlobColumns<'a>,
    pub kept_writes: WriteColumns<'a>,
    pub overwrites: WriteColumns<'a>,
}

#[derive(Debug, Default)]
pub(super) struct CheckpointColumns<'a> {
    pub thread_id: Vec<&'a str>,
    pub ns: Vec<&'a str>,
    pub checkpoint_id: Vec<&'a str>,
    pub parent_id: Vec<Option<&'a str>>,
    pub checkpoint: Vec<&'a str>,
    pub metadata: Vec<&'a str>,
}

#[derive(Debug, Default)]
pub(super) struct BlobColumns<'a> {
    pub thread_id: Vec<&'a str>,
    pub ns: Vec<&'a str>,
    pub channel: Vec<&'a str>,
    pub version: Vec<&'a str>,
    pub kind: Vec<&'a str>,
    pub blob: Vec<Option<&'a [u8]>>,
}

#[derive(Debug, Default)]
pub(super) struct WriteColumns<'a> {
    pub thread_id: Vec<&'a str>,
    pub ns: Vec<&'a str>,
    pub checkpoint_id: Vec<&'a str>,
    pub task_id: Vec<&'a str>,
    pub task_path: Vec<&'a str>,
    pub idx: Vec<i32>,
    pub channel: Vec<&'a str>,
    pub kind: Vec<&'a str>,
    pub blob: Vec<&'a [u8]>,
}

/// What becomes of one key of `checkpoint_writes`.
struct Write<'a> {
    of: &'a Writes,
    /// The path of the operation that came first: that one makes the row, and updates leave the path.
    task_path: &'a str,
    row: &'a (i32, String, String, serde_bytes::ByteBuf),
    overwrite: bool,
}

impl<'a> Rows<'a> {
    pub(super) fn of(ops: impl IntoIterator<Item = &'a Op>) -> Result<Self, CheckpointError> {
        let mut rows = Self::default();
        let (mut checkpoints, mut blobs, mut writes) = (Keyed::default(), Keyed::default(), Keyed::default());
        for op in ops {
            match op {
                Op::Checkpoint(new) => {
                    let key = (new.thread_id.as_str(), new.ns.as_str(), new.checkpoint_id.as_str());
                    // A second put replaces checkpoint and metadata, not the parent.
                    checkpoints.of(key, || (new.parent_id.as_deref(), new)).1 = new;
                    for blob in &new.blobs {
                        // A version's value never changes: the first stays.
                        blobs.of((key.0, key.1, blob.0.as_str(), blob.1.as_str()), || blob);
                    }
                }
                Op::Writes(new) => {
                    let task = (new.thread_id.as_str(), new.ns.as_str(), new.checkpoint_id.as_str());
                    for row in &new.writes {
                        let key = (task, new.task_id.as_str(), row.0);
                        let first = || Write { of: new, task_path: &new.task_path, row, overwrite: new.overwrite };
                        let write = writes.of(key, first);
                        if new.overwrite {
                            (write.row, write.overwrite) = (row, true);
                        }
                    }
                }
            }
        }
        for ((thread_id, ns, checkpoint_id), (parent_id, new)) in checkpoints.in_order {
            rows.checkpoints.push(thread_id, ns, checkpoint_id, parent_id, new)?;
        }
        for ((thread_id, ns, channel, version), (_, _, kind, blob)) in blobs.in_order {
            rows.blobs.push(thread_id, ns, channel, version, kind, blob.as_deref().map(Vec::as_slice));
        }
        for (_, write) in writes.in_order {
            if write.overwrite { &mut rows.overwrites } else { &mut rows.kept_writes }.push(&write);
        }
        Ok(rows)
    }

    fn is_empty(&self) -> bool {
        self.checkpoints.thread_id.is_empty()
            && self.blobs.thread_id.is_empty()
            && self.kept_writes.thread_id.is_empty()
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
    fn push(&mut self, write: &Write<'a>) {
        let (idx, channel, kind, blob) = write.row;
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
        let rows = Rows::of(&ops).unwrap();
        assert_eq!(rows.checkpoints.parent_id, [None]);
        assert_eq!(rows.checkpoints.metadata, ["{\"step\": 2}"]);
        assert_eq!(rows.blobs.blob, [Some(&b"one"[..])]);
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
        let rows = Rows::of(&ops).unwrap();
        assert_eq!(rows.overwrites.blob, [b"second"]);
        assert_eq!(rows.overwrites.task_path, ["p1"]);
        assert_eq!(rows.kept_writes.blob, [b"kept"]);
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_before_postgres_sees_them() {
        let mut wrong = checkpoint("t", "", "1", None);
        wrong.metadata = vec![0xff].into();
        let error = Rows::of(&[Op::Checkpoint(Box::new(wrong))]).unwrap_err();
        assert!(error.is_fault_of_data());
        assert_eq!(error.to_string(), "the metadata of checkpoint 1 is not UTF-8");
    }
}
