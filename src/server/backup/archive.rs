//! The archive's entries: each is hashed as it is written, and all are read back.

use super::error::{BackupError, REGISTRY, io_at};
use crate::base::secret::hex;
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What is still being pushed, in each repository: no image is of it.
const UPLOADS: &str = "_uploads";
/// Where content lies that is named by its digest.
const CONTENT: &str = "blobs/sha256";

/// What was written of an entry.
#[derive(Debug, PartialEq, Eq)]
pub struct Written {
    bytes: u64,
    digest: [u8; 32],
}

/// Hashes what is read.
struct Hashing<R> {
    inner: R,
    sum: Sha256,
    bytes: u64,
}

impl<R> Hashing<R> {
    fn new(inner: R) -> Self {
        Self { inner, sum: Sha256::new(), bytes: 0 }
    }

    fn finish(self) -> Written {
        Written { bytes: self.bytes, digest: self.sum.finalize().into() }
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.sum.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

/// Writes a file under a name. It may grow meanwhile: it has the size that it began with.
pub fn append_file(tar: &mut tar::Builder<File>, path: &Path, name: &Path) -> io::Result<Written> {
    let open = File::open(path)?;
    let bytes = open.metadata()?.len();
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o600);
    header.set_size(bytes);
    // Not a byte more than the header says; what has become shorter is filled up, and is not what its name says.
    let mut content = Hashing::new(open.chain(io::repeat(0)).take(bytes));
    tar.append_data(&mut header, name, &mut content)?;
    Ok(content.finish())
}

/// Writes the registry's files, beside pushes and the removal of old images: what is being pushed is left out, and
/// what has gone since it was listed is no fault.
pub fn append_registry(tar: &mut tar::Builder<File>, registry: &Path) -> Result<Vec<Written>, BackupError> {
    let mut written = Vec::new();
    // Names and tags first and content last: what is named is never missing because it came later.
    let mut folders = vec![registry.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(BackupError::Io { path: folder, source }),
        };
        let inside = folder.strip_prefix(registry).unwrap_or(&folder);
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o700);
        header.set_size(0);
        tar.append_data(&mut header, Path::new(REGISTRY).join(inside), io::empty()).map_err(io_at(&folder))?;
        written.push(Hashing::new(io::empty()).finish());
        let mut names: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        names.sort();
        for path in names {
            // Drafts begin with a dot, and get their names when they are whole.
            let is_draft = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if is_draft || path.file_name().is_some_and(|name| name == UPLOADS) {
                continue;
            }
            match append_entry(tar, registry, &path) {
                Ok(None) => folders.push(path),
                Ok(Some(entry)) if is_damaged(registry, &path, &entry) => return Err(BackupError::Damaged(path)),
                Ok(Some(entry)) => written.push(entry),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(BackupError::Io { path, source }),
            }
        }
    }
    Ok(written)
}

/// Nothing: it is a folder.
fn append_entry(tar: &mut tar::Builder<File>, registry: &Path, path: &Path) -> io::Result<Option<Written>> {
    if fs::symlink_metadata(path)?.is_dir() {
        return Ok(None);
    }
    let inside = Path::new(REGISTRY).join(path.strip_prefix(registry).unwrap_or(path));
    append_file(tar, path, &inside).map(Some)
}

/// Whether content has another digest than its name says.
fn is_damaged(registry: &Path, path: &Path, written: &Written) -> bool {
    let name = path.file_name().unwrap_or_default();
    path.starts_with(registry.join(CONTENT)) && name.to_str() != Some(&hex(&written.digest))
}

/// Reads what was written to its end: these entries, and no others.
pub fn verify(archive: &Path, written: &[Written]) -> io::Result<()> {
    let mut left = written.iter();
    for entry in tar::Archive::new(File::open(archive)?).entries()? {
        let mut entry = Hashing::new(entry?);
        io::copy(&mut entry, &mut io::sink())?;
        if left.next() != Some(&entry.finish()) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an entry is not what was to be written"));
        }
    }
    match left.next() {
        None => Ok(()),
        Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::names::{Digest, Reference, Repository, Tag};
    use crate::registry::{Chunk, Registry, RegistryError, RegistrySettings};
    use bytes::Bytes;
    use serde_json::json;
    use std::collections::HashSet;
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;
    use tokio::task::JoinSet;

    fn archive_of(registry: &Path, file: &Path) -> Result<Vec<Written>, BackupError> {
        let mut tar = tar::Builder::new(File::create(file).unwrap());
        let written = append_registry(&mut tar, registry)?;
        tar.into_inner().unwrap();
        Ok(written)
    }

    async fn push(registry: &Registry, number: usize) {
        let name = Repository::parse("a").unwrap();
        let mut descriptors = Vec::new();
        for content in ["{}".to_owned(), format!("layer {number} {}", "x".repeat(50_000))] {
            let digest = Digest::of(content.as_bytes());
            let upload = registry.begin_upload(&name).await.unwrap();
            let bytes = content.len();
            let body = futures_util::stream::iter([Ok::<_, Infallible>(Bytes::from(content))]);
            let chunk = Chunk { range: None, length: None, body };
            match registry.finish_upload(&name, upload, chunk, &digest).await {
                Ok(()) => {}
                // Older than the registry's patience.
                Err(RegistryError::UploadUnknown) => return,
                Err(error) => panic!("{error}"),
            }
            descriptors
                .push(json!({"mediaType": "application/octet-stream", "digest": digest.to_string(), "size": bytes}));
        }
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            json!({"schemaVersion": 2, "mediaType": kind, "config": descriptors[0], "layers": [descriptors[1]]});
        let tag = Reference::Tag(Tag::parse(&format!("t{}", number % 3)).unwrap());
        let put =
            move |disk: &crate::registry::Disk| disk.put_manifest(&name, &tag, None, manifest.to_string().as_bytes());
        match registry.on_disk(put).await {
            // Its blobs were older than the registry's patience.
            Ok(_) | Err(RegistryError::ManifestBlobUnknown(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn a_backup_beside_pushes_and_the_removal_of_images_is_whole() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = folder.path().join("registry");
        let settings = RegistrySettings {
            grace: Duration::from_millis(2),
            reserve_bytes: 0,
            ..RegistrySettings::new(path.clone())
        };
        let registry = Registry::open(settings).unwrap();
        push(&registry, 0).await;
        let is_over = std::sync::Arc::new(AtomicBool::new(false));
        let (pushing, clearing) = (registry.clone(), registry.clone());
        let (until, also_until) = (std::sync::Arc::clone(&is_over), std::sync::Arc::clone(&is_over));
        let (mut pushes, mut clearings) = (JoinSet::new(), JoinSet::new());
        pushes.spawn(async move {
            let mut number = 0;
            while !until.load(Ordering::Relaxed) {
                number += 1;
                push(&pushing, number).await;
            }
            number
        });
        clearings.spawn(async move {
            let mut removed = 0;
            while !also_until.load(Ordering::Relaxed) {
                removed += clearing.collect(HashSet::new()).await.unwrap().blobs;
            }
            removed
        });
        let file = folder.path().join("archive");
        for _ in 0..20 {
            let (path, file) = (path.clone(), file.clone());
            let written = tokio::task::spawn_blocking(move || {
                let written = archive_of(&path, &file).unwrap();
                verify(&file, &written).unwrap();
                written.len()
            });
            assert!(written.await.unwrap() > 5);
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(pushes.join_next().await.unwrap().unwrap() > 0 && clearings.join_next().await.unwrap().unwrap() > 0);
    }

    #[test]
    fn an_archive_that_is_not_what_was_written_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let registry = folder.path().join("registry");
        fs::create_dir_all(registry.join("layers")).unwrap();
        fs::write(registry.join("layers/note"), "some text").unwrap();
        let file = folder.path().join("archive");
        let written = archive_of(&registry, &file).unwrap();
        verify(&file, &written).unwrap();
        // One byte of the content, another size, less than all.
        let mut bytes = fs::read(&file).unwrap();
        let at = bytes.windows(9).position(|part| part == b"some text").unwrap();
        bytes[at] = b'S';
        fs::write(&file, &bytes).unwrap();
        assert_eq!(verify(&file, &written).unwrap_err().kind(), io::ErrorKind::InvalidData);
        bytes[at] = b's';
        fs::write(&file, &bytes[..at - at % 512]).unwrap();
        assert!(verify(&file, &written).is_err());
    }

    #[test]
    fn content_that_is_not_what_its_name_says_fails_the_backup() {
        let folder = tempfile::tempdir().unwrap();
        let registry = folder.path().join("registry");
        let digest = Digest::of(b"content").hex();
        let blob = registry.join(CONTENT).join(&digest[..2]).join(&digest);
        fs::create_dir_all(blob.parent().unwrap()).unwrap();
        fs::write(&blob, "content").unwrap();
        archive_of(&registry, &folder.path().join("archive")).unwrap();
        fs::write(&blob, "conten").unwrap();
        let failed = archive_of(&registry, &folder.path().join("archive")).unwrap_err();
        assert!(matches!(failed, BackupError::Damaged(path) if path == blob));
    }
}
