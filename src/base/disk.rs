//! How much room a disk has.

use std::path::Path;

/// What programs say when a disk, or what they may have of it, is full.
const WORDS: [&str; 3] = ["no space left on device", "disk quota exceeded", "enospc"];

/// Bytes that are free for everybody on the disk of a path, which need not be there yet. `None` where the system
/// does not say.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|path| path.exists())?;
    let stat = rustix::fs::statvfs(there).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Whether a program's words say that a disk is full.
pub fn says_full(text: &str) -> bool {
    let text = text.to_lowercase();
    WORDS.iter().any(|words| text.contains(words))
}

/// Bytes for people: `1.5 GiB`, `12 MiB`, `0 MiB`.
pub fn size(bytes: u64) -> String {
    let mebibytes = bytes >> 20;
    match mebibytes {
        0..1_024 => format!("{mebibytes} MiB"),
        _ => format!("{}.{} GiB", mebibytes / 1_024, mebibytes % 1_024 * 10 / 1_024),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_there_is_on_the_disk_of_what_lies_above() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_bytes(&folder.path().join("not/there")).is_some());
    }

    #[test]
    fn sizes_and_words() {
        assert_eq!((size(0), size(5 << 20), size(1_536 << 20)), ("0 MiB".into(), "5 MiB".into(), "1.5 GiB".into()));
        assert!(says_full("write /x: No space left on device") && !says_full("no such file"));
    }
}
