//! Postgres goes away for most of a minute while runs end: stopped, killed, frozen.

use super::stories;
use crate::support::until;
use crate::support::world::World;
use rapidclaw::gateway::route::RunLimits;
use rapidclaw::gateway::turn::TurnError;
use rapidclaw::store::postgres::{Managed, Options};
use rapidclaw::store::test_database::TestDatabase;
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// Longer than any time-out of the way to Postgres.
const AWAY: Duration = Duration::from_secs(45);

/// A Postgres of the test's own.
struct Own {
    folder: TempDir,
}

impl Own {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Postgres' user has to pass through.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        Self { folder }
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    async fn start(&self) -> Managed {
        // With fsync, as a server's: what is killed here must have kept what it said it had.
        Managed::ensure(&Options::new(self.data_dir())).await.unwrap()
    }

    /// The first process and its children.
    fn processes(&self) -> Vec<Pid> {
        let text = std::fs::read_to_string(self.data_dir().join("postgres/data/postmaster.pid")).unwrap_or_default();
        let Some(first) = text.lines().next().and_then(|pid| pid.parse::<i32>().ok()) else { return Vec::new() };
        let children = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        std::iter::once(first).chain(children).filter_map(Pid::from_raw).collect()
    }

    fn signal(&self, signal: Signal) {
        for process in self.processes() {
            let _ = kill_process(process, signal);
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
        self.signal(Signal::KILL);
    }
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    Stopped,
    Killed,
    Frozen,
}

async fn absent(how: How) {
    // Given a run whose gate is closed, one that waits behind it, and a Postgres of their own.
    let own = Own::new();
    let managed = own.start().await;
    let gate = tempfile::tempdir().unwrap();
    let open = gate.path().join("open");
    let world = World::on(TestDatabase::on(managed.clone()).await).await;
    let runner = stories(&world, 4, &[("STORY_GATE", open.to_str().unwrap())]).await;
    world.serve(&[&runner], RunLimits::default());
    let pool = world.pool();
    let count = |status: &'static str| async move {
        let sql = "SELECT count(*) FROM runs WHERE status = $1";
        sqlx::query_scalar::<_, i64>(sql).bind(status).fetch_one(pool).await.unwrap()
    };
    let ask = |graph: &'static str, thread: &'static str, message: &'static str| {
        let request = rapidclaw::api::chat::ChatRequest {
            thread_id: Some(thread.to_owned()),
            user_id: Some("ann".to_owned()),
            message: Some(message.to_owned()),
            graph: Some(graph.to_owned()),
            ..Default::default()
        };
        let (gateway, route) = (world.gateway.clone(), std::sync::Arc::clone(&world.route));
        tokio::spawn(async move { gateway.turn(route, request, None).await })
    };
    let first = ask("gated", "t", "hello");
    until("a run that is executed", || count("running"), |count| *count == 1).await;
    let second = ask("memory", "t", "again");
    until("a run that waits", || count("pending"), |count| *count == 1).await;

    // When Postgres goes away, and the first run ends meanwhile,
    match how {
        How::Stopped => managed.stop().await.unwrap(),
        How::Killed => own.signal(Signal::KILL),
        How::Frozen => own.signal(Signal::STOP),
    }
    std::fs::write(&open, "").unwrap();
    let third = ask("memory", "other", "hello");
    tokio::time::sleep(AWAY).await;
    assert!(!first.is_finished() && !second.is_finished(), "an end that is not committed is none");
    match how {
        How::Stopped | How::Killed => drop(own.start().await),
        How::Frozen => own.signal(Signal::CONT),
    }

    // then both end right once it is back, each in its one attempt, in their order, with nothing lost or twice.
    let back = tokio::time::timeout(Duration::from_secs(60), async { (first.await.unwrap(), second.await.unwrap()) });
    let (first, second) = back.await.expect("both are answered");
    assert_eq!(first.unwrap().answer.result.as_deref(), Some("heard 1: hello"));
    assert_eq!(second.unwrap().answer.result.as_deref(), Some("heard 2: hello"));
    let attempts: Vec<(i32, String, String)> = sqlx::query_as(
        "SELECT a.number, a.state, r.status FROM attempts a JOIN runs r ON r.id = a.run_id ORDER BY r.accepted_at",
    )
    .fetch_all(world.pool())
    .await
    .unwrap();
    let once = (1, "ended".to_owned(), "success".to_owned());
    assert_eq!(attempts[..2], [once.clone(), once]);
    // Who came meanwhile was turned away, or waited and was answered; never both.
    let said = match third.await.unwrap() {
        Ok(turn) => {
            assert_eq!(turn.answer.result.as_deref(), Some("heard 1: hello"));
            1
        }
        Err(TurnError::Store(error)) if error.is_passing() => 0,
        other => panic!("{other:?}"),
    };
    let next = format!("heard {}: hello", said + 1);
    assert_eq!(world.answer("memory", "other", "hello").await.result, Some(next));
    // And all goes on.
    assert_eq!(world.answer("memory", "t", "more").await.result.as_deref(), Some("heard 3: hello"));
    assert_eq!(count("running").await + count("pending").await, 0);
}

#[tokio::test]
async fn a_stopped_postgres_loses_no_run_that_ends_meanwhile() {
    absent(How::Stopped).await;
}

#[tokio::test]
async fn a_killed_postgres_loses_no_run_that_ends_meanwhile() {
    absent(How::Killed).await;
}

#[tokio::test]
async fn a_frozen_postgres_loses_no_run_that_ends_meanwhile() {
    absent(How::Frozen).await;
}

#[tokio::test]
async fn a_postgres_that_is_gone_for_long_holds_no_request_for_ever() {
    let own = Own::new();
    let world = World::on(TestDatabase::on(own.start().await).await).await;
    let runner = stories(&world, 1, &[]).await;
    world.serve(&[&runner], RunLimits::default());
    assert_eq!(world.answer("memory", "t", "hello").await.result.as_deref(), Some("heard 1: hello"));

    // Asked in the moment in which it freezes, and not told what became of it,
    own.signal(Signal::STOP);
    let request = rapidclaw::api::chat::ChatRequest {
        thread_id: Some("t".to_owned()),
        user_id: Some("ann".to_owned()),
        message: Some("again".to_owned()),
        graph: Some("memory".to_owned()),
        ..Default::default()
    };
    let turn = world.gateway.turn(std::sync::Arc::clone(&world.route), request, None);
    let turn = tokio::time::timeout(Duration::from_mins(3), turn).await.expect("no wait without an end");
    let Err(TurnError::InDoubt { run_id }) = turn else { panic!("{turn:?}") };

    // the run is made nevertheless, once.
    own.signal(Signal::CONT);
    let pool = world.pool();
    let status = || async move {
        let sql = "SELECT status FROM runs WHERE id = $1";
        sqlx::query_scalar::<_, String>(sql).bind(run_id).fetch_optional(pool).await.unwrap_or_default()
    };
    until("the run that was asked for", status, |status| status.as_deref() == Some("success")).await;
    assert_eq!(world.answer("memory", "t", "more").await.result.as_deref(), Some("heard 3: hello"));
}
