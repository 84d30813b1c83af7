//! Files and folders of the registry: where what lies, and how it gets there in one step. All of it blocks.

use super::error::{RegistryError, at};
use super::names::{Digest, Repository, Tag};
use crate::base::paths;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};
use uuid::Uuid;

/// What a registry is told.
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    /// Its folder.
    pub folder: PathBuf,
    /// Bytes of the disk that uploads leave free: Postgres lives there, too.
    pub reserve_bytes: u64,
    /// What nothing names stays so long after it was last asked for: a push may be about to name it.
    pub grace: Duration,
}

impl RegistrySettings {
    /// The usual ones for a folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, reserve_bytes: 256 << 20, grace: Duration::from_secs(3_600) }
    }
}

/// The registry's folder.
pub struct Disk {
    root: PathBuf,
    reserve_bytes: u64,
    pub(super) grace: Duration,
    /// Whoever names content reads; whoever takes away what nobody names writes.
    naming: RwLock<()>,
    /// What is named, or asked for, while somebody looks for what nothing names.
    asked: Mutex<Option<HashSet<Digest>>>,
}

impl Disk {
    pub(super) fn open(settings: RegistrySettings) -> Result<Self, RegistryError> {
        let RegistrySettings { folder, reserve_bytes, grace } = settings;
        paths::ensure_dir(&folder, 0o700).map_err(at("making the folder"))?;
        for name in ["blobs/sha256", "repositories", "layers"] {
            fs::create_dir_all(folder.join(name)).map_err(at("making the folder"))?;
        }
        Ok(Self { root: folder, reserve_bytes, grace, naming: RwLock::default(), asked: Mutex::default() })
    }

    /// From now on what is named or asked for is noted, or not any more.
    pub(super) fn note_asked(&self, begin: bool) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = begin.then(HashSet::new);
    }

    /// Whether it was named or asked for since [`Self::note_asked`].
    pub(super) fn was_asked(&self, digest: &Digest) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.as_ref().is_some_and(|asked| asked.contains(digest))
    }

    fn ask(&self, digest: &Digest) {
        if let Some(asked) = self.asked.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            asked.insert(digest.clone());
        }
    }

    /// While it is held nothing is taken away.
    pub(super) fn name(&self) -> RwLockReadGuard<'_, ()> {
        self.naming.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// While it is held nothing is named.
    pub(super) fn take_away(&self) -> RwLockWriteGuard<'_, ()> {
        self.naming.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(super) fn repositories(&self) -> PathBuf {
        self.root.join("repositories")
    }

    pub(super) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(super) fn repository(&self, name: &Repository) -> PathBuf {
        self.repositories().join(name.as_str())
    }

    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.blobs().join(&hex[..2]).join(hex)
    }

    pub(super) fn link_path(&self, name: &Repository, digest: &Digest) -> PathBuf {
        self.repository(name).join("_blobs").join(digest.hex())
    }

    pub(super) fn manifest_path(&self, name: &Repository, digest: &Digest) -> PathBuf {
        self.repository(name).join("_manifests").join(digest.hex())
    }

    pub(super) fn tag_path(&self, name: &Repository, tag: &Tag) -> PathBuf {
        self.repository(name).join("_tags").join(tag.as_str())
    }

    pub(super) fn referrers_path(&self, name: &Repository, subject: &Digest) -> PathBuf {
        self.repository(name).join("_referrers").join(subject.hex())
    }

    pub(super) fn upload_path(&self, name: &Repository, id: Uuid) -> PathBuf {
        self.repository(name).join("_uploads").join(id.simple().to_string())
    }

    /// How many bytes a blob of the repository has. It is not taken away for the time of grace.
    pub fn find_blob(&self, name: &Repository, digest: &Digest) -> Result<Option<u64>, RegistryError> {
        let _naming = self.name();
        if !exists(&self.link_path(name, digest))? {
            return Ok(None);
        }
        self.keep(digest)
    }

    /// A blob of the repository, to be read, and its bytes.
    pub fn open_blob(&self, name: &Repository, digest: &Digest) -> Result<(File, u64), RegistryError> {
        let unknown = || RegistryError::BlobUnknown(digest.clone());
        if self.find_blob(name, digest)?.is_none() {
            return Err(unknown());
        }
        self.open_content(digest)?.ok_or_else(unknown)
    }

    /// Any content, to be read, and its bytes.
    pub(super) fn open_content(&self, digest: &Digest) -> Result<Option<(File, u64)>, RegistryError> {
        match File::open(self.blob_path(digest)).and_then(|file| file.metadata().map(|meta| (file, meta.len()))) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at("reading content")(error)),
        }
    }

    /// Any content that is not larger than `most`, whole.
    pub(super) fn read_content(&self, digest: &Digest, most: u64) -> Result<Option<Vec<u8>>, RegistryError> {
        use io::Read as _;
        let Some((file, _)) = self.open_content(digest)?.filter(|(_, bytes)| *bytes <= most) else { return Ok(None) };
        let mut content = Vec::new();
        file.take(most).read_to_end(&mut content).map_err(at("reading content"))?;
        Ok(Some(content))
    }

    /// Sees that content stays for the time of grace from now on. Its bytes; nothing where it is not there.
    pub(super) fn keep(&self, digest: &Digest) -> Result<Option<u64>, RegistryError> {
        self.ask(digest);
        let Some((file, bytes)) = self.open_content(digest)? else { return Ok(None) };
        let age = file.metadata().and_then(|meta| meta.modified()).ok().and_then(|then| then.elapsed().ok());
        // Not each time: it is a write.
        if age.is_none_or(|age| age > self.grace / 8) {
            file.set_modified(SystemTime::now()).map_err(at("keeping content"))?;
        }
        Ok(Some(bytes))
    }

    /// Gives the repository a blob that another one has. Says whether that one has it.
    pub fn mount(&self, name: &Repository, from: &Repository, digest: &Digest) -> Result<bool, RegistryError> {
        let _naming = self.name();
        if !exists(&self.link_path(from, digest))? || self.keep(digest)?.is_none() {
            return Ok(false);
        }
        self.link(name, digest)?;
        Ok(true)
    }

    /// The repository has that content from now on.
    pub(super) fn link(&self, name: &Repository, digest: &Digest) -> Result<(), RegistryError> {
        self.ask(digest);
        let path = self.link_path(name, digest);
        if exists(&path)? {
            return Ok(());
        }
        write(&path, b"", true)
    }

    /// Gives content its name: the file is moved. It must be whole, and its digest must have been checked.
    pub(super) fn adopt(&self, file: &File, path: &Path, digest: &Digest) -> Result<(), RegistryError> {
        self.ask(digest);
        // An upload may have waited long for its end.
        file.set_modified(SystemTime::now()).map_err(at("writing content"))?;
        file.sync_all().map_err(at("writing content"))?;
        let to = self.blob_path(digest);
        let folder = to.parent().unwrap_or(&self.root);
        ensure_dir(folder).map_err(at("making a folder"))?;
        fs::rename(path, &to).map_err(at("naming content"))?;
        sync_dir(folder).map_err(at("naming content"))
    }

    /// Writes small content under its digest.
    pub(super) fn write_content(&self, digest: &Digest, content: &[u8]) -> Result<(), RegistryError> {
        if self.keep(digest)? == Some(content.len() as u64) {
            return Ok(());
        }
        self.room_for(content.len() as u64)?;
        write(&self.blob_path(digest), content, true)
    }

    /// Sees that so many bytes leave the disk its reserve.
    pub(super) fn room_for(&self, bytes: u64) -> Result<(), RegistryError> {
        let stat = rustix::fs::statvfs(&self.root).map_err(|error| at("asking for room")(error.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < bytes.saturating_add(self.reserve_bytes) { Err(RegistryError::Full) } else { Ok(()) }
    }
}

/// Whether a file is there.
pub(super) fn exists(path: &Path) -> Result<bool, RegistryError> {
    path.try_exists().map_err(at("looking"))
}

/// A small file, whole; nothing where there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, RegistryError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at("reading")(error)),
    }
}

/// Writes a small file whole or not at all; `durable`: it is on the disk when this returns.
pub(super) fn write(path: &Path, bytes: &[u8], durable: bool) -> Result<(), RegistryError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let draft = folder.join(format!(".{}", Uuid::now_v7().simple()));
    let written = (|| {
        ensure_dir(folder)?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(bytes)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&draft, path)?;
        if durable { sync_dir(folder) } else { Ok(()) }
    })();
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written.map_err(at("writing"))
}

/// Removes a file. Says whether it was there.
pub(super) fn remove(path: &Path) -> Result<bool, RegistryError> {
    match fs::remove_file(path) {
        Ok(()) => sync_dir(path.parent().unwrap_or(path)).map(|()| true).map_err(at("removing")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(at("removing")(error)),
    }
}

/// The names in a folder, without drafts; none where there is no folder.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, RegistryError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at("listing")(error)),
    };
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string().unwrap_or_default()));
    let names: Vec<String> = names.collect::<Result<_, _>>().map_err(at("listing"))?;
    Ok(names.into_iter().filter(|name| !name.is_empty() && !name.starts_with('.')).collect())
}

/// The digests that files of a folder are named by.
pub(super) fn digests(folder: &Path) -> Result<Vec<Digest>, RegistryError> {
    Ok(names(folder)?.iter().filter_map(|name| Digest::from_hex(name)).collect())
}

fn ensure_dir(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().unwrap_or(Path::new("."));
    ensure_dir(above)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_dir(above),
    }
}

/// Names in a folder are on the disk when the folder is.
fn sync_dir(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
