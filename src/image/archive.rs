//! The tar that the engine gets: the same files give the same bytes.

use crate::base::secret::hex;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::io::{self, Read as _, Write};
use std::path::PathBuf;

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
    /// Where the archive goes.
    #[error("the archive cannot be handed over")]
    Output(#[source] io::Error),
}

fn bytes_of(content: &Content) -> Result<Vec<u8>, ArchiveError> {
    match content {
        Content::Bytes(bytes) => Ok(bytes.clone()),
        Content::Link(target) => Ok(target.clone().into_bytes()),
        Content::Folder => Ok(Vec::new()),
        Content::File(path) => {
            let mut bytes = Vec::new();
            let read = std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
            read.map_err(|source| ArchiveError::File { path: path.clone(), source })?;
            Ok(bytes)
        }
    }
}

/// Puts the entries in the archive's order, by path. Of two of the same path the first stays.
pub fn sort(entries: &mut Vec<Entry>) {
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    entries.dedup_by(|later, first| later.path == first.path);
}

/// Adds paths, modes and contents to a digest. Blocks.
pub fn digest<'e>(entries: impl IntoIterator<Item = &'e Entry>, digest: &mut Sha256) -> Result<(), ArchiveError> {
    for entry in entries {
        let kind = match entry.content {
            Content::Link(_) => 'l',
            Content::Folder => 'd',
            Content::Bytes(_) | Content::File(_) => 'f',
        };
        let content = Sha256::digest(bytes_of(&entry.content)?);
        digest.update(format!("{kind}{} {} {}\n", u8::from(entry.executable), hex(&content), entry.path));
    }
    Ok(())
}

/// Writes the archive. Blocks. All files belong to root, times are fixed, of the modes only the
/// executable bit is kept.
pub fn write<'e>(entries: impl IntoIterator<Item = &'e Entry>, output: impl Write) -> Result<(), ArchiveError> {
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
        if own.is_some() {
            continue;
        }
        let bytes = bytes_of(&entry.content)?;
        if let Content::Link(target) = &entry.content {
            let mut header = header(tar::EntryType::Symlink, 0o777);
            tar.append_link(&mut header, &entry.path, target).map_err(ArchiveError::Output)?;
            continue;
        }
        let mut header = header(tar::EntryType::Regular, if entry.executable { 0o755 } else { 0o644 });
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, &entry.path, bytes.as_slice()).map_err(ArchiveError::Output)?;
    }
    tar.into_inner().and_then(|mut output| output.flush()).map_err(ArchiveError::Output)
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
        write(&entries(), &mut one).unwrap();
        write(&entries(), &mut other).unwrap();
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
            digest(entries, &mut sum).unwrap();
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
}
