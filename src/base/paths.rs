//! Folders and private files.

use crate::base::env;
use etcetera::BaseStrategy as _;
use rustix::fs::OFlags;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
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

/// Opens a file that is one, and says how many bytes it has: a FIFO that has taken its place is not waited for.
pub fn open_file(path: &Path) -> io::Result<(File, u64)> {
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(nonblocking).open(path)?;
    let meta = file.metadata()?;
    if meta.is_file() { Ok((file, meta.len())) } else { Err(io::Error::other("it is not a file")) }
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

/// [`ensure_dir`] for a folder that others could have laid there: it is a folder, no link to one, and this user's.
pub fn ensure_own_dir(path: &Path, mode: u32) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => std::fs::create_dir_all(path)?,
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    let meta = std::fs::symlink_metadata(path)?;
    if meta.file_type().is_symlink() {
        return Err(io::Error::other("it is a link: name the folder that it leads to"));
    }
    if !meta.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    own(&meta)?;
    if meta.permissions().mode() & 0o7777 != mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Reads a file that holds a secret: a file, no link to one, this user's, and nobody else may read it. Nothing where
/// there is none.
pub fn read_private(path: &Path) -> io::Result<Option<String>> {
    let nofollow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let mut file = match std::fs::OpenOptions::new().read(true).custom_flags(nofollow).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(io::Error::other("it is a link: put the file itself there"));
        }
        Err(error) => return Err(error),
    };
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    own(&meta)?;
    if meta.mode() & 0o077 != 0 {
        return Err(io::Error::other(format!(
            "others may read or change it (mode {:03o}): `chmod 600 {}`",
            meta.mode() & 0o777,
            path.display()
        )));
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(Some(text))
}

fn own(meta: &std::fs::Metadata) -> io::Result<()> {
    let (owner, ours) = (meta.uid(), rustix::process::geteuid().as_raw());
    if owner == ours {
        return Ok(());
    }
    Err(io::Error::other(format!("it belongs to user {owner}, and this process runs as user {ours}")))
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
    fn a_link_or_another_users_folder_is_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let (own, link) = (folder.path().join("own/deep"), folder.path().join("link"));
        ensure_own_dir(&own, 0o711).unwrap();
        ensure_own_dir(&own, 0o700).unwrap();
        assert_eq!(std::fs::metadata(&own).unwrap().mode() & 0o7777, 0o700);
        std::os::unix::fs::symlink(&own, &link).unwrap();
        assert!(ensure_own_dir(&link, 0o700).unwrap_err().to_string().contains("a link"));
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert!(ensure_own_dir(&folder.path().join("file"), 0o700).is_err());
        if is_root() {
            std::os::unix::fs::chown(&own, Some(4711), None).unwrap();
            assert!(ensure_own_dir(&own, 0o700).unwrap_err().to_string().contains("belongs to user 4711"));
        }
    }

    #[test]
    fn a_private_file_is_a_file_of_ours_that_nobody_else_reads() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("key"), folder.path().join("link"));
        assert!(read_private(&path).unwrap().is_none());
        write_private(&path, b"one").unwrap();
        assert_eq!(read_private(&path).unwrap().as_deref(), Some("one"));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read_private(&link).unwrap_err().to_string().contains("a link"));
        assert!(read_private(folder.path()).is_err());
        for mode in [0o640, 0o602] {
            write_atomically(&path, b"one", mode).unwrap();
            assert!(read_private(&path).unwrap_err().to_string().contains("chmod 600"));
        }
        if is_root() {
            write_private(&path, b"one").unwrap();
            std::os::unix::fs::chown(&path, Some(4711), None).unwrap();
            assert!(read_private(&path).unwrap_err().to_string().contains("belongs to user 4711"));
        }
    }

    #[test]
    fn shared_memory_is_memory() {
        assert!(in_memory(Path::new("/dev/shm/none/such")));
    }
}
