//! Files that change while a project is read, such as the log of the very command that reads it: what they hold is
//! taken once, for the digest and for the image.

use crate::base::paths::open_file;
use crate::image::archive::{Content, Entry};
use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// How many times a project is read that changes while it is.
pub const READINGS: usize = 8;
/// The largest of them, in bytes: they are held in memory.
const MOST: u64 = 64 << 20;

/// Those that were met. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Unsteady(Arc<Mutex<BTreeSet<PathBuf>>>);

impl Unsteady {
    /// Remembers one; whether it was not known before.
    pub fn meet(&self, path: &Path) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned())
    }

    /// Takes what those among the entries hold now. One that is too large, or gone, stays a file. Blocks.
    pub fn hold(&self, entries: &mut [Entry]) {
        let met = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for entry in entries {
            if let Content::File(path) = &entry.content
                && met.contains(path)
                && let Some(bytes) = read(path)
            {
                entry.content = Content::Bytes(bytes);
            }
        }
    }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (file, _) = open_file(path).ok()?;
    file.take(MOST + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= MOST).then_some(bytes)
}

/// The files that this process' own output goes to (device and number): what is written while a project is read belongs
/// to no project.
pub fn own_output() -> Vec<(u64, u64)> {
    let told = [rustix::fs::fstat(std::io::stdout()), rustix::fs::fstat(std::io::stderr())].into_iter().flatten();
    let files = told.filter(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file());
    files.map(|stat| (stat.st_dev, stat.st_ino)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_that_changes_holds_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
        std::fs::write(&one, "1").unwrap();
        std::fs::write(&other, "2").unwrap();
        let entry = |path: &Path| Entry { path: "x".into(), content: Content::File(path.into()), executable: false };
        let unsteady = Unsteady::default();
        assert!(unsteady.clone().meet(&one) && !unsteady.meet(&one));
        let mut entries = [entry(&one), entry(&other)];
        unsteady.hold(&mut entries);
        assert_eq!(entries.map(|entry| entry.content), [Content::Bytes(b"1".to_vec()), Content::File(other)]);
    }
}
