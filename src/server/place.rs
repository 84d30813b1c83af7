//! A data folder's server: which process has the folder, which one answers, and which are on their way out.

use super::handover;
use super::settings::{ServerError, ServerFile, server_file};
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a lock is tried that somebody looks at, and how long after each other.
const LOCK_TRIES: u32 = 10;
const LOCK_TRY_EVERY: Duration = Duration::from_millis(10);
/// What names of files begin with that processes hold that have been replaced.
const LEAVING: &str = "leaving-";

/// Whether a server has the data folder.
pub fn is_locked(data_dir: &Path) -> bool {
    let Ok(lock) = File::open(lock_file(data_dir)) else { return false };
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// The process that has the data folder, whether it answers already (and still) or not.
pub fn holder(data_dir: &Path) -> Option<u32> {
    let said = std::fs::read_to_string(lock_file(data_dir)).ok()?;
    said.trim().parse().ok().filter(|_| is_locked(data_dir))
}

/// What answers on a data folder, if something does. Where it has lost its file it is asked itself.
pub fn running(data_dir: &Path) -> Option<ServerFile> {
    if !is_locked(data_dir) {
        return None;
    }
    let said = std::fs::read(server_file(data_dir)).ok();
    said.and_then(|text| serde_json::from_slice(&text).ok()).or_else(|| handover::ask(data_dir).ok())
}

/// Processes of servers that others have replaced, and that still answer what they took.
pub fn leaving(data_dir: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir(data_dir).into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.strip_prefix(LEAVING)?.parse().ok()?;
        let held =
            File::open(entry.path()).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)));
        if !held {
            // It was killed on its way out.
            let _ = std::fs::remove_file(entry.path());
        }
        held.then_some(pid)
    });
    pids.collect()
}

/// Says that this process has been replaced and is on its way out, until what is returned is dropped.
pub fn say_leaving(data_dir: &Path) -> io::Result<File> {
    let file = File::create(data_dir.join(format!("{LEAVING}{}", std::process::id())))?;
    file.try_lock().map_err(io::Error::from)?;
    Ok(file)
}

fn lock_file(data_dir: &Path) -> PathBuf {
    data_dir.join("server.lock")
}

/// Takes the data folder for this process.
pub fn lock(data_dir: &Path) -> Result<File, ServerError> {
    let shown = data_dir.display().to_string();
    let error = |source| ServerError::DataDir { path: shown.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(lock_file(data_dir)).map_err(error)?;
    // Whoever looks whether it is locked has it for a moment.
    let mut tries = 0;
    while let Err(refused) = file.try_lock() {
        match refused {
            TryLockError::WouldBlock if tries < LOCK_TRIES => tries += 1,
            TryLockError::WouldBlock => return Err(ServerError::Locked(shown)),
            TryLockError::Error(source) => return Err(error(source)),
        }
        std::thread::sleep(LOCK_TRY_EVERY);
    }
    sign(&file).map_err(error)?;
    Ok(file)
}

/// Writes into the lock whose it is.
pub fn sign(lock: &File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)
}

/// The end of [`say_leaving`].
pub fn left(data_dir: &Path) {
    let _ = std::fs::remove_file(data_dir.join(format!("{LEAVING}{}", std::process::id())));
}
