//! Files that change while a project is read, such as the log of the very command that reads it: what they hold is
//! taken once, for the digest and for the image.

use crate::image::archive::{Content, Entry};
use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

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
    let (file, _) = crate::image::archive::open(path).ok()?;
    file.take(MOST + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= MOST).then_some(bytes)
}

/// The files that this process' own output goes to (device and number): what is written while a project is read belongs
/// to no project.
pub fn own_output() -> Vec<(u64, u64)> {
    let told = [std::io::stdout().as_fd_meta(), std::io::stderr().as_fd_meta()];
    told.into_iter().flatten().collect()
}

trait AsFdMeta {
    fn as_fd_meta(&self) -> Option<(u64, u64)>;
}

impl<T: std::os::fd::AsFd> AsFdMeta for T {
    fn as_fd_meta(&self) -> Option<(u64, u64)> {
        let file = std::fs::File::from(self.as_fd().try_clone_to_owned().ok()?);
        let meta = file.metadata().ok()?;
        meta.is_file().then(|| (meta.dev(), meta.ino()))
    }
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
