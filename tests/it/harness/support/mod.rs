//! What tests of the gateway stand on: a real Postgres, real runner processes on their Unix sockets, and
//! the gateway's own side of them. No Docker.

#![allow(clippy::unwrap_used, dead_code, reason = "each test binary uses its part")]

pub mod counting;
pub mod process;
pub mod world;

use std::fmt::Debug;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The Python that has LangGraph and what the runner needs.
pub fn python() -> PathBuf {
    let named = std::env::var_os("RAPIDCLAW_TEST_PYTHON");
    let Some(named) = named else {
        panic!(
            "RAPIDCLAW_TEST_PYTHON names no Python with LangGraph: `scripts/test.sh` makes one and runs the tests with it"
        )
    };
    PathBuf::from(named)
}

/// Asks until the answer is right; panics with the last one after [`PATIENCE`].
pub async fn until<T: Debug, F: Future<Output = T>>(what: &str, ask: impl Fn() -> F, right: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask().await;
        if right(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: last seen {answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
