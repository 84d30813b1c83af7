//! The Python files of a project that enter its image, for those that look for something in them.

use crate::manifest::ignore::{IgnoreRules, normalize};
use crate::manifest::project::{context_root, local_dependencies, private_files};
use crate::manifest::{Manifest, python};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Files that are read at most.
const MAX_FILES: usize = 5_000;
/// Folders below a root that are looked into.
const MAX_DEPTH: usize = 12;
/// What lies there is not the agent: tests, and what builds and environments leave.
const APART: [&str; 8] = ["tests", "test", "node_modules", "site-packages", "venv", "build", "dist", "__pycache__"];

/// Hands each file that is `wanted` for its text to `look`, until that breaks off. Tests are left out. Blocks.
pub(super) fn each(
    manifest: &Manifest,
    folder: &Path,
    wanted: impl Fn(&str) -> bool,
    mut look: impl FnMut(&Path, &str) -> ControlFlow<()>,
) {
    let private = private_files(manifest, folder);
    let mut roots: Vec<PathBuf> = local_dependencies(manifest, folder).into_iter().map(|(_, root)| root).collect();
    roots.extend(manifest.source.as_ref().map(|source| normalize(&folder.join(&source.root))));
    let mut left = MAX_FILES;
    for (at, root) in roots.iter().enumerate() {
        if roots[..at].iter().any(|before| root.starts_with(before)) {
            continue;
        }
        let mut rules: Option<Option<IgnoreRules>> = None;
        let mut folders = vec![(root.clone(), 0)];
        while let Some((next, depth)) = folders.pop() {
            let mut entries: Vec<_> = std::fs::read_dir(next).into_iter().flatten().flatten().collect();
            entries.sort_unstable_by_key(std::fs::DirEntry::file_name);
            for entry in entries {
                let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
                let Ok(kind) = entry.file_type() else { continue };
                if kind.is_dir() {
                    if depth < MAX_DEPTH && !name.starts_with('.') && !APART.contains(&&*name) {
                        folders.push((path, depth + 1));
                    }
                    continue;
                }
                let is_python = path.extension().is_some_and(|end| end == "py");
                let is_test = name.starts_with("test_") || name.ends_with("_test.py") || name == "conftest.py";
                if !kind.is_file() || !is_python || is_test || left == 0 {
                    continue;
                }
                left -= 1;
                if entry.metadata().is_ok_and(|meta| meta.len() > python::MAX_BYTES) {
                    continue;
                }
                let Ok(bytes) = std::fs::read(&path) else { continue };
                let text = String::from_utf8_lossy(&bytes);
                if !wanted(&text) {
                    continue;
                }
                let load = || IgnoreRules::load(&context_root(root, folder), &private).ok();
                let rules = rules.get_or_insert_with(load);
                if rules.as_mut().is_some_and(|rules| rules.excludes_file(&path).is_some()) {
                    continue;
                }
                if look(&path, &text).is_break() {
                    return;
                }
            }
        }
    }
}
