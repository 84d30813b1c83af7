//! What of a project enters its image: the folders of its dependencies, without what the ignore
//! rules leave out, in an order that does not change.

use crate::image::archive::Content;
use crate::image::unsteady::{self, Unsteady};
use crate::manifest::folders::{context_root, local_dependencies, private_files};
use crate::manifest::ignore::IgnoreRules;
use crate::manifest::{Manifest, to_name};
use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// The folder of the archive that holds what we put in: apart from all files of the project.
pub const OWN: &str = ".rapidclaw";

/// Where the roots lie in the image.
pub const DEPS: &str = "/deps";

/// A project as a build sees it.
#[derive(Debug, Clone)]
pub struct Project {
    /// What it asks for.
    pub manifest: Manifest,
    /// The folder of the manifest: absolute, without `..`.
    pub folder: PathBuf,
    /// The manifest's file, where it came from one.
    pub manifest_file: Option<PathBuf>,
    /// Files that never enter, beside those that the manifest names: what `--env-file` gives.
    pub private: Vec<PathBuf>,
    /// Files that change while it is read.
    pub unsteady: Unsteady,
}

/// Everything of a project that enters its image.
#[derive(Debug, Clone)]
pub struct Context {
    /// The folders that are installed, in the order of `dependencies`.
    pub roots: Vec<Root>,
    /// All files of all roots, sorted by root and path.
    pub files: Vec<ContextFile>,
    /// All files of the manifest's folder, where `dockerfile_lines` copy from it; else none.
    pub beside: Vec<ContextFile>,
    /// What was passed over and should be known.
    pub notes: Vec<String>,
}

/// A folder of `dependencies` (or the one of the lock).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Its name, which no other root has.
    pub name: String,
    /// Where it lies on this machine.
    pub path: PathBuf,
    /// Where it lies in the image: `/deps/NAME`, a folder in that for a flat package, or a folder of
    /// the root that holds it.
    pub target: String,
    /// Whether it is a flat package: it has an `__init__.py` of its own and no pyproject.toml, and is
    /// imported by its folder's name.
    pub flat: bool,
    /// Whether its files are copied; they are not where another root holds them.
    pub copied: bool,
}

/// What a name of the project stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A symbolic link to this, which is relative and stays within the root.
    Link(String),
    /// A folder with nothing in it.
    Folder,
}

/// One file, link or empty folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextFile {
    /// Its root, as an index into [`Context::roots`].
    pub root: usize,
    /// Relative to the root, with forward slashes.
    pub path: String,
    /// Where it lies on this machine.
    pub source: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Whether it may be executed.
    pub executable: bool,
    /// Bytes.
    pub size: u64,
}

impl ContextFile {
    /// What an archive holds of it.
    pub fn content(&self) -> Content {
        match &self.kind {
            Kind::File => Content::File(self.source.clone()),
            Kind::Link(target) => Content::Link(target.clone()),
            Kind::Folder => Content::Folder,
        }
    }
}

impl Context {
    /// The files below a root, whichever root they are copied with, with their path in it.
    pub fn files_of(&self, root: &Root) -> impl Iterator<Item = (&ContextFile, String)> {
        let base = root.path.clone();
        self.files
            .iter()
            .filter_map(move |file| Some((file, file.source.strip_prefix(&base).ok()?.to_str()?.to_owned())))
    }
}

/// Why the files could not be collected.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// Something cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A symbolic link leaves its folder.
    #[error("the symbolic link {} leads out of the project, to {}", path.display(), target.display())]
    LinkOutside {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// A file's name is not UTF-8.
    #[error("the name of {} is not UTF-8", .0.display())]
    Name(PathBuf),
}

/// Finds the roots of a project. Reads no more than whether a folder is a flat package.
pub fn roots(project: &Project) -> Vec<Root> {
    let mut paths: Vec<PathBuf> =
        local_dependencies(&project.manifest, &project.folder).into_iter().map(|(_, path)| path).collect();
    if let Some(source) = &project.manifest.source {
        paths.push(crate::manifest::ignore::normalize(&project.folder.join(&source.root)));
    }
    let mut seen = BTreeSet::new();
    paths.retain(|path| seen.insert(path.clone()));
    let mut names = BTreeSet::new();
    let mut roots: Vec<Root> = Vec::new();
    for path in &paths {
        let folder = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let base = if *path == project.folder { Some("app".into()) } else { to_name(&folder) };
        let base = base.unwrap_or_else(|| "app".into());
        let mut name = base.clone();
        let mut count = 1;
        while !names.insert(name.clone()) {
            count += 1;
            name = format!("{base}-{count}");
        }
        let has = |file: &str| path.join(file).is_file();
        let flat = !folder.is_empty() && has("__init__.py") && !has("pyproject.toml") && !has("setup.py");
        let target = if flat { format!("{DEPS}/{name}/{folder}") } else { format!("{DEPS}/{name}") };
        let copied = !paths.iter().any(|other| path != other && path.starts_with(other));
        roots.push(Root { name, path: path.clone(), target, flat, copied });
    }
    let holders: Vec<Root> = roots.iter().filter(|root| root.copied).cloned().collect();
    for root in roots.iter_mut().filter(|root| !root.copied) {
        let held = holders.iter().find_map(|holder| Some((holder, root.path.strip_prefix(&holder.path).ok()?)));
        if let Some((holder, inner)) = held {
            root.target = format!("{}/{}", holder.target, inner.display());
        }
    }
    roots
}

/// Whether `dockerfile_lines` copy from the project: their context is the manifest's folder, as
/// langgraph-cli has it.
pub fn lines_copy(manifest: &Manifest) -> bool {
    let lines = manifest.dockerfile_lines.iter().flat_map(|line| line.lines());
    lines.map(|line| line.trim_start().to_ascii_uppercase()).any(|line| {
        let copies = line.starts_with("COPY ") || (line.starts_with("ADD ") && !line.contains("HTTP"));
        copies && !line.contains("--FROM=")
    })
}

/// Collects all files of a project. Blocks: call it where that is allowed.
pub fn collect(project: &Project) -> Result<Context, ContextError> {
    let mut private = private_files(&project.manifest, &project.folder);
    private.extend(project.private.iter().cloned());
    let roots = roots(project);
    let mut walk = Walk { files: Vec::new(), notes: Vec::new(), own_output: unsteady::own_output() };
    for (index, root) in roots.iter().enumerate().filter(|(_, root)| root.copied) {
        let rules_root = context_root(&root.path, &project.folder);
        let rules = IgnoreRules::load(&rules_root, &private)
            .map_err(|source| ContextError::Unreadable { path: rules_root.join(".dockerignore"), source })?;
        walk.root(index, &root.path, rules)?;
    }
    let files = std::mem::take(&mut walk.files);
    if lines_copy(&project.manifest) {
        let rules = IgnoreRules::load(&project.folder, &private)
            .map_err(|source| ContextError::Unreadable { path: project.folder.join(".dockerignore"), source })?;
        walk.root(0, &project.folder, rules)?;
    }
    Ok(Context { roots, files, beside: walk.files, notes: walk.notes })
}

struct Walk {
    files: Vec<ContextFile>,
    notes: Vec<String>,
    /// Where this command's own output goes.
    own_output: Vec<(u64, u64)>,
}

impl Walk {
    fn root(&mut self, root: usize, path: &Path, mut rules: IgnoreRules) -> Result<(), ContextError> {
        let first = self.files.len();
        self.folder(root, path, path, &mut rules)?;
        self.files[first..].sort_by(|one, other| one.path.cmp(&other.path));
        Ok(())
    }

    fn folder(&mut self, root: usize, base: &Path, folder: &Path, rules: &mut IgnoreRules) -> Result<(), ContextError> {
        rules.descend(folder);
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |source| ContextError::Unreadable { path, source }
        };
        let mut is_empty = true;
        for entry in std::fs::read_dir(folder).map_err(unreadable(folder))? {
            let entry = entry.map_err(unreadable(folder))?;
            is_empty = false;
            let path = entry.path();
            let kind = entry.file_type().map_err(unreadable(&path))?;
            let excluded = rules.excludes(&path, kind.is_dir());
            if kind.is_dir() {
                match excluded {
                    Some(why) if rules.prunes(why) => {}
                    _ => self.folder(root, base, &path, rules)?,
                }
                continue;
            }
            if excluded.is_some() {
                continue;
            }
            let name = name_in(base, &path)?;
            if !kind.is_file() && !kind.is_symlink() {
                self.notes.push(format!("{name} is neither a file nor a folder and was left out"));
                continue;
            }
            let meta = std::fs::symlink_metadata(&path).map_err(unreadable(&path))?;
            if self.own_output.contains(&(meta.dev(), meta.ino())) {
                continue;
            }
            let is_file = kind.is_file();
            self.files.push(ContextFile {
                root,
                path: name,
                executable: is_file && is_executable(&meta),
                size: if is_file { meta.len() } else { 0 },
                kind: if is_file { Kind::File } else { Kind::Link(link_target(base, &path)?) },
                source: path,
            });
        }
        // One whose files are all left out is not kept: a clone elsewhere has it neither.
        if is_empty && folder != base {
            self.files.push(ContextFile {
                root,
                path: name_in(base, folder)?,
                source: folder.to_owned(),
                kind: Kind::Folder,
                executable: false,
                size: 0,
            });
        }
        Ok(())
    }
}

fn name_in(base: &Path, path: &Path) -> Result<String, ContextError> {
    let relative = path.strip_prefix(base).unwrap_or(path);
    Ok(relative.to_str().ok_or_else(|| ContextError::Name(path.to_owned()))?.to_owned())
}

fn is_executable(meta: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    meta.permissions().mode() & 0o111 != 0
}

/// Where a link leads, relative to its own folder. It may not leave `base`, on paper or on disk.
fn link_target(base: &Path, path: &Path) -> Result<String, ContextError> {
    let target =
        std::fs::read_link(path).map_err(|source| ContextError::Unreadable { path: path.to_owned(), source })?;
    let outside = || ContextError::LinkOutside { path: path.to_owned(), target: target.clone() };
    let folder = path.parent().unwrap_or(base);
    let absolute = if target.is_absolute() { target.clone() } else { folder.join(&target) };
    let mut depth = PathBuf::new();
    for part in absolute.components() {
        if part == Component::ParentDir {
            depth.pop();
        } else if part != Component::CurDir {
            depth.push(part);
        }
    }
    let inside = depth.strip_prefix(base).map_err(|_| outside())?;
    if let Ok(real) = std::fs::canonicalize(&absolute) {
        let real_base = std::fs::canonicalize(base).unwrap_or_else(|_| base.to_owned());
        if !real.starts_with(real_base) {
            return Err(outside());
        }
    }
    let from = folder.strip_prefix(base).unwrap_or(Path::new(""));
    let common = from.components().zip(inside.components()).take_while(|(one, other)| one == other).count();
    let ups = std::iter::repeat_n("..".into(), from.components().count() - common);
    let downs = inside.components().skip(common).map(|part| part.as_os_str().to_string_lossy().into_owned());
    let relative = ups.chain(downs).collect::<Vec<String>>().join("/");
    Ok(if relative.is_empty() { ".".into() } else { relative })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    pub(crate) fn project(manifest: &str, files: &[(&str, &str)]) -> (tempfile::TempDir, Project) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let manifest = crate::manifest::parse(manifest, "langgraph.json", "folder").unwrap().manifest;
        let project = Project {
            manifest,
            folder: folder.path().to_owned(),
            manifest_file: None,
            private: Vec::new(),
            unsteady: Unsteady::default(),
        };
        (folder, project)
    }

    fn listed(project: &Project) -> Vec<String> {
        let context = collect(project).unwrap();
        context.files.iter().map(|file| format!("{}/{}", context.roots[file.root].name, file.path)).collect()
    }

    const PLAIN: &str = r#"{"dependencies": ["."], "graphs": {"a": "./agent.py:graph"}, "env": "prod.env"}"#;

    #[test]
    fn files_come_in_order_and_without_what_stays_here() {
        let (folder, project) = project(
            PLAIN,
            &[
                ("b.py", ""),
                ("agent.py", ""),
                ("pkg/z.py", ""),
                ("pkg/a.py", ""),
                (".env", "K=1"),
                ("prod.env", "K=1"),
                (".git/HEAD", ""),
                ("venv/pyvenv.cfg", ""),
                ("venv/x.py", ""),
                ("__pycache__/x.pyc", ""),
                (".gitignore", "data/\n"),
                ("data/x", ""),
                ("run.sh", ""),
            ],
        );
        std::fs::set_permissions(folder.path().join("run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(
            listed(&project),
            ["app/.gitignore", "app/agent.py", "app/b.py", "app/pkg/a.py", "app/pkg/z.py", "app/run.sh"]
        );
        let context = collect(&project).unwrap();
        assert_eq!(
            context.files.iter().map(|file| file.executable).collect::<Vec<_>>(),
            [false, false, false, false, false, true]
        );
    }

    #[test]
    fn what_an_env_file_of_the_command_line_holds_stays_here() {
        let (folder, mut project) =
            project(PLAIN, &[("agent.py", ""), ("secrets.txt", "K=1"), ("deep/values", "K=1"), ("deep/code.py", "")]);
        project.private = ["secrets.txt", "deep/values"].map(|name| folder.path().join(name)).to_vec();
        assert_eq!(listed(&project), ["app/agent.py", "app/deep/code.py"]);
    }

    #[test]
    fn dockerignore_may_take_back_what_it_left_out() {
        let (_folder, project) = project(
            PLAIN,
            &[
                ("agent.py", ""),
                ("data/a/keep.txt", ""),
                ("data/drop.txt", ""),
                (".dockerignore", "data\n!data/a/keep.txt\n"),
            ],
        );
        assert_eq!(listed(&project), ["app/.dockerignore", "app/agent.py", "app/data/a/keep.txt"]);
    }

    #[test]
    fn links_stay_within_the_project_or_are_refused() {
        let (folder, project) = project(PLAIN, &[("agent.py", ""), ("pkg/a.py", "")]);
        symlink("../agent.py", folder.path().join("pkg/agent.py")).unwrap();
        symlink(folder.path().join("pkg"), folder.path().join("absolute")).unwrap();
        let links: Vec<_> = collect(&project).unwrap().files.into_iter().map(|file| file.kind).collect();
        let link = |to: &str| Kind::Link(to.into());
        assert_eq!(links, [link("pkg"), Kind::File, Kind::File, link("../agent.py")]);
        symlink("/etc/passwd", folder.path().join("pkg/passwd")).unwrap();
        assert!(matches!(collect(&project), Err(ContextError::LinkOutside { .. })));
        std::fs::remove_file(folder.path().join("pkg/passwd")).unwrap();
        symlink("../../x", folder.path().join("pkg/up")).unwrap();
        assert!(matches!(collect(&project), Err(ContextError::LinkOutside { .. })));
    }

    #[test]
    fn empty_folders_come_along_and_emptied_ones_do_not() {
        let (folder, project) =
            project(PLAIN, &[("agent.py", ""), (".gitignore", "*.log\nbuild/\n"), ("logs/x.log", ""), ("build/x", "")]);
        for inner in ["data/in", "data/out", "__pycache__", "build/none", ".git/refs"] {
            std::fs::create_dir_all(folder.path().join(inner)).unwrap();
        }
        let context = collect(&project).unwrap();
        let seen: Vec<_> = context.files.iter().map(|file| (file.path.as_str(), &file.kind)).collect();
        let (file, empty) = (&Kind::File, &Kind::Folder);
        assert_eq!(seen, [(".gitignore", file), ("agent.py", file), ("data/in", empty), ("data/out", empty)]);
    }

    #[test]
    fn roots_have_names_of_their_own() {
        let (_folder, project) = project(
            r#"{"dependencies": ["./a/pkg", "./b/pkg", "./b/pkg/inner", "./My Lib"], "graphs": {"a": "./a/pkg/x.py:g"}}"#,
            &[("a/pkg/x.py", ""), ("b/pkg/x.py", ""), ("My Lib/__init__.py", "")],
        );
        let targets: Vec<String> = roots(&project).into_iter().map(|root| root.target).collect();
        assert_eq!(targets, ["/deps/pkg", "/deps/pkg-2", "/deps/pkg-2/inner", "/deps/my-lib/My Lib"]);
    }
}
