//! What has been read of a project: each folder and each file once, whoever looks at it. Blocks.

use super::python::MAX_BYTES;
use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags};
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::ops::{Deref, Range};
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

/// What a file holds: a part of a block that several share.
#[derive(Debug, Clone)]
pub(super) struct Text {
    block: Arc<String>,
    range: Range<usize>,
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.block.get(self.range.clone()).unwrap_or_default()
    }
}

/// The files of one project.
#[derive(Debug, Default)]
pub(super) struct Files {
    texts: HashMap<PathBuf, Text>,
    kept: usize,
    folders: HashMap<PathBuf, Arc<Listing>>,
}

impl Files {
    /// What a Python file holds; nothing where it cannot be read or is longer than a module is. Other encodings than
    /// UTF-8 keep ASCII where it is, which is enough for names.
    pub(super) fn text(&mut self, path: &Path) -> Option<Text> {
        if let Some(text) = self.texts.get(path) {
            return Some(text.clone());
        }
        let text = Block::of(&[path], &AtomicUsize::new(usize::MAX)).pop()?.1;
        if self.kept + text.len() <= KEPT_BYTES {
            self.keep(path, &text);
        }
        Some(text)
    }

    fn keep(&mut self, path: &Path, text: &Text) {
        self.kept += text.len();
        self.texts.insert(path.to_owned(), text.clone());
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
        std::thread::scope(|scope| {
            let parts = paths.chunks(paths.len().div_ceil(readers));
            let running: Vec<_> = parts.map(|part| scope.spawn(|| Block::of(part, &left))).collect();
            for reader in running {
                for (path, text) in reader.join().unwrap_or_default() {
                    self.keep(path, &text);
                }
            }
        });
    }

    /// What lies in a folder.
    pub(super) fn list(&mut self, folder: &Path) -> Arc<Listing> {
        if let Some(listing) = self.folders.get(folder) {
            return Arc::clone(listing);
        }
        // What its parent does not hold is not asked for.
        let parent = folder.parent().and_then(|parent| self.folders.get(parent)).zip(folder.file_name());
        let is_there = parent.is_none_or(|(listing, name)| matches!(listing.get(name), Some(Kind::Folder { .. })));
        let entries = is_there.then(|| std::fs::read_dir(folder)).into_iter().flatten().flatten().flatten();
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

/// Bytes that one question to the kernel brings at most: most modules whole.
const AT_ONCE: usize = 64 << 10;

/// Texts that are read one after the other into one allocation.
#[derive(Default)]
struct Block(Vec<u8>);

impl Block {
    /// Reads files until `left` bytes are used up; those that cannot be read are passed over.
    fn of<'p>(paths: &[&'p Path], left: &AtomicUsize) -> Vec<(&'p Path, Text)> {
        let mut block = Self::default();
        let mut found = Vec::with_capacity(paths.len());
        for path in paths {
            let Some(range) = block.read(path) else { continue };
            if left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(range.len())).is_err() {
                block.0.truncate(range.start);
                break;
            }
            found.push((*path, range));
        }
        // Each part was found to be UTF-8 or made so.
        let block = Arc::new(String::from_utf8(block.0).unwrap_or_default());
        found.into_iter().map(|(path, range)| (path, Text { block: Arc::clone(&block), range })).collect()
    }

    fn read(&mut self, path: &Path) -> Option<Range<usize>> {
        let start = self.0.len();
        let length = self.append(path).filter(|length| u64::try_from(*length).is_ok_and(|length| length <= MAX_BYTES));
        if length.is_none() {
            self.0.truncate(start);
            return None;
        }
        if std::str::from_utf8(&self.0[start..]).is_err() {
            let text = String::from_utf8_lossy(&self.0[start..]).into_owned();
            self.0.truncate(start);
            self.0.extend_from_slice(text.as_bytes());
        }
        Some(start..self.0.len())
    }

    /// Appends what a file holds, but for what is beyond [`MAX_BYTES`]; says how much. A FIFO that has taken its place
    /// is not waited for. A read that brings less than was asked for is a file's last.
    fn append(&mut self, path: &Path) -> Option<usize> {
        let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty()).ok()?;
        let mut length = 0;
        loop {
            self.0.reserve(AT_ONCE);
            let room = self.0.capacity() - self.0.len();
            let read = rustix::io::read(&file, spare_capacity(&mut self.0)).ok()?;
            length += read;
            if read < room || u64::try_from(length).is_ok_and(|length| length > MAX_BYTES) {
                return Some(length);
            }
        }
    }
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
        for none in [&*large, folder.path(), &folder.path().join("none.py")] {
            assert!(files.text(none).is_none(), "{}", none.display());
        }
        // A FIFO that nobody writes to is not waited for.
        let fifo = folder.path().join("fifo.py");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert_eq!(files.text(&fifo).as_deref(), Some(""));
        // Longer than one read, and exactly as long.
        for length in [AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE] {
            let path = folder.path().join(format!("{length}.py"));
            std::fs::write(&path, "x".repeat(length)).unwrap();
            assert_eq!(files.text(&path).map(|text| text.len()), Some(length));
        }
    }
}
