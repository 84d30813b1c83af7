//! The folders of replicas: sockets and secrets, in memory, behind a folder that only the server enters.
//!
//! `RUN/SERVER/REPLICA/{s,r}`. Paths of sockets have at most 108 bytes, so names are short.

use super::{ReplicaFolders, RuntimeError};
use crate::base::{env, paths};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;
use uuid::Uuid;

/// The uid and gid of everything in a replica.
pub const REPLICA_UID: u32 = 10001;

/// Where the server's folder lies in a replica.
pub const SERVER_SIDE: &str = "/run/rapidclaw/s";
/// Where its own lies in it.
pub const REPLICA_SIDE: &str = "/run/rapidclaw/r";

/// The folder that holds one server's replicas.
#[derive(Debug, Clone)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// Makes the server's own folder (0700): below `RAPIDCLAW_RUN_DIR`, else `/run/rapidclaw` or
    /// `$XDG_RUNTIME_DIR/rapidclaw` where that is in memory, else `/dev/shm`.
    pub fn ensure(server: Uuid) -> Result<Self, RuntimeError> {
        let base = base_dir();
        let short = server.simple().to_string();
        let path = base.join(&short[short.len() - 8..]);
        make(&base, 0o711)?;
        make(&path, 0o700)?;
        if !paths::in_memory(&path) {
            tracing::warn!(path = %path.display(), "replicas' secrets are written to a disk: set {} to a folder on a tmpfs", env::RUN_DIR);
        }
        Ok(Self(path))
    }

    /// The folders of one replica; [`RunDir::prepare`] makes them.
    pub fn folders(&self, replica: Uuid) -> ReplicaFolders {
        let base = self.replica(replica);
        ReplicaFolders { server: base.join("s"), replica: base.join("r") }
    }

    /// Makes the folders of one replica and writes what it is to know.
    pub fn prepare(&self, replica: Uuid, replica_json: &[u8]) -> Result<ReplicaFolders, RuntimeError> {
        let folders = self.folders(replica);
        make(&self.replica(replica), 0o711)?;
        make(&folders.server, 0o755)?;
        make(&folders.replica, 0o777)?;
        let path = folders.server.join("replica.json");
        paths::write_atomically(&path, replica_json, 0o644).map_err(|source| folder_error(&path, source))?;
        Ok(folders)
    }

    /// Removes all of one replica.
    pub fn discard(&self, replica: Uuid) {
        let path = self.replica(replica);
        if let Err(error) = std::fs::remove_dir_all(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            // What it was still writing goes with the next `discard_all_but`.
            tracing::debug!(path = %path.display(), %error, "a replica's folder stays for now");
        }
    }

    /// Removes the folders of all replicas but those named.
    pub fn discard_all_but(&self, keep: &HashSet<Uuid>) {
        let keep: HashSet<PathBuf> = keep.iter().map(|id| self.replica(*id)).collect();
        for entry in std::fs::read_dir(&self.0).into_iter().flatten().flatten() {
            if !keep.contains(&entry.path()) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Removes the server's own folder, where nothing is left in it.
    pub fn leave(&self) {
        let _ = std::fs::remove_dir(&self.0);
    }

    fn replica(&self, replica: Uuid) -> PathBuf {
        let name = replica.simple().to_string();
        self.0.join(&name[name.len() - 12..])
    }
}

/// Listens on a socket of the server's side, in place of whatever was there.
pub fn bind(folders: &ReplicaFolders, name: &str) -> Result<UnixListener, RuntimeError> {
    let path = folders.server.join(name);
    let bound = (|| {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
        Ok(listener)
    })();
    bound.map_err(|source| folder_error(&path, source))
}

/// The folder that holds those of all servers: `RAPIDCLAW_RUN_DIR`, else the usual place in memory.
pub fn base_dir() -> PathBuf {
    if let Some(given) = env::var(env::RUN_DIR) {
        return given.into();
    }
    let usual = if paths::is_root() {
        Some(PathBuf::from("/run/rapidclaw"))
    } else {
        std::env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("rapidclaw"))
    };
    usual.filter(|path| paths::in_memory(path)).unwrap_or_else(|| {
        let uid = rustix::process::geteuid().as_raw();
        PathBuf::from(if uid == 0 { "/dev/shm/rapidclaw".to_owned() } else { format!("/dev/shm/rapidclaw-{uid}") })
    })
}

fn make(path: &Path, mode: u32) -> Result<(), RuntimeError> {
    paths::ensure_dir(path, mode).map_err(|source| folder_error(path, source))
}

fn folder_error(path: &Path, source: std::io::Error) -> RuntimeError {
    RuntimeError::Folder { path: path.display().to_string(), source }
}
