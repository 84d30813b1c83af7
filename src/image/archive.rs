//! The tar that the engine gets: the same files give the same bytes.

use crate::base::paths::open_file;
use crate::base::secret::hex;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// 2020-01-01: fixed, and late enough for zip files (which begin in 1980).
const MTIME: u64 = 1_577_836_800;

/// One file of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path in the archive.
    pub path: String,
    /// What it holds.
    pub content: Content,
    /// Whether it may be executed.
    pub executable: bool,
}

/// What a file of the archive holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// What this file of this machine holds.
    File(PathBuf),
    /// A symbolic link to this.
    Link(String),
    /// Nothing: it is a folder. Those that files lie in need none.
    Folder,
}

impl Entry {
    /// A text.
    pub fn text(path: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), content: Content::Bytes(text.into()), executable: false }
    }
}

/// A file that cannot be read, or an archive that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file of the project.
    #[error("{} cannot be read", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the project holds something else than a moment ago.
    #[error("{} was changed while it was read", .0.display())]
    Changed(PathBuf),
    /// Where the archive goes.
    #[error("the archive cannot be handed over")]
    Output(#[source] io::Error),
}

/// The digests of the files that were read: what is written later must be the same.
#[derive(Debug, Clone, Default)]
pub struct Seen(HashMap<PathBuf, [u8; 32]>);

impl FromIterator<(PathBuf, [u8; 32])> for Seen {
    fn from_iter<I: IntoIterator<Item = (PathBuf, [u8; 32])>>(known: I) -> Self {
        Self(known.into_iter().collect())
    }
}

/// The digest of what a file holds; read once, however often it is asked for.
fn digest_of_file(path: &Path, seen: &mut Seen) -> Result<[u8; 32], ArchiveError> {
    if let Some(known) = seen.0.get(path) {
        return Ok(*known);
    }
    let all = |(file, _)| {
        let mut reading = Reading { file, left: u64::MAX, sum: Sha256::new(), fault: None };
        io::copy(&mut reading, &mut io::sink())?;
        reading.fault.map_or(Ok(reading.sum), Err)
    };
    let sum = open_file(path).and_then(all).map_err(|source| ArchiveError::File { path: path.to_owned(), source })?;
    let digest = sum.finalize().into();
    seen.0.insert(path.to_owned(), digest);
    Ok(digest)
}

/// Puts the entries in the archive's order, by path. Of two of the same path the first stays.
pub fn sort(entries: &mut Vec<Entry>) {
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    entries.dedup_by(|later, first| later.path == first.path);
}

/// Adds paths, modes and contents to a digest, and keeps in `seen` what the files held. Blocks.
pub fn digest<'e>(
    entries: impl IntoIterator<Item = &'e Entry>,
    digest: &mut Sha256,
    seen: &mut Seen,
) -> Result<(), ArchiveError> {
    for entry in entries {
        let (kind, content) = match &entry.content {
            Content::Link(target) => ('l', Sha256::digest(target).into()),
            Content::Folder => ('d', Sha256::digest([]).into()),
            Content::Bytes(bytes) => ('f', Sha256::digest(bytes).into()),
            Content::File(path) => ('f', digest_of_file(path, seen)?),
        };
        digest.update(format!("{kind}{} {} {}\n", u8::from(entry.executable), hex(&content), entry.path));
    }
    Ok(())
}

/// Writes the archive, file by file as they are read. Blocks. All files belong to root, times are fixed, of the
/// modes only the executable bit is kept. A file that holds something else than was `seen` is an error.
pub fn write<'e>(
    entries: impl IntoIterator<Item = &'e Entry>,
    seen: &Seen,
    output: impl Write,
) -> Result<(), ArchiveError> {
    let mut tar = tar::Builder::new(output);
    let mut folders = BTreeSet::new();
    for entry in entries {
        let own = matches!(entry.content, Content::Folder).then_some(entry.path.as_str());
        let parents = entry.path.match_indices('/').map(|(at, _)| &entry.path[..at]);
        for folder in parents.chain(own) {
            if folders.insert(folder) {
                let mut header = header(tar::EntryType::Directory, 0o755);
                tar.append_data(&mut header, format!("{folder}/"), io::empty()).map_err(ArchiveError::Output)?;
            }
        }
        let mut header = header(tar::EntryType::Regular, if entry.executable { 0o755 } else { 0o644 });
        match &entry.content {
            Content::Folder => {}
            Content::Link(target) => {
                let mut header = self::header(tar::EntryType::Symlink, 0o777);
                tar.append_link(&mut header, &entry.path, target).map_err(ArchiveError::Output)?;
            }
            Content::Bytes(bytes) => {
                header.set_size(bytes.len() as u64);
                tar.append_data(&mut header, &entry.path, bytes.as_slice()).map_err(ArchiveError::Output)?;
            }
            Content::File(path) => {
                let broken = |source| ArchiveError::File { path: path.clone(), source };
                let (file, bytes) = open_file(path).map_err(broken)?;
                header.set_size(bytes);
                let mut reading = Reading { file, left: bytes, sum: Sha256::new(), fault: None };
                let appended = tar.append_data(&mut header, &entry.path, &mut reading);
                let Reading { left, sum, fault, .. } = reading;
                if let Some(source) = fault {
                    return Err(broken(source));
                }
                appended.map_err(ArchiveError::Output)?;
                let expected = seen.0.get(path);
                if left > 0 || expected.is_some_and(|expected| *expected != <[u8; 32]>::from(sum.finalize())) {
                    return Err(ArchiveError::Changed(path.clone()));
                }
            }
        }
    }
    tar.into_inner().and_then(|mut output| output.flush()).map_err(ArchiveError::Output)
}

/// A file as its header announces it: never more; `left` says what was missing at its end.
struct Reading {
    file: File,
    left: u64,
    sum: Sha256,
    fault: Option<io::Error>,
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = match self.file.read(&mut buffer[..most]) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                self.fault = Some(error);
                return Ok(0);
            }
        };
        self.left -= read as u64;
        self.sum.update(&buffer[..read]);
        Ok(read)
    }
}

pub(super) fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(MTIME);
    header.set_size(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        let mut entries = vec![
            Entry::text("app/deps/b.py", "b"),
            Entry { path: "app/run.sh".into(), content: Content::Bytes(b"x".to_vec()), executable: true },
            Entry { path: "app/link".into(), content: Content::Link("run.sh".into()), executable: false },
            Entry::text(format!("app/{}/long.py", "d".repeat(120)), "y"),
            Entry::text("Dockerfile", "FROM x"),
        ];
        sort(&mut entries);
        entries
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        write(&entries(), &Seen::default(), &mut one).unwrap();
        write(&entries(), &Seen::default(), &mut other).unwrap();
        assert_eq!(one, other);
        let mut archive = tar::Archive::new(one.as_slice());
        let seen: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap())
            })
            .filter(|(path, _)| !path.contains("ddd"))
            .collect();
        let want = [
            ("Dockerfile", 0o644),
            ("app/", 0o755),
            ("app/deps/", 0o755),
            ("app/deps/b.py", 0o644),
            ("app/link", 0o777),
            ("app/run.sh", 0o755),
        ];
        assert_eq!(seen, want.map(|(path, mode)| (path.to_owned(), mode)));
    }

    #[test]
    fn the_digest_sees_content_mode_and_path() {
        let of = |entries: &[Entry]| {
            let mut sum = Sha256::new();
            digest(entries, &mut sum, &mut Seen::default()).unwrap();
            hex(&sum.finalize())
        };
        let base = of(&entries());
        let changes: [fn(&mut Entry); 3] = [
            |entry| entry.executable ^= true,
            |entry| entry.path.push('x'),
            |entry| entry.content = Content::Bytes(vec![9]),
        ];
        for change in changes {
            let mut list = entries();
            change(&mut list[1]);
            assert_ne!(of(&list), base);
        }
        assert_eq!(of(&entries()), base);
    }

    #[test]
    fn what_changes_between_digest_and_layer_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.py");
        let entries = [Entry { path: "a.py".into(), content: Content::File(path.clone()), executable: false }];
        let of = |before: &[u8], after: &[u8]| {
            std::fs::write(&path, before).unwrap();
            let mut seen = Seen::default();
            digest(&entries, &mut Sha256::new(), &mut seen).unwrap();
            std::fs::write(&path, after).unwrap();
            write(&entries, &seen, io::sink())
        };
        assert!(of(b"one", b"one").is_ok());
        for other in [&b"two"[..], b"one more", b"on", b""] {
            assert!(matches!(of(b"one", other), Err(ArchiveError::Changed(_))), "{other:?}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(write(&entries, &Seen::default(), io::sink()), Err(ArchiveError::File { .. })));
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        assert!(matches!(write(&entries, &Seen::default(), io::sink()), Err(ArchiveError::File { .. })));
    }
}
