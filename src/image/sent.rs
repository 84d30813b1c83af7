//! The archive in which a build travels to a server: the request, then each content that it names, under its
//! digest. Written and read as a stream: neither side holds it in memory, and the sender writes nothing to its disk.

use crate::api::builds::{BuildRequest, REQUEST_FILE};
use crate::base::secret::hex;
use crate::image::archive::{self, ArchiveError, Content};
use crate::image::hashing::Hashing;
use crate::image::plan::recipe::{self, Bounds, Contents, RecipeError, copy};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The longest request.
pub const REQUEST_BYTES: u64 = 16 << 20;
/// What may come behind the last file: the tar's own end, and whoever fills up a block.
const TAIL_BYTES: u64 = 1 << 20;
/// What is read at once.
const PIECE: usize = 64 << 10;

/// Why what was sent cannot be built from.
#[derive(Debug, thiserror::Error)]
pub enum SentError {
    /// The archive is none, or breaks off.
    #[error("what was sent cannot be read")]
    Unreadable(#[source] io::Error),
    /// The request in it is none.
    #[error("the request that was sent")]
    Request(#[source] serde_json::Error),
    /// What it asks for is not done.
    #[error("what was sent is not built: {0}")]
    Recipe(#[from] RecipeError),
    /// Something is in it that was not announced, or twice, or of another length.
    #[error("{0} was not announced so")]
    Unexpected(String),
    /// A file's content is not the one that was announced: it changed while it was sent.
    #[error("a file changed while it was sent, or on its way")]
    Changed,
    /// Something that was announced did not come.
    #[error("{0} files are missing")]
    Missing(usize),
    /// The folder that it goes to.
    #[error("what was sent cannot be kept")]
    Disk(#[source] io::Error),
}

/// Writes the archive. Blocks: it reads the files.
pub fn write(request: &BuildRequest, contents: &Contents, output: impl Write) -> Result<(), ArchiveError> {
    let mut tar = tar::Builder::new(GzEncoder::new(output, Compression::fast()));
    let text = serde_json::to_vec(request).map_err(|error| ArchiveError::Output(error.into()))?;
    let header = |size: u64| {
        let mut header = archive::header(tar::EntryType::Regular, 0o600);
        header.set_size(size);
        header
    };
    tar.append_data(&mut header(text.len() as u64), REQUEST_FILE, text.as_slice()).map_err(ArchiveError::Output)?;
    for (digest, (content, size)) in contents {
        let mut header = header(*size);
        header.set_path(digest).map_err(ArchiveError::Output)?;
        header.set_cksum();
        let output = tar.get_mut();
        output.write_all(header.as_bytes()).map_err(ArchiveError::Output)?;
        let mut passing = Hashing::new(output);
        let written = copy(content, &mut passing)?;
        let (output, found, _) = passing.finish().map_err(ArchiveError::Output)?;
        if written != *size || found.trim_start_matches("sha256:") != digest {
            return Err(match content {
                Content::File(path) => ArchiveError::Changed(path.clone()),
                _ => ArchiveError::Output(io::Error::other("a text is not what it was announced to be")),
            });
        }
        let filling = [0; 512];
        let rest = usize::try_from(size.next_multiple_of(512) - size).unwrap_or_default();
        output.write_all(&filling[..rest]).map_err(ArchiveError::Output)?;
    }
    let done = tar.into_inner().and_then(GzEncoder::finish).and_then(|mut output| output.flush());
    done.map_err(ArchiveError::Output)
}

/// Reads an archive: the request, with its contents as files of `folder`, each under its SHA-256. `admit` judges the
/// request before any of them is taken. Blocks.
pub fn read<E: From<SentError>>(
    input: impl Read,
    folder: &Path,
    bounds: Bounds,
    admit: impl FnOnce(&BuildRequest, u64) -> Result<(), E>,
) -> Result<BuildRequest, E> {
    let mut tar = tar::Archive::new(MultiGzDecoder::new(input));
    let unreadable = SentError::Unreadable;
    // As they are: no names that go on in headers of their own, no sparse files.
    let mut entries = tar.entries().map_err(unreadable)?.raw(true);
    let first = entries.next().ok_or(SentError::Missing(1))?.map_err(unreadable)?;
    let (name, size) = regular(&first)?;
    if name != REQUEST_FILE || size > REQUEST_BYTES {
        return Err(SentError::Unexpected(name).into());
    }
    let request: BuildRequest = serde_json::from_reader(io::BufReader::new(first))
        .map_err(|error| if error.is_io() { SentError::Unreadable(error.into()) } else { SentError::Request(error) })?;
    let mut expected = recipe::check(&request, bounds).map_err(SentError::from)?;
    admit(&request, expected.values().sum())?;
    while !expected.is_empty() {
        let Some(entry) = entries.next() else { break };
        take(&mut entry.map_err(unreadable)?, folder, &mut expected)?;
    }
    if !expected.is_empty() {
        return Err(SentError::Missing(expected.len()).into());
    }
    // The sender shall have sent all of it, and no more.
    if let Some(more) = entries.next() {
        let (name, _) = regular(&more.map_err(unreadable)?)?;
        return Err(SentError::Unexpected(name).into());
    }
    let behind = io::copy(&mut tar.into_inner().take(TAIL_BYTES + 1), &mut io::sink()).map_err(unreadable)?;
    if behind > TAIL_BYTES {
        return Err(SentError::Unexpected("what comes behind the last file".to_owned()).into());
    }
    Ok(request)
}

/// The name and the length of a file; nothing else is taken.
fn regular<R: Read>(entry: &tar::Entry<'_, R>) -> Result<(String, u64), SentError> {
    let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    if entry.header().entry_type() != tar::EntryType::Regular {
        return Err(SentError::Unexpected(name));
    }
    let size = entry.header().size().map_err(SentError::Unreadable)?;
    Ok((name, size))
}

fn take<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    folder: &Path,
    expected: &mut BTreeMap<String, u64>,
) -> Result<(), SentError> {
    let (name, size) = regular(entry)?;
    // What was announced has a digest for its name, and that is no path.
    if expected.remove(&name) != Some(size) {
        return Err(SentError::Unexpected(name));
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(folder.join(&name))
        .map_err(SentError::Disk)?;
    let (mut sum, mut left, mut piece) = (Sha256::new(), size, vec![0; PIECE]);
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let read = entry.read(&mut piece[..most]).map_err(SentError::Unreadable)?;
        if read == 0 {
            return Err(SentError::Unreadable(io::ErrorKind::UnexpectedEof.into()));
        }
        sum.update(&piece[..read]);
        file.write_all(&piece[..read]).map_err(SentError::Disk)?;
        left -= read as u64;
    }
    if hex(&sum.finalize()) == name { Ok(()) } else { Err(SentError::Changed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sha(bytes: &[u8]) -> String {
        hex(&Sha256::digest(bytes))
    }

    fn request(files: &[(&str, &[u8])]) -> BuildRequest {
        let files: Vec<_> = files
            .iter()
            .map(|(path, bytes)| json!({"path": path, "kind": {"file": {"sha256": sha(bytes), "size": bytes.len()}}}))
            .collect();
        let recipe = json!({"steps": [{"instruction": "FROM x"}], "ready": 1, "files": files, "workdir": "/deps",
            "notes": [], "pythons": [], "described": false});
        let whole = json!({"manifest": {}, "base_image": "x", "recipe": recipe});
        serde_json::from_value(whole).unwrap()
    }

    fn contents(files: &[&[u8]]) -> Contents {
        files.iter().map(|bytes| (sha(bytes), (Content::Bytes(bytes.to_vec()), bytes.len() as u64))).collect()
    }

    fn sent(request: &BuildRequest, contents: &Contents) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(request, contents, &mut bytes).unwrap();
        bytes
    }

    fn arrives(bytes: &[u8], folder: &Path) -> Result<BuildRequest, SentError> {
        read(bytes, folder, Bounds { files: 100, bytes: 1 << 20 }, |_, _| Ok(()))
    }

    fn packed(entries: &[(&str, tar::EntryType, &[u8])], more: &[u8]) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, kind, bytes) in entries {
            let mut header = archive::header(*kind, 0o644);
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(bytes.len() as u64);
            header.set_cksum();
            tar.append(&header, *bytes).unwrap();
        }
        let mut gzip = tar.into_inner().unwrap();
        gzip.write_all(more).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn what_is_sent_arrives_once_under_its_digest() {
        let (one, two) = (b"one".as_slice(), [7; 1_000].as_slice().to_vec());
        let request = request(&[("a", one), ("b", &two), ("c", one), ("d", b"")]);
        let there = tempfile::tempdir().unwrap();
        let arrived = arrives(&sent(&request, &contents(&[one, &two, b""])), there.path()).unwrap();
        assert_eq!(serde_json::to_value(&arrived).unwrap(), serde_json::to_value(&request).unwrap());
        assert_eq!(std::fs::read(there.path().join(sha(one))).unwrap(), one);
        assert_eq!(std::fs::read(there.path().join(sha(&two))).unwrap(), two);
        assert_eq!(std::fs::read_dir(there.path()).unwrap().count(), 3);
    }

    #[test]
    fn hostile_archives_are_refused() {
        let request = request(&[("a", b"one")]);
        let (text, name) = (serde_json::to_vec(&request).unwrap(), sha(b"one"));
        let file = tar::EntryType::Regular;
        let head = (REQUEST_FILE, file, text.as_slice());
        let good = (name.as_str(), file, b"one".as_slice());
        let folder = tempfile::tempdir().unwrap();
        let refused = |bytes: &[u8]| {
            let there = tempfile::tempdir_in(folder.path()).unwrap();
            let error = arrives(bytes, there.path()).unwrap_err();
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "something lies outside");
            error
        };
        for (kind, entry) in [
            ("a path", ("../../evil", file, b"one".as_slice())),
            ("an absolute path", ("/tmp/evil", file, b"one")),
            ("a link", (name.as_str(), tar::EntryType::Symlink, b"")),
            ("a hard link", (name.as_str(), tar::EntryType::Link, b"")),
            ("a device", (name.as_str(), tar::EntryType::Char, b"")),
            ("a pipe", (name.as_str(), tar::EntryType::Fifo, b"")),
            ("a folder", (name.as_str(), tar::EntryType::Directory, b"")),
            ("a long name", ("././@LongLink", tar::EntryType::GNULongName, b"../evil")),
            ("a sparse file", (name.as_str(), tar::EntryType::GNUSparse, b"one")),
            ("another length", (name.as_str(), file, b"four")),
        ] {
            assert!(matches!(refused(&packed(&[head, entry], b"")), SentError::Unexpected(_)), "{kind}");
        }
        let other = (name.as_str(), file, b"two".as_slice());
        assert!(matches!(refused(&packed(&[head, other], b"")), SentError::Changed));
        assert!(matches!(refused(&packed(&[head], b"")), SentError::Missing(1)));
        assert!(matches!(refused(&packed(&[good, head], b"")), SentError::Unexpected(_)));
        assert!(matches!(refused(&packed(&[head, good, good], b"")), SentError::Unexpected(_)));
        assert!(matches!(refused(&packed(&[(REQUEST_FILE, file, b"{}")], b"")), SentError::Request(_)));
        // A small archive that unpacks to much ends where it may not go on.
        assert!(matches!(refused(&packed(&[head, good], &vec![0; 4 << 20])), SentError::Unexpected(_)));
        assert!(matches!(refused(b"no archive"), SentError::Unreadable(_)));
        let whole = packed(&[head, good], b"");
        assert!(matches!(refused(&whole[..whole.len() / 2]), SentError::Unreadable(_) | SentError::Request(_)));
    }

    #[test]
    fn a_file_that_changes_while_it_is_sent_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "two").unwrap();
        let contents = Contents::from([(sha(b"one"), (Content::File(path.clone()), 3))]);
        let error = write(&request(&[("a", b"one")]), &contents, io::sink()).unwrap_err();
        assert!(matches!(error, ArchiveError::Changed(found) if found == path));
    }
}
