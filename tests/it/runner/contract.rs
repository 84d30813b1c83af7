//! The runner's contract, both versions: capabilities, sequence numbers, credit, chunks, reconnects.

mod bounds;
mod cuts;
mod proxy;

use crate::support::PATIENCE;
use crate::support::process::Process;
use crate::support::world::{Runner, World};
use proxy::Proxy;
use rapidclaw::base::ids;
use rapidclaw::gateway::replica::{Attachment, Replica};
use rapidclaw::runner::connection::Endpoint;
use std::sync::Arc;

/// `NAME` of `tests/python/projects/frames.py`.
const GRAPHS: [(&str, &str); 6] = [
    ("deep", "frames.py:deep"),
    ("deaf", "frames.py:deaf"),
    ("gated", "stories.py:gated"),
    ("keeping", "frames.py:keeping"),
    ("odd", "frames.py:odd"),
    ("stepping", "frames.py:stepping"),
];

/// The environment of a runner that speaks version 1.
const VERSION_1: (&str, &str) = ("RAPIDCLAW_CONTRACT", "1");

/// A runner that is reached through a proxy.
async fn behind_a_proxy(world: &World, env: &[(&str, &str)]) -> (Runner, Proxy) {
    let mut process = Process::runner(&GRAPHS, env);
    drop(process.connect().await);
    let proxy = Proxy::before(&process.endpoint().folder);
    let endpoint = Endpoint { folder: proxy.folder().to_owned(), ..process.endpoint() };
    let (ready, described) = tokio::sync::oneshot::channel();
    let (replica, connected) = Replica::attach(Attachment {
        id: ids::new_id(),
        capacity: 8,
        schema: Arc::clone(&world.schema),
        committer: world.gateway.committer().clone(),
        redactor: rapidclaw::base::redact::Redactor::default(),
        connection: endpoint.connect().await.unwrap(),
        endpoint,
        ready,
        dead: process.dead.clone(),
    });
    drop(tokio::spawn(connected));
    let described = tokio::time::timeout(PATIENCE, described).await;
    let Ok(Ok(describe)) = described else { panic!("not ready: {described:?}; log:\n{}", process.log()) };
    (Runner { replica, describe: serde_json::from_slice(&describe).unwrap(), process }, proxy)
}

/// Number and state of each attempt at the runs of a thread, and the log that its graph left.
async fn attempts(world: &World, thread: &str) -> Vec<(i32, String)> {
    let sql = "SELECT a.number, a.state FROM attempts a JOIN runs r ON r.id = a.run_id
               WHERE r.thread_id = $1 ORDER BY r.accepted_at, a.number";
    sqlx::query_as(sql).bind(ids::thread_id(thread)).fetch_all(world.pool()).await.unwrap()
}
