//! What a run's batch costs. Not a test of anything: `cargo nextest run --release --run-ignored only -E
//! 'test(measure)' --no-capture`.

use super::*;
use crate::store::checkpoints::batch::Rows;
use crate::store::postgres::{Managed, Options, pool};
use sqlx::{PgConnection, SqlStr};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A typical run: four checkpoints, eight blobs, six writes.
fn run_of(number: usize) -> Vec<Op> {
    let thread = format!("019a0000-0000-7000-8000-{number:012}");
    let value = vec![7_u8; 300];
    let mut ops = Vec::new();
    for step in 0..4 {
        let id = format!("1f0a0000-0000-6000-800{step}-{number:012}");
        let versions: Vec<String> =
            (0..8).map(|channel| format!("{:032}.{channel:016}", step.max(channel % 3))).collect();
        let named: Vec<(String, &str, Option<&[u8]>)> = (0..8)
            .map(|channel| {
                (format!("channel-{channel}"), versions[channel].as_str(), (channel / 2 == step).then_some(&value[..]))
            })
            .collect();
        let named: Vec<(&str, &str, Option<&[u8]>)> =
            named.iter().map(|(name, version, value)| (name.as_str(), *version, *value)).collect();
        let rows = [(0, "messages", &value[..]), (1, "branch:to:tools", &value[..16])];
        if step > 0 {
            ops.push(Op::Writes(writes(&thread, &id, "f2c1a0de-0000-5000-8000-000000000001", false, &rows)));
        }
        ops.push(Op::Checkpoint(Box::new(with(checkpoint(&thread, "", &id, None), &named))));
    }
    ops
}

const APART: [&str; 3] = [
    "INSERT INTO {s}.checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
     SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[])
     ON CONFLICT (thread_id, checkpoint_ns, channel, version) DO NOTHING",
    "INSERT INTO {s}.checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
     SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int4[], $7::text[], $8::text[], $9::bytea[])
     ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO NOTHING",
    "INSERT INTO {s}.checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
     SELECT a, b, c, d, e::jsonb, f::jsonb
     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) AS new (a, b, c, d, e, f)
     ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id)
     DO UPDATE SET checkpoint = excluded.checkpoint, metadata = excluded.metadata",
];

/// The same as [`apply`] with one statement a table.
async fn apply_apart(connection: &mut PgConnection, statements: &[SqlStr; 3], ops: &[Op]) {
    let rows = Rows::of(ops).unwrap();
    let (b, w, c) = (&rows.blobs, &rows.kept_writes, &rows.checkpoints);
    let blobs = sqlx::query(statements[0].clone()).bind(&b.thread_id).bind(&b.ns).bind(&b.channel).bind(&b.version);
    blobs.bind(&b.kind).bind(&b.blob).execute(&mut *connection).await.unwrap();
    let writes =
        sqlx::query(statements[1].clone()).bind(&w.thread_id).bind(&w.ns).bind(&w.checkpoint_id).bind(&w.task_id);
    let writes = writes.bind(&w.task_path).bind(&w.idx).bind(&w.channel).bind(&w.kind).bind(&w.blob);
    writes.execute(&mut *connection).await.unwrap();
    let checkpoints = sqlx::query(statements[2].clone()).bind(&c.thread_id).bind(&c.ns).bind(&c.checkpoint_id);
    let checkpoints = checkpoints.bind(&c.parent_id).bind(&c.checkpoint).bind(&c.metadata);
    checkpoints.execute(&mut *connection).await.unwrap();
}

/// How a run is committed.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// One statement in a transaction.
    Whole,
    /// A statement a table in a transaction.
    Apart,
    /// One statement that is its own transaction.
    Bare,
    /// Eight runs in one statement in a transaction.
    Eight,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; seconds of load"]
async fn measure_commits() {
    measure(true).await;
    measure(false).await;
}

async fn measure(durable: bool) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let options = Options { durable, ..Options::new(folder.path().join("data")) };
    let server = Managed::ensure(&options).await.unwrap();
    let schema = Schema::new("agent").unwrap();
    let pool = pool(server.connect_options(), 16);
    ensure_schema(&pool, &schema).await.unwrap();
    let statements = APART.map(|template| schema.sql(template));
    let next = AtomicUsize::new(0);
    for round in 0..3 {
        for committers in [1, 8] {
            for way in [Way::Whole, Way::Apart, Way::Bare, Way::Eight] {
                let started = Instant::now();
                let done = AtomicUsize::new(0);
                let work = async || {
                    while started.elapsed() < Duration::from_secs(3) {
                        let runs = if matches!(way, Way::Eight) { 8 } else { 1 };
                        let first = next.fetch_add(runs, Ordering::Relaxed);
                        let ops: Vec<Op> = (first..first + runs).flat_map(run_of).collect();
                        match way {
                            Way::Bare => apply(&mut pool.acquire().await.unwrap(), &schema, &ops).await.unwrap(),
                            Way::Apart => {
                                let mut transaction = pool.begin().await.unwrap();
                                apply_apart(&mut transaction, &statements, &ops).await;
                                transaction.commit().await.unwrap();
                            }
                            Way::Whole | Way::Eight => store(&pool, &schema, &ops).await,
                        }
                        done.fetch_add(runs, Ordering::Relaxed);
                    }
                };
                futures_util::future::join_all((0..committers).map(|_| work())).await;
                let rate = done.into_inner() * 1_000 / usize::try_from(started.elapsed().as_millis()).unwrap();
                say(&format!("durable {durable}, round {round}, {committers} committers, {way:?}: {rate} runs/s"));
            }
        }
    }
    pool.close().await;
    server.stop().await.unwrap();
}

/// A measurement tells its figures.
fn say(line: &str) {
    use std::io::Write as _;
    writeln!(std::io::stderr(), "{line}").unwrap();
}
