//! What has been read of a project: each folder and each file once, whoever looks at it. Blocks.

use super::python::MAX_BYTES;
use crate::base::paths::open_file;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes of texts that are kept; a file beyond them is read again by whoever asks next.
const KEPT_BYTES: usize = 32 << 20;

/// How many read at once, and how many files are worth another one of them.
const READERS: usize = 4;
const WORTH_A_READER: usize = 64;

/// What an entry of a folder is, or leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file.
    File,
    /// A folder; `link`: by a symbolic link.
    Folder {
        /// Whether it lies elsewhere.
        link: bool,
    },
    /// A socket, a pipe, a link to nowhere.
    Other,
}

/// The entries of a folder by name, in order; empty where there is none that can be read.
pub(super) type Listing = BTreeMap<OsString, Kind>;

/// The files of one project.
#[derive(Debug, Default)]
pub(super) struct Files {
    texts: HashMap<PathBuf, Arc<str>>,
    kept: usize,
    folders: HashMap<PathBuf, Arc<Listing>>,
}

impl Files {
    /// What a Python file holds; nothing where it cannot be read or is longer than a module is. Other encodings than
    /// UTF-8 keep ASCII where it is, which is enough for names.
    pub(super) fn text(&mut self, path: &Path) -> Option<Arc<str>> {
        if let Some(text) = self.texts.get(path) {
            return Some(Arc::clone(text));
        }
        let text: Arc<str> = read(path)?.into();
        self.keep(path, &text);
        Some(text)
    }

    fn keep(&mut self, path: &Path, text: &Arc<str>) {
        if self.kept + text.len() <= KEPT_BYTES {
            self.kept += text.len();
            self.texts.insert(path.to_owned(), Arc::clone(text));
        }
    }

    /// Reads files on all processors: most of the time goes by in the kernel, for each by itself.
    pub(super) fn read_ahead(&mut self, mut paths: Vec<&Path>) {
        paths.retain(|path| !self.texts.contains_key(*path));
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let readers = processors.min(READERS).min(paths.len() / WORTH_A_READER);
        if readers < 2 {
            return;
        }
        // Not more than is kept of them, whatever their lengths.
        let left = AtomicUsize::new(KEPT_BYTES.saturating_sub(self.kept));
        let read = |paths: &[&Path]| {
            let texts = paths.iter().map_while(|path| {
                let text: Option<Arc<str>> = read(path).map(Into::into);
                let length = text.as_ref().map_or(0, |text| text.len());
                let has_room = left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(length)).is_ok();
                has_room.then_some(text)
            });
            texts.collect::<Vec<_>>()
        };
        std::thread::scope(|scope| {
            let parts: Vec<_> = paths.chunks(paths.len().div_ceil(readers)).collect();
            let running: Vec<_> = parts.iter().map(|part| (*part, scope.spawn(|| read(part)))).collect();
            for (part, reader) in running {
                for (path, text) in part.iter().zip(reader.join().unwrap_or_default()) {
                    if let Some(text) = text {
                        self.keep(path, &text);
                    }
                }
            }
        });
    }

    /// What lies in a folder.
    pub(super) fn list(&mut self, folder: &Path) -> Arc<Listing> {
        if let Some(listing) = self.folders.get(folder) {
            return Arc::clone(listing);
        }
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let listing: Arc<Listing> = Arc::new(entries.map(|entry| (entry.file_name(), kind(&entry))).collect());
        self.folders.insert(folder.to_owned(), Arc::clone(&listing));
        listing
    }

    /// Whether something may lie at a path below a folder of the project: what it leads through is not opened, however
    /// much lies there.
    pub(super) fn may_hold(&mut self, folder: &Path, path: &str) -> bool {
        match Path::new(path).components().next() {
            Some(Component::Normal(first)) => self.list(folder).contains_key(first),
            first => first.is_some(),
        }
    }

    /// The files that make a module of that name in a folder: `NAME.py`, `NAME/__init__.py`.
    pub(super) fn modules(&mut self, folder: &Path, name: &str) -> Vec<PathBuf> {
        let listing = self.list(folder);
        let file = format!("{name}.py");
        let own = listing.get(OsStr::new(&file)).is_some_and(|kind| *kind == Kind::File);
        let own = own.then(|| folder.join(&file));
        let is_folder = matches!(listing.get(OsStr::new(name)), Some(Kind::Folder { .. }));
        let package = is_folder.then(|| self.package(&folder.join(name))).flatten();
        own.into_iter().chain(package).collect()
    }

    /// The file that makes a folder a package.
    pub(super) fn package(&mut self, folder: &Path) -> Option<PathBuf> {
        const NAME: &str = "__init__.py";
        let is_file = self.list(folder).get(OsStr::new(NAME)).is_some_and(|kind| *kind == Kind::File);
        is_file.then(|| folder.join(NAME))
    }
}

fn read(path: &Path) -> Option<String> {
    let (file, length) = open_file(path).ok().filter(|(_, length)| *length <= MAX_BYTES)?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).ok()? + 1);
    file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

fn kind(entry: &std::fs::DirEntry) -> Kind {
    match entry.file_type() {
        Ok(kind) if kind.is_file() => Kind::File,
        Ok(kind) if kind.is_dir() => Kind::Folder { link: false },
        Ok(kind) if kind.is_symlink() => match std::fs::metadata(entry.path()) {
            Ok(meta) if meta.is_file() => Kind::File,
            Ok(meta) if meta.is_dir() => Kind::Folder { link: true },
            _ => Kind::Other,
        },
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_as_files_and_as_packages() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("both")).unwrap();
        std::fs::create_dir_all(root.join("namespace")).unwrap();
        std::fs::create_dir_all(root.join("folder.py")).unwrap();
        for file in ["both.py", "both/__init__.py", "one.py"] {
            std::fs::write(root.join(file), file).unwrap();
        }
        std::os::unix::fs::symlink("one.py", root.join("link.py")).unwrap();
        std::os::unix::fs::symlink("both", root.join("linked")).unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("lost.py")).unwrap();
        let mut files = Files::default();
        let mut found = |name: &str| {
            let found = files.modules(root, name);
            found.iter().map(|path| path.strip_prefix(root).unwrap().display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found("both"), ["both.py", "both/__init__.py"]);
        assert_eq!(found("one"), ["one.py"]);
        assert_eq!(found("link"), ["link.py"]);
        assert_eq!(found("linked"), ["linked/__init__.py"]);
        for name in ["namespace", "folder", "lost", "none"] {
            assert!(found(name).is_empty(), "{name}");
        }
        assert_eq!(files.list(root).get(OsStr::new("linked")), Some(&Kind::Folder { link: true }));
        // Of what a path leads through nothing is opened.
        let before = files.folders.len();
        assert!(files.may_hold(root, "namespace/deep/x.txt") && files.may_hold(root, "../x"));
        assert!(!files.may_hold(root, "no/thing") && !files.may_hold(root, ""));
        assert_eq!(files.folders.len(), before);
    }

    #[test]
    fn what_is_read_ahead_is_what_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (0..300).map(|at| folder.path().join(format!("{at}.py"))).collect();
        for path in &paths {
            std::fs::write(path, path.display().to_string()).unwrap();
        }
        std::fs::remove_file(&paths[7]).unwrap();
        let mut files = Files::default();
        files.read_ahead(paths.iter().map(PathBuf::as_path).collect());
        assert!(std::thread::available_parallelism().unwrap().get() < 2 || files.texts.len() == 299);
        for (at, path) in paths.iter().enumerate() {
            let text = files.text(path);
            assert_eq!(text.as_deref(), (at != 7).then(|| path.display().to_string()).as_deref());
        }
    }

    #[test]
    fn a_text_is_read_once_and_one_that_is_no_module_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.py");
        std::fs::write(&path, b"caf\xe9 = 1").unwrap();
        let mut files = Files::default();
        assert_eq!(files.text(&path).as_deref(), Some("caf\u{fffd} = 1"));
        std::fs::write(&path, "changed").unwrap();
        assert_eq!(files.text(&path).as_deref(), Some("caf\u{fffd} = 1"));
        let large = folder.path().join("large.py");
        std::fs::File::create(&large).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert_eq!(files.text(&large), None);
        assert_eq!(files.text(folder.path()), None);
        assert_eq!(files.text(&folder.path().join("none.py")), None);
    }
}
