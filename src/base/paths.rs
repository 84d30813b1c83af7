//! Folders and private files.

use crate::base::env;
use etcetera::BaseStrategy as _;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Whether this process is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The server's data folder: `RAPIDCLAW_DATA_DIR`, else `/var/lib/rapidclaw` for root, else the XDG data folder.
pub fn data_dir() -> PathBuf {
    if let Some(given) = env::var(env::DATA_DIR) {
        return given.into();
    }
    if is_root() {
        return "/var/lib/rapidclaw".into();
    }
    strategy().map_or_else(|| PathBuf::from(".rapidclaw"), |dirs| dirs.data_dir().join("rapidclaw"))
}

/// Where the CLI keeps its logins: `RAPIDCLAW_CONFIG_DIR`, else the XDG configuration folder.
pub fn config_dir() -> PathBuf {
    env::var(env::CONFIG_DIR)
        .map(PathBuf::from)
        .or_else(|| strategy().map(|dirs| dirs.config_dir().join("rapidclaw")))
        .unwrap_or_else(|| PathBuf::from(".rapidclaw"))
}

fn strategy() -> Option<etcetera::base_strategy::Xdg> {
    etcetera::base_strategy::Xdg::new().ok()
}

/// Whether `path` (or its nearest existing parent) lies on a tmpfs, so that what is written there stays in memory.
pub fn in_memory(path: &Path) -> bool {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    const RAMFS_MAGIC: i64 = 0x8584_58f6;
    path.ancestors().find_map(|folder| rustix::fs::statfs(folder).ok()).is_some_and(|stat| {
        #[allow(clippy::useless_conversion, reason = "its type is another one on other systems")]
        let magic = i64::try_from(stat.f_type).unwrap_or_default();
        magic == TMPFS_MAGIC || magic == RAMFS_MAGIC
    })
}

/// Writes `path` whole or not at all, readable by its owner only.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_atomically(path, bytes, 0o600)
}

/// Writes `path` whole or not at all, with the mode given, whatever the umask.
pub fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let draft = folder.join(format!(".{name}.{}", uuid::Uuid::now_v7().simple()));
    let written = (|| {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(bytes)?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        std::fs::rename(&draft, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&draft);
    }
    written
}

/// Makes `path` and its parents; `path` itself gets the mode given.
pub fn ensure_dir(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    let meta = std::fs::metadata(path)?;
    if meta.permissions().mode() & 0o7777 != mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_files_are_whole_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn shared_memory_is_memory() {
        assert!(in_memory(Path::new("/dev/shm/none/such")));
    }
}
