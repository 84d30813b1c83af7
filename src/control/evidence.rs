//! Why a rollout failed, with the replica's own last lines and without its secrets.

use super::Control;
use crate::api::control::RolloutFailure;
use crate::base::redact::Redactor;
use crate::runtime::ReplicaExit;
use uuid::Uuid;

/// How many lines are kept.
const LINES: usize = 50;
/// The runner's exit code when a graph cannot be loaded (`PROTOCOL.md`).
const LOAD_FAILED: i64 = 3;

/// What a replica did wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It could not be started.
    NotStarted(String),
    /// It ended.
    Exited(ReplicaExit),
    /// It refused the connection, or is not what it should be.
    Refused(String),
    /// It runs, and nothing moves in it.
    Hung(String),
    /// It was not ready in time.
    NotReady(std::time::Duration),
}

impl Fault {
    /// What became of a replica that had served, without what only its log may tell.
    pub fn in_words(&self) -> String {
        match self {
            Self::NotStarted(_) => "a replica could not be started".to_owned(),
            Self::Exited(exit) if exit.out_of_memory => "a replica ran out of memory".to_owned(),
            Self::Exited(exit) if exit.with_engine => "a replica ended with Docker Engine".to_owned(),
            Self::Exited(exit) => exit
                .code
                .map_or_else(|| "a replica ended".to_owned(), |code| format!("a replica ended with code {code}")),
            Self::Refused(_) => "a replica cannot be used".to_owned(),
            Self::Hung(how) => format!("a replica was hung: {how}"),
            Self::NotReady(limit) => format!("a replica was not ready within {} s", limit.as_secs()),
        }
    }
}

/// What lets a graph be loaded, by the error that its import ended with.
fn to_load(error: &str) -> &'static str {
    // The words of `EROFS` and of SQLite: a log file or a database beside the code.
    let writes = ["Read-only file system", "unable to open database file", "attempt to write a readonly database"];
    if writes.iter().any(|words| error.contains(words)) {
        return "a replica can write below /tmp alone, and that is gone with it: log to standard output; threads \
                need no checkpointer of their own, and \"database\": true gives the agent a Postgres database";
    }
    "run the graph's module with Python here; what it needs must be in the image"
}

impl Control {
    pub(super) async fn failure(&self, replica: Uuid, fault: &Fault, redactor: &Redactor) -> RolloutFailure {
        let log = self.runtime().last_lines(replica, LINES).await.unwrap_or_default();
        let log: Vec<String> = log.into_iter().map(|line| redactor.redact(line)).collect();
        let (code, message, hint) = match fault {
            Fault::NotStarted(why) => ("replica-not-started", format!("a replica could not be started: {why}"), None),
            Fault::Exited(exit) if exit.out_of_memory => (
                "out-of-memory",
                "a replica ran out of memory".to_owned(),
                Some("give it more: \"rapidclaw\": {\"resources\": {\"memory\": \"2GiB\"}}"),
            ),
            Fault::Exited(ReplicaExit { code: Some(LOAD_FAILED), .. }) => {
                let said = log.iter().rev().find_map(|line| line.strip_prefix("rapidclaw: "));
                let what = said.unwrap_or("a graph could not be loaded").to_owned();
                let hint = to_load(&what);
                ("graph-not-loaded", what, Some(hint))
            }
            Fault::Exited(exit) => {
                let code = exit.code.map_or_else(String::new, |code| format!(" with code {code}"));
                ("replica-exited", format!("a replica ended{code} before it was ready"), None)
            }
            Fault::Refused(why) => ("replica-refused", format!("a replica cannot be used: {why}"), None),
            Fault::Hung(how) => ("replica-hung", format!("a replica was hung: {how}"), None),
            Fault::NotReady(limit) if self.runtime().away_since().is_some() => (
                "engine-away",
                format!("a replica was not ready within {} s: Docker Engine cannot be reached", limit.as_secs()),
                Some("start Docker Engine again, then deploy again"),
            ),
            Fault::NotReady(limit) => (
                "not-ready",
                format!("a replica was not ready within {} s", limit.as_secs()),
                Some("if its graphs take longer to load, raise rapidclaw.rollout.ready_timeout"),
            ),
        };
        let hints = hint.map(str::to_owned).into_iter().collect();
        RolloutFailure { code: code.to_owned(), message: redactor.redact(message), log, hints }
    }
}

#[cfg(test)]
mod tests {
    use super::to_load;

    #[test]
    fn who_writes_beside_the_code_is_told_where_to() {
        for error in [
            "graph a: OSError: [Errno 30] Read-only file system: 'logs'",
            "graph a: sqlite3.OperationalError: unable to open database file",
        ] {
            assert!(to_load(error).contains("/tmp alone"), "{error}");
        }
        assert!(to_load("graph a: ModuleNotFoundError: No module named 'x'").contains("in the image"));
    }
}
