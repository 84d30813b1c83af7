//! What Git tracks below a folder. An ignore rule says nothing of it (gitignore(5): "files already tracked by Git are
//! not affected").

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Tracked files and the folders that hold them, absolute.
#[derive(Debug, Default)]
pub struct Tracked {
    files: HashSet<PathBuf>,
    folders: HashSet<PathBuf>,
}

impl Tracked {
    /// Asks Git; nothing where there is no Git, no repository or no index that it can read. Blocks for some
    /// milliseconds.
    pub fn below(root: &Path) -> Self {
        let mut tracked = Self::default();
        let mut git = Command::new("git");
        // Whoever owns the folder, and without the hook that a repository may name for this.
        git.args(["-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-C"]).arg(root).args(["ls-files", "-z"]);
        let Ok(output) = git.stdin(Stdio::null()).stderr(Stdio::null()).output() else { return tracked };
        if !output.status.success() {
            return tracked;
        }
        for name in output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let path = root.join(std::ffi::OsStr::from_bytes(name));
            let folders = path.ancestors().skip(1).take_while(|folder| *folder != root);
            for folder in folders {
                if !tracked.folders.insert(folder.to_owned()) {
                    break;
                }
            }
            tracked.files.insert(path);
        }
        tracked
    }

    /// Whether the file is tracked, or something in the folder.
    pub fn holds(&self, path: &Path, is_dir: bool) -> bool {
        if is_dir { self.folders.contains(path) } else { self.files.contains(path) }
    }
}
