//! Removes what a replica has left, whatever that is: however deep, however much, a bounded part each turn.
//!
//! Nothing here recurses. A folder's folders are moved up beside it before it is removed, so that none is ever more
//! than one below the first, and two descriptors do. Names are never put together to paths: no link is followed.

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Removes `folder` and all below it, `budget` names at most. Says whether it is gone.
pub fn remove_some(folder: &Path, budget: usize) -> rustix::io::Result<bool> {
    let top = match open(CWD, folder) {
        Err(Errno::NOENT) => return Ok(true),
        Err(Errno::NOTDIR | Errno::LOOP) => return unlinkat(CWD, folder, AtFlags::empty()).map(|()| true),
        top => top?,
    };
    let mut left = budget;
    let mut lifted = 0_u64;
    // Folders that are moved up may or may not be seen by the pass that moves them.
    while !remove_below(&top, &mut left, &mut lifted)? {
        if left == 0 {
            return Ok(false);
        }
    }
    unlinkat(CWD, folder, AtFlags::REMOVEDIR).map(|()| true)
}

/// One pass over a folder's names. Says whether there were none.
fn remove_below(top: &OwnedFd, left: &mut usize, lifted: &mut u64) -> rustix::io::Result<bool> {
    let mut is_empty = true;
    for entry in Dir::read_from(top)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_dots(name) {
            continue;
        }
        is_empty = false;
        if !spend(left) {
            return Ok(false);
        }
        if unlink(top, name)? {
            continue;
        }
        let folder = open(top, name)?;
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if is_dots(name) {
                continue;
            }
            if !spend(left) {
                return Ok(false);
            }
            if !unlink(&folder, name)? {
                lift(&folder, name, top, lifted)?;
            }
        }
        match unlinkat(top, name, AtFlags::REMOVEDIR) {
            // Some of its names were not told: the next pass has them.
            Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(is_empty)
}

/// Moves a folder up, under a name that nothing has there.
fn lift(folder: &OwnedFd, name: &std::ffi::CStr, top: &OwnedFd, lifted: &mut u64) -> rustix::io::Result<()> {
    loop {
        *lifted += 1;
        match renameat(folder, name, top, format!("{lifted:x}-of-{}", std::process::id())) {
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR | Errno::ISDIR) => {}
            moved => return moved,
        }
    }
}

/// Removes what is not a folder. Says whether it was none.
fn unlink(folder: &OwnedFd, name: &std::ffi::CStr) -> rustix::io::Result<bool> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => Ok(false),
        Err(error) => Err(error),
    }
}

fn open<Name: rustix::path::Arg>(at: impl std::os::fd::AsFd, name: Name) -> rustix::io::Result<OwnedFd> {
    openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn spend(left: &mut usize) -> bool {
    let any = *left > 0;
    *left = left.saturating_sub(1);
    any
}

fn is_dots(name: &std::ffi::CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::mkdirat;

    /// Folders below each other, made as a replica makes them: by descriptors.
    fn nest(top: &Path, depth: usize) {
        let mut here = open(CWD, top).unwrap();
        for _ in 0..depth {
            mkdirat(&here, "d", Mode::RWXU).unwrap();
            mkdirat(&here, "e", Mode::RWXU).unwrap();
            here = open(&here, "d").unwrap();
        }
    }

    fn remove(folder: &Path) -> usize {
        (1..1_000).find(|_| remove_some(folder, 10_000).unwrap()).unwrap()
    }

    #[test]
    fn sixty_thousand_folders_below_each_other_go_by_turns() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let top = folder.path().join("r");
        std::fs::create_dir(&top).unwrap();
        nest(&top, 60_000);
        assert!(remove(&top) > 5, "each turn is bounded");
        assert!(!top.exists());
    }

    #[test]
    fn wide_trees_files_links_and_names_like_ours_go_and_what_links_name_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (top, kept) = (folder.path().join("r"), folder.path().join("kept"));
        std::fs::create_dir_all(&kept).unwrap();
        std::fs::write(kept.join("file"), "x").unwrap();
        for wide in 0..50 {
            let below = top.join(format!("{wide:x}-of-{}", std::process::id())).join("deeper/yet");
            std::fs::create_dir_all(&below).unwrap();
            std::fs::write(below.join("file"), "x").unwrap();
            std::os::unix::fs::symlink(&kept, below.join("link")).unwrap();
            std::os::unix::fs::symlink(&kept, top.join(format!("link-{wide}"))).unwrap();
        }
        remove(&top);
        assert!(!top.exists() && kept.join("file").exists());
        // What is no folder goes as well, and what is gone is.
        std::os::unix::fs::symlink(&kept, &top).unwrap();
        assert!(remove_some(&top, 1).unwrap() && remove_some(&top, 1).unwrap());
        assert!(kept.join("file").exists());
    }
}
