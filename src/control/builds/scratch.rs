//! Folders in which what was sent lies while it is built: private, and gone with the build. Each is locked by the
//! process that builds in it, so that what a killed server left is told from what another one still uses.

use crate::base::paths;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The folder of all of them.
#[derive(Debug, Clone)]
pub struct Scratches(PathBuf);

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct Scratch {
    /// Removed on a thread that may block.
    folder: Option<TempDir>,
    /// Held open: the lock is its.
    lock: Option<File>,
}

impl Scratches {
    /// Makes the folder, where it is not there, and removes what nobody builds in. Blocks.
    pub fn open(folder: &Path) -> io::Result<Self> {
        paths::ensure_own_dir(folder, 0o700)?;
        // Nobody makes one meanwhile that has no lock yet.
        let all = File::open(folder)?;
        all.lock()?;
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let is_left = match File::open(&path).map(|file| file.try_lock()) {
                Ok(Err(TryLockError::WouldBlock)) => false,
                Ok(Ok(()) | Err(TryLockError::Error(_))) => true,
                Err(_) => continue,
            };
            if is_left && let Err(error) = std::fs::remove_dir_all(&path) {
                tracing::warn!(%error, path = %path.display(), "what a build has left cannot be removed");
            }
        }
        Ok(Self(folder.to_owned()))
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// A new one. Blocks.
    pub fn make(&self) -> io::Result<Scratch> {
        let all = File::open(&self.0)?;
        all.lock_shared()?;
        let private = std::fs::Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix("build-").permissions(private).tempdir_in(&self.0)?;
        let lock = File::open(folder.path())?;
        lock.lock()?;
        Ok(Scratch { folder: Some(folder), lock: Some(lock) })
    }
}

impl Scratch {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.as_ref().map_or(Path::new(""), TempDir::path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let (folder, lock) = (self.folder.take(), self.lock.take());
        let remove = move || {
            drop(folder);
            drop(lock);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_server_left_goes_and_what_another_uses_stays() {
        let folder = tempfile::tempdir().unwrap();
        let all = folder.path().join("builds");
        let first = Scratches::open(&all).unwrap();
        let used = first.make().unwrap();
        std::fs::write(used.path().join("x"), "x").unwrap();
        for path in [&all, used.path()] {
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700);
        }
        std::fs::create_dir_all(all.join("build-left/deep")).unwrap();
        let second = Scratches::open(&all).unwrap();
        assert!(used.path().join("x").exists() && !all.join("build-left").exists());
        let path = used.path().to_owned();
        drop(used);
        assert!(!path.exists());
        drop(second.make().unwrap());
        assert_eq!(std::fs::read_dir(&all).unwrap().count(), 0);
    }
}
