//! The source revision of a project, read from its `.git` without running Git.

use std::path::{Path, PathBuf};

/// The commit that `HEAD` names, where the folder lies in a repository that has one.
pub fn find_revision(folder: &Path) -> Option<String> {
    let dot_git = folder.ancestors().map(|folder| folder.join(".git")).find(|path| path.exists())?;
    let git = if dot_git.is_dir() { dot_git } else { linked(&dot_git)? };
    let head = std::fs::read_to_string(git.join("HEAD")).ok()?;
    let Some(name) = head.trim().strip_prefix("ref: ") else { return commit(&head) };
    // Branches of a worktree lie in the repository that it belongs to.
    let common = std::fs::read_to_string(git.join("commondir")).ok().map(|path| git.join(path.trim()));
    [Some(git), common].into_iter().flatten().find_map(|git| {
        std::fs::read_to_string(git.join(name)).ok().as_deref().and_then(commit).or_else(|| packed(&git, name))
    })
}

fn linked(file: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(file).ok()?;
    let path = text.trim().strip_prefix("gitdir: ")?;
    Some(file.parent()?.join(path))
}

fn packed(git: &Path, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(git.join("packed-refs")).ok()?;
    let line = text.lines().find(|line| line.split_once(' ').is_some_and(|(_, found)| found == name))?;
    commit(line.split(' ').next()?)
}

fn commit(text: &str) -> Option<String> {
    let text = text.trim();
    let hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (hex && [40, 64].contains(&text.len())).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_loose_packed_and_detached() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let id = "a".repeat(40);
        assert_eq!(find_revision(root), None);
        std::fs::create_dir_all(root.join(".git/refs/heads")).unwrap();
        std::fs::create_dir(root.join("sub")).unwrap();
        std::fs::write(root.join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
        assert_eq!(find_revision(root), None);
        std::fs::write(root.join(".git/packed-refs"), format!("# pack\n{id} refs/heads/main\n")).unwrap();
        assert_eq!(find_revision(&root.join("sub")), Some(id.clone()));
        std::fs::write(root.join(".git/refs/heads/main"), "b".repeat(40)).unwrap();
        assert_eq!(find_revision(root), Some("b".repeat(40)));
        std::fs::write(root.join(".git/HEAD"), &id).unwrap();
        assert_eq!(find_revision(root), Some(id));
    }
}
