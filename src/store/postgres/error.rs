//! What can go wrong on the way to a Postgres.

use crate::base::disk;
use crate::runtime::RuntimeError;
use crate::runtime::docker::programs::ProgramsError;
use std::path::{Path, PathBuf};

/// Why there is no Postgres to work with.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No folder of this machine holds `initdb`, `pg_ctl` and `postgres`.
    #[error("no Postgres on this machine (looked for initdb, pg_ctl and postgres in {looked})")]
    NoBinaries {
        /// Where.
        looked: String,
    },
    /// Its image is not in the engine either, and cannot be got.
    #[error("{missing}the image {image} cannot be used")]
    NoImage {
        /// Which.
        image: String,
        /// What the machine lacks, and a comma; empty where the image was asked for.
        missing: String,
        /// Why.
        source: Box<ProgramsError>,
    },
    /// The image holds another version than the one that made the data folder.
    #[error("{} was made by Postgres {data}, and the image {image} holds another version", folder.display())]
    OtherImage {
        /// The data folder.
        folder: PathBuf,
        /// Its version.
        data: u32,
        /// The image.
        image: String,
    },
    /// The image holds no Postgres that will do.
    #[error("the image {image} holds no Postgres {} or newer (it says {said:?})", super::options::MIN_MAJOR)]
    NotPostgres {
        /// Which.
        image: String,
        /// What its program says.
        said: String,
    },
    /// The engine did not run it.
    #[error("could not {doing}")]
    Container {
        /// What was tried.
        doing: &'static str,
        /// Why.
        source: RuntimeError,
    },
    /// Postgres refuses root, and there is no user for it.
    #[error("postgres does not run as root, and this machine has no user named postgres")]
    NoAccount,
    /// A folder or file of the managed Postgres could not be made, read or written.
    #[error("could not use {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The disk of its data is full, or too small for a new one.
    #[error(
        "the disk of {} is full: {} free{}",
        path.display(),
        disk::size(*free),
        needed.map(|needed| format!(", and a new Postgres needs {}", disk::size(needed))).unwrap_or_default()
    )]
    DiskFull {
        /// The data folder.
        path: PathBuf,
        /// Bytes that are free.
        free: u64,
        /// Bytes that it needs, where it is not made yet.
        needed: Option<u64>,
    },
    /// The user that Postgres runs as may not pass a folder above its data.
    #[error("user {account} cannot enter {}, which lies above {}", folder.display(), data.display())]
    NotEnterable {
        /// The folder in the way.
        folder: PathBuf,
        /// Where Postgres' data shall lie.
        data: PathBuf,
        /// Who cannot enter.
        account: String,
    },
    /// The data belong to another user.
    #[error("{} belongs to user id {owner}, and this process runs as {we}", path.display())]
    ForeignOwner {
        /// Whose folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Our user id.
        we: u32,
    },
    /// The path of the socket exceeds what the kernel takes.
    #[error("the socket's path {} is longer than {} bytes", path.display(), super::cluster::MAX_SOCKET_PATH)]
    SocketPath {
        /// Which.
        path: PathBuf,
    },
    /// No binaries of the version that made the data folder.
    #[error("{} was made by Postgres {data}, and this machine has {}", folder.display(), list(binaries))]
    OtherVersion {
        /// The data folder.
        folder: PathBuf,
        /// Its version.
        data: u32,
        /// The versions at hand.
        binaries: Vec<u32>,
    },
    /// A program of Postgres or of the system could not be run.
    #[error("could not run {program}")]
    Program {
        /// Which.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// A program of Postgres failed.
    #[error("{program} failed: {said}")]
    Failed {
        /// Which.
        program: String,
        /// Its last lines.
        said: String,
    },
    /// Postgres ended while it started.
    #[error("postgres did not start; its log ends with:\n{log}")]
    Start {
        /// The log's last lines.
        log: String,
    },
    /// It took too long.
    #[error("{what} took longer than {seconds} s{}", tail(log))]
    TimedOut {
        /// What did.
        what: &'static str,
        /// The limit.
        seconds: u64,
        /// The log's last lines, where there are any.
        log: String,
    },
    /// The running Postgres refused us.
    #[error("the managed Postgres on {} refused the connection", socket.display())]
    Refused {
        /// Its socket's folder.
        socket: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
    /// A statement of the set-up failed.
    #[error("could not {action}")]
    Statement {
        /// What was tried.
        action: &'static str,
        /// Why.
        source: sqlx::Error,
    },
    /// The database's URL cannot be read. It is not repeated: it may hold a password.
    #[error("the database URL is not of the form postgres://USER:PASSWORD@HOST:PORT/DATABASE")]
    Url,
    /// The database given does not answer, or refuses us.
    #[error("could not connect to the database at {address}")]
    Connect {
        /// Host, port and database, without user and password.
        address: String,
        /// Why.
        source: sqlx::Error,
    },
    /// The database given is older than what our statements need.
    #[error("the database at {address} is Postgres {version}; {} or newer is needed", super::options::MIN_MAJOR)]
    TooOld {
        /// Host, port and database.
        address: String,
        /// Its version.
        version: String,
    },
    /// The database given cannot hold every text.
    #[error("the database at {address} has the encoding {encoding}; UTF8 is needed")]
    NotUtf8 {
        /// Host, port and database.
        address: String,
        /// Its encoding.
        encoding: String,
    },
}

impl PostgresError {
    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoBinaries { .. } if cfg!(target_os = "macos") => {
                "install it with `brew install postgresql@17`, or name a database of yours in DATABASE_URL".to_owned()
            }
            Self::NoBinaries { .. } => "install it with `apt-get install postgresql` (`dnf install postgresql-server`, \
                 `apk add postgresql`; a cluster that the package makes is not used), or name a database of yours in DATABASE_URL"
                .to_owned(),
            Self::NoImage { image, .. } => format!(
                "install Postgres (`apt-get install postgresql`), fetch the image where a registry can be reached (`docker pull {image}`), \
                 name one that is there with --postgres-image, or name a database of yours in DATABASE_URL"
            ),
            Self::OtherImage { data, .. } => format!("name an image of Postgres {data}: --postgres-image postgres:{data}"),
            Self::NotPostgres { .. } => "name an official image of Postgres: --postgres-image postgres:17".to_owned(),
            Self::Container { source: RuntimeError::Unreachable(_), .. } => {
                "see whether Docker Engine runs: `docker version`".to_owned()
            }
            Self::DiskFull { .. } => {
                "make room on that disk (`df -h` shows it), or choose a data folder on another one with --data-dir".to_owned()
            }
            Self::NoAccount => "make the user with `useradd --system postgres`, or run the server as another user than root".to_owned(),
            Self::NotEnterable { folder, .. } => format!(
                "`chmod o+x {}`, or choose another data folder with {}",
                folder.display(),
                crate::base::env::DATA_DIR
            ),
            Self::ForeignOwner { path, .. } => format!(
                "run the server as the user who owns {}, as root, or with another data folder",
                path.display()
            ),
            Self::SocketPath { .. } => "choose a data folder with a shorter path".to_owned(),
            Self::OtherVersion { data, folder, .. } => format!(
                "install Postgres {data} beside the other (`apt-get install postgresql-{data}`), or move {} with pg_upgrade",
                folder.display()
            ),
            Self::Start { log } | Self::TimedOut { log, .. } | Self::Failed { said: log, .. } => return remedy(log),
            Self::Connect { source: sqlx::Error::Tls(_), .. } => {
                "this build speaks to Postgres without TLS: use sslmode=disable over a private network or a socket".to_owned()
            }
            Self::Connect { .. } => "check host, port, user, password and database in DATABASE_URL".to_owned(),
            Self::TooOld { .. } | Self::NotUtf8 { .. } => "use a newer database made with ENCODING 'UTF8'".to_owned(),
            Self::Container { .. } | Self::Folder { .. } | Self::Program { .. } | Self::Refused { .. } | Self::Statement { .. } | Self::Url => return None,
        };
        Some(hint)
    }

    /// The same, or that the disk of `data_dir` is full, where that is what it comes from: programs bury it in words
    /// about what they were doing.
    pub(super) fn on_disk(self, data_dir: &Path) -> Self {
        let full = match &self {
            Self::Folder { source, .. } => {
                matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
            }
            Self::Failed { said: words, .. } | Self::Start { log: words } | Self::TimedOut { log: words, .. } => {
                disk::says_full(words)
            }
            _ => false,
        };
        if !full {
            return self;
        }
        Self::DiskFull { path: data_dir.to_owned(), free: disk::free_bytes(data_dir).unwrap_or_default(), needed: None }
    }

    /// Whether nothing but an installation by a human helps.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::NoBinaries { .. } | Self::NoAccount | Self::NoImage { .. })
    }
}

/// What the log's own words ask for.
fn remedy(log: &str) -> Option<String> {
    let known = [
        ("Permission denied", "give the folder back to the user that Postgres runs as"),
        ("could not map anonymous shared memory", "free memory: Postgres wants 128 MB of shared memory"),
        ("Read-only file system", "the data folder lies on a read-only file system: choose another"),
    ];
    known.iter().find(|(words, _)| log.contains(words)).map(|(_, hint)| (*hint).to_owned())
}

fn list(versions: &[u32]) -> String {
    versions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn tail(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!("; the log ends with:\n{log}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named_whatever_the_program_was_doing() {
        let full = "LC_MONETARY: C
could not write lock file \"postmaster.pid\": No space left on device";
        let folder = tempfile::tempdir().unwrap();
        for error in [
            PostgresError::Start { log: full.into() },
            PostgresError::Failed { program: "initdb".into(), said: full.into() },
            PostgresError::Folder { path: "/x".into(), source: std::io::ErrorKind::StorageFull.into() },
        ] {
            let error = error.on_disk(folder.path());
            assert!(matches!(error, PostgresError::DiskFull { .. }) && error.hint().is_some(), "{error}");
            assert!(!error.is_missing());
        }
        let other = PostgresError::Start { log: "FATAL: out of memory".into() };
        assert!(matches!(other.on_disk(folder.path()), PostgresError::Start { .. }));
    }

    #[test]
    fn missing_binaries_come_with_the_command() {
        let error = PostgresError::NoBinaries { looked: "PATH".into() };
        assert!(error.is_missing());
        assert!(error.hint().unwrap().contains("install postgresql"));
    }
}
