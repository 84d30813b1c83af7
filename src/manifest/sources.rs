//! The Python files of a project that enter its image, for those that look for something in them.

use crate::manifest::Manifest;
use crate::manifest::files::{Files, Kind};
use crate::manifest::folders::{context_root, local_dependencies, private_files};
use crate::manifest::ignore::{IgnoreRules, normalize};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Files that are read at most.
const MAX_FILES: usize = 5_000;
/// Folders below a root that are looked into.
const MAX_DEPTH: usize = 12;
/// What lies there is not the agent: tests, and what builds and environments leave.
const APART: [&str; 8] = ["tests", "test", "node_modules", "site-packages", "venv", "build", "dist", "__pycache__"];

/// A Python file, and the folder of `dependencies` that it lies in.
pub(super) struct Source {
    path: PathBuf,
    root: PathBuf,
}

/// The Python files of a project, tests left out; what an ignore file leaves out is among them.
pub(super) fn find(manifest: &Manifest, folder: &Path, files: &mut Files) -> Vec<Source> {
    let mut roots: Vec<PathBuf> = local_dependencies(manifest, folder).into_iter().map(|(_, root)| root).collect();
    roots.extend(manifest.source.as_ref().map(|source| normalize(&folder.join(&source.root))));
    let mut found = Vec::new();
    for (at, root) in roots.iter().enumerate() {
        if roots[..at].iter().any(|before| root.starts_with(before)) {
            continue;
        }
        let mut folders = vec![(root.clone(), 0)];
        while let Some((next, depth)) = folders.pop() {
            for (name, kind) in files.list(&next).iter() {
                let (path, name) = (next.join(name), name.to_string_lossy());
                if *kind == (Kind::Folder { link: false }) {
                    if depth < MAX_DEPTH && !name.starts_with('.') && !APART.contains(&&*name) {
                        folders.push((path, depth + 1));
                    }
                    continue;
                }
                let is_test = name.starts_with("test_") || name.ends_with("_test.py") || name == "conftest.py";
                if *kind == Kind::File && name.ends_with(".py") && !is_test && found.len() < MAX_FILES {
                    found.push(Source { path, root: root.clone() });
                }
            }
        }
    }
    files.read_ahead(found.iter().map(|source| source.path.as_path()).collect());
    found
}

/// Hands each file that enters the image and is `wanted` for its text to `look`, until that breaks off. Blocks.
pub(super) fn each(
    manifest: &Manifest,
    folder: &Path,
    (sources, files): (&[Source], &mut Files),
    wanted: impl Fn(&str) -> bool,
    mut look: impl FnMut(&Path, &str) -> ControlFlow<()>,
) {
    let private = private_files(manifest, folder);
    let mut rules: Option<(&Path, Option<IgnoreRules>)> = None;
    for Source { path, root } in sources {
        let Some(text) = files.text(path).filter(|text| wanted(text)) else { continue };
        if rules.as_ref().is_none_or(|(of, _)| of != root) {
            rules = Some((root, IgnoreRules::load(&context_root(root, folder), &private).ok()));
        }
        let excluded = rules.as_mut().and_then(|(_, rules)| rules.as_mut()?.excludes_file(path));
        if excluded.is_none() && look(path, &text).is_break() {
            return;
        }
    }
}
