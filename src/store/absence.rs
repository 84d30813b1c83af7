//! Whether a failure says that Postgres is away for now, and what may have happened before it went.

use super::StoreError;
use super::checkpoints::CheckpointError;
use std::borrow::Cow;
use std::io::ErrorKind;

impl StoreError {
    /// Whether the database could not do it just now: the same may succeed later.
    pub fn is_passing(&self) -> bool {
        self.is_away() || self.is_out_of_time()
    }

    /// Whether the database is away, or has no room: however often, the same is worth another try.
    pub fn is_away(&self) -> bool {
        self.sql().is_some_and(is_away)
    }

    /// Whether the statement took too long or too much memory: the database's, who may have had much else to do, or
    /// its own. The second time it is its own.
    pub fn is_out_of_time(&self) -> bool {
        self.sql().and_then(code).is_some_and(|code| matches!(code.as_ref(), "57014" | "53200"))
    }

    /// Whether it has more bytes than a message or a value of Postgres may have.
    pub fn is_too_large(&self) -> bool {
        match self.sql() {
            Some(sqlx::Error::Protocol(_)) => true,
            Some(error) => code(error).is_some_and(|code| code == "08P01" || code.starts_with("54")),
            None => false,
        }
    }

    /// Whether it is because the database's disk is full.
    pub fn is_disk_full(&self) -> bool {
        let full = |error: &sqlx::Error| code(error).is_some_and(|code| code == "53100");
        self.is_passing() && (self.sql().is_some_and(full) || super::postgres::is_full())
    }

    /// Whether the database went away after it was asked: nobody knows whether it was done.
    pub fn leaves_open_whether_done(&self) -> bool {
        match self.sql() {
            // These come when a connection is made, before anything is asked.
            Some(sqlx::Error::Io(error)) => !matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::PermissionDenied
            ),
            Some(sqlx::Error::Protocol(_)) => true,
            Some(sqlx::Error::Database(error)) => {
                error.code().is_some_and(|code| code.starts_with("08") || matches!(code.as_ref(), "57P01" | "57P02"))
            }
            _ => false,
        }
    }

    fn sql(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Sql(error) | Self::Checkpoints(CheckpointError::Database { source: error, .. }) => Some(error),
            _ => None,
        }
    }
}

impl CheckpointError {
    /// As [`StoreError::is_away`].
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Database { source, .. } if is_away(source))
    }
}

fn code(error: &sqlx::Error) -> Option<Cow<'_, str>> {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code)
}

/// A fault of the protocol is none of these: it says that a message was too large, or not what it should be, and the
/// next one will be the same.
fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => true,
        error => code(error).is_some_and(|code| is_away_code(&code)),
    }
}

/// Appendix A of Postgres' manual. Classes 08: the connection; 40: serialisation, deadlock; 53: no disk, no more
/// connections; 57: shut down, starting up. Beside them: a lock that was not to be had in time, and a transaction that
/// was ended because nothing happened in it (Postgres or we stood still). Not among them: what a message was too large
/// for, and a statement that took too long or too much memory.
fn is_away_code(code: &str) -> bool {
    let classes = ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class));
    classes && !matches!(code, "08P01" | "53200" | "57014") || matches!(code, "55P03" | "25P03")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn what_passes_and_what_may_have_been_done() {
        let io = |kind| StoreError::from(sqlx::Error::Io(io::Error::from(kind)));
        for kind in [ErrorKind::ConnectionRefused, ErrorKind::NotFound] {
            assert!(io(kind).is_passing() && !io(kind).leaves_open_whether_done(), "{kind:?}");
        }
        assert!(io(ErrorKind::UnexpectedEof).is_passing() && io(ErrorKind::UnexpectedEof).leaves_open_whether_done());
        let timed_out = StoreError::from(sqlx::Error::PoolTimedOut);
        assert!(timed_out.is_passing() && !timed_out.leaves_open_whether_done());
        assert!(!StoreError::from(sqlx::Error::RowNotFound).is_passing());
        assert!(!StoreError::RolloutUnderWay.is_passing());
        for code in ["57P01", "57P03", "40P01", "08006", "53300", "55P03", "25P03"] {
            assert!(is_away_code(code), "{code}");
        }
        for code in ["23505", "22P05", "42P01", "57014", "08P01", "53200", "54000"] {
            assert!(!is_away_code(code), "{code}");
        }
        let protocol = StoreError::from(sqlx::Error::Protocol("message size out of range".into()));
        assert!(protocol.is_too_large() && !protocol.is_passing() && protocol.leaves_open_whether_done());
    }
}
