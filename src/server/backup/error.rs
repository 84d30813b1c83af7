//! Why there is no backup, or nothing was restored.

use crate::base::secret::SecretError;
use crate::server::ServerError;
use crate::store::postgres::PostgresError;
use std::io;
use std::path::{Path, PathBuf};

/// The registry's folder, in the archive as in a data folder.
pub(super) const REGISTRY: &str = "registry";

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file or folder could not be read or written.
    #[error("{}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The server's database is not in the data folder.
    #[error("{} holds no Postgres that the server manages", .0.display())]
    NoPostgres(PathBuf),
    /// Something is there already.
    #[error("{} is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// The file is something else.
    #[error("{} is no backup of rapidclaw", path.display())]
    NotABackup {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What was written is not what was to be written.
    #[error("the backup was written and cannot be read back from {}", path.display())]
    Unreadable {
        /// Where it was.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Content of the registry is not what its name says.
    #[error("{} is not what its name says: the disk has lost or changed it", .0.display())]
    Damaged(PathBuf),
    /// A later version wrote it.
    #[error("{} was written by rapidclaw {version}, which is newer", path.display())]
    Newer {
        /// Which.
        path: PathBuf,
        /// By which.
        version: String,
    },
    /// The key that the secrets are sealed with is not there.
    #[error("the key file {} is not there", .0.display())]
    NoKey(PathBuf),
    /// It is another server's key.
    #[error("the key file {} is not the one that the backup's secrets are sealed with", .0.display())]
    WrongKey(PathBuf),
    /// The key file.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Postgres.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The data folder is in use, or cannot be used.
    #[error(transparent)]
    Server(#[from] Box<ServerError>),
}

pub(super) fn io_at(path: &Path) -> impl FnOnce(io::Error) -> BackupError + '_ {
    move |source| BackupError::Io { path: path.to_owned(), source }
}
