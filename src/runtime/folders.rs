//! The folders of replicas: sockets and secrets, in memory, behind a folder that only the server enters.
//!
//! `RUN/SERVER/REPLICA/{s,r}`. Paths of sockets have at most 108 bytes, so names are short.
//!
//! `r` is the one place outside of its container that a replica writes to. Where the server is root, and sees the
//! same files as the engine, it is a file system of its own of a few MiB; elsewhere nothing but the file system that
//! the run folder lies on bounds it.

mod removal;

use self::removal::remove_some;
use super::{ReplicaFolders, RuntimeError};
use crate::base::{env, paths};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::collections::HashSet;
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::sync::Notify;
use uuid::Uuid;

/// The uid and gid of everything in a replica.
pub const REPLICA_UID: u32 = 10001;

/// Where the server's folder lies in a replica.
pub const SERVER_SIDE: &str = "/run/rapidclaw/s";
/// Where its own lies in it.
pub const REPLICA_SIDE: &str = "/run/rapidclaw/r";

/// What a replica may write into its folder: two sockets, and what nobody asked for.
const OWN_BYTES: &str = "4m";
const OWN_NAMES: &str = "128";
/// Names that are removed in one turn: some tens of milliseconds.
const TURN: usize = 20_000;
/// What is to be removed is called so, with a number.
const GONE: &str = ".gone-";

/// The folder that holds one server's replicas. Clones are the same one.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
    /// Woken when something is left to remove.
    left: Arc<Notify>,
}

impl RunDir {
    /// Makes the server's own folder (0700): below `RAPIDCLAW_RUN_DIR`, else `/run/rapidclaw` or
    /// `$XDG_RUNTIME_DIR/rapidclaw` where that is in memory, else `/dev/shm`.
    pub fn ensure(server: Uuid) -> Result<Self, RuntimeError> {
        let base = base_dir();
        let short = server.simple().to_string();
        let path = base.join(&short[short.len() - 8..]);
        // Below /dev/shm anybody may have been first.
        for (folder, mode) in [(&base, 0o711), (&path, 0o700)] {
            paths::ensure_own_dir(folder, mode).map_err(|source| folder_error(folder, source))?;
        }
        if !paths::in_memory(&path) {
            tracing::warn!(path = %path.display(), "replicas' secrets are written to a disk: set {} to a folder on a tmpfs", env::RUN_DIR);
        }
        Ok(Self { path, left: Arc::default() })
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
        // One that is adopted has it already: that takes no room, where there is none.
        if std::fs::read(&path).is_ok_and(|known| known == replica_json) {
            return Ok(folders);
        }
        paths::write_atomically(&path, replica_json, 0o644).map_err(|source| folder_error(&path, source))?;
        Ok(folders)
    }

    /// Makes the replica's own folder a file system of its own. Says whether it is one.
    pub fn bound(&self, replica: Uuid) -> bool {
        let own = self.folders(replica).replica;
        if is_mount(&own) {
            return true;
        }
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let options = CString::new(format!("size={OWN_BYTES},nr_inodes={OWN_NAMES},mode=0777"));
        options.is_ok_and(|options| mount("rapidclaw", &own, "tmpfs", flags, options.as_c_str()).is_ok())
    }

    /// Takes that back.
    pub fn unbind(&self, replica: Uuid) {
        release(&self.replica(replica));
    }

    /// Removes all of one replica; what takes long goes with [`RunDir::clear`].
    pub async fn discard(&self, replica: Uuid) {
        if let Some(gone) = self.set_aside(&self.replica(replica)) {
            remove(gone).await;
        }
    }

    /// Removes the folders of all replicas but those named: from sight at once, their content with [`RunDir::clear`].
    pub fn discard_all_but(&self, keep: &HashSet<Uuid>) {
        let keep: HashSet<PathBuf> = keep.iter().map(|id| self.replica(*id)).collect();
        for path in self.entries().filter(|path| !keep.contains(path) && !is_gone(path)) {
            self.set_aside(&path);
        }
        if self.entries().any(|path| is_gone(&path)) {
            self.left.notify_one();
        }
    }

    /// Removes what is left of those that were discarded, turn by turn.
    pub async fn clear(&self) {
        for path in self.entries().filter(|path| is_gone(path)).collect::<Vec<_>>() {
            while remove(path.clone()).await {}
        }
    }

    /// Returns when [`RunDir::clear`] has something to do.
    pub async fn is_left(&self) {
        self.left.notified().await;
    }

    /// Removes the server's own folder, where nothing is left in it.
    pub fn leave(&self) {
        let _ = std::fs::remove_dir(&self.path);
    }

    /// Takes a folder out of sight. What is written to it by then goes with it.
    fn set_aside(&self, path: &Path) -> Option<PathBuf> {
        release(path);
        let gone = self.path.join(format!("{GONE}{}", Uuid::now_v7().simple()));
        match std::fs::rename(path, &gone) {
            Ok(()) => {
                self.left.notify_one();
                Some(gone)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "a replica's folder stays for now");
                None
            }
        }
    }

    fn entries(&self) -> impl Iterator<Item = PathBuf> + use<> {
        std::fs::read_dir(&self.path).into_iter().flatten().flatten().map(|entry| entry.path())
    }

    fn replica(&self, replica: Uuid) -> PathBuf {
        let name = replica.simple().to_string();
        self.path.join(&name[name.len() - 12..])
    }
}

/// One turn of a removal. Says whether there is more to do.
async fn remove(folder: PathBuf) -> bool {
    let shown = folder.display().to_string();
    match tokio::task::spawn_blocking(move || remove_some(&folder, TURN)).await {
        Ok(Ok(is_gone)) => !is_gone,
        Ok(Err(error)) => {
            tracing::debug!(path = shown, %error, "a replica's folder stays for now");
            false
        }
        Err(error) => {
            tracing::error!(path = shown, %error, "a replica's folder could not be removed");
            false
        }
    }
}

fn is_gone(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(GONE.as_bytes()))
}

/// Lets go of the file system in a replica's folder, however often it was mounted.
fn release(replica: &Path) {
    let own = replica.join("r");
    while is_mount(&own) && unmount(&own, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {}
}

/// Whether a file system of its own begins at this folder.
fn is_mount(path: &Path) -> bool {
    let device = |path: &Path| rustix::fs::lstat(path).map(|stat| stat.st_dev);
    let parent = path.parent().unwrap_or(path);
    matches!((device(path), device(parent)), (Ok(own), Ok(parent)) if own != parent)
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
