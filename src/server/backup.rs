//! A backup of all that a server keeps: one tar archive of its databases and its registry, and the way back
//! into a new data folder.
//!
//! Secrets are in it as they are at rest, sealed with the server's key. The key file is not: whoever finds
//! the archive reads no secret.

mod archive;
mod error;

pub use error::BackupError;

use super::place::{is_locked, lock};
use super::settings::key_file;
use crate::base::paths;
use crate::base::secret::{MasterKey, hex};
use crate::store::postgres::{Dump, Managed, Missing, Options};
use error::{REGISTRY, io_at};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The version of the archive's form. The first one held the databases' roles beside them.
const SCHEMA: u32 = 2;
const FIRST_SCHEMA: u32 = 1;
/// The archive's first entry: a [`Contents`].
const CONTENTS: &str = "backup.json";
/// What the server's key is told by, without telling the key.
const KEY_CHECK: &[u8] = b"rapidclaw backup";

/// What an archive says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// Of the archive's form.
    pub schema: u32,
    /// The version that wrote it.
    pub rapidclaw: String,
    /// RFC 3339.
    pub created_at: String,
    /// The version of Postgres' programs that wrote it.
    pub postgres: u32,
    /// The databases, in the order of their files.
    pub databases: Vec<String>,
    /// Databases of agents' own that are not in it, or not whole.
    #[serde(default)]
    pub missing: Vec<Missing>,
    /// Keyed digest of a constant: equal for the key that opens the secrets.
    pub key_check: String,
}

/// Writes all that the server of this data folder keeps into `file`, whole or not at all, readable by its
/// owner alone. The server may run meanwhile.
pub async fn back_up(data_dir: &Path, file: &Path) -> Result<Contents, BackupError> {
    if !data_dir.join("postgres").join("data").is_dir() {
        return Err(BackupError::NoPostgres(data_dir.to_owned()));
    }
    let key = read_key(&key_file(data_dir))?;
    // Where no server runs none may start meanwhile: it would adopt a Postgres that is about to end.
    let lock = if is_locked(data_dir) { None } else { Some(lock(data_dir).map_err(Box::new)?) };
    let managed = Managed::ensure(&Options::new(data_dir)).await?;
    let written = write(&managed, &key, data_dir, file).await;
    if lock.is_some() {
        managed.stop().await?;
    }
    written
}

async fn write(managed: &Managed, key: &MasterKey, data_dir: &Path, file: &Path) -> Result<Contents, BackupError> {
    let folder = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // On the same disk, so that what is whole can be moved into its place.
    let draft = tempfile::Builder::new().prefix(".rapidclaw-backup").tempdir_in(folder).map_err(io_at(folder))?;
    let Dump { postgres, databases, missing } = managed.dump(draft.path()).await?;
    let contents = Contents {
        schema: SCHEMA,
        rapidclaw: env!("CARGO_PKG_VERSION").to_owned(),
        created_at: jiff::Timestamp::now().to_string(),
        postgres,
        databases,
        missing,
        key_check: check(key),
    };
    let (said, registry, file) = (contents.clone(), data_dir.join(REGISTRY), file.to_owned());
    blocking(move || write_archive(draft.path(), &said, &registry, &file)).await?;
    Ok(contents)
}

fn write_archive(draft: &Path, contents: &Contents, registry: &Path, file: &Path) -> Result<(), BackupError> {
    let whole = draft.join("archive");
    paths::write_private(&whole, b"").map_err(io_at(&whole))?;
    let out = File::options().write(true).open(&whole).map_err(io_at(&whole))?;
    let mut tar = tar::Builder::new(out);
    let text = serde_json::to_vec_pretty(contents).unwrap_or_default();
    paths::write_private(&draft.join(CONTENTS), &text).map_err(io_at(draft))?;
    let mut written = Vec::new();
    for name in [CONTENTS.to_owned()].into_iter().chain(dump(contents).files()) {
        let path = draft.join(&name);
        written.push(archive::append_file(&mut tar, &path, Path::new(&name)).map_err(io_at(&path))?);
    }
    written.extend(archive::append_registry(&mut tar, registry)?);
    tar.into_inner().and_then(|out| out.sync_all()).map_err(io_at(file))?;
    archive::verify(&whole, &written).map_err(|source| BackupError::Unreadable { path: whole.clone(), source })?;
    fs::rename(&whole, file).map_err(io_at(file))
}

/// Makes a data folder from a backup, whole or not at all. `key` is the file with the server's key; absent,
/// the one that lies beside the data folder. `image` is where Postgres comes from, as [`Options::image`] has it.
///
/// The server that starts on it is a new one that keeps the old one's agents: both could run at once.
pub async fn restore(
    file: &Path,
    data_dir: &Path,
    key: Option<&Path>,
    image: Option<String>,
) -> Result<Contents, BackupError> {
    let in_use = fs::read_dir(data_dir).map(|mut entries| entries.next().is_some());
    match in_use {
        Ok(false) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Ok(true) => return Err(BackupError::NotEmpty(data_dir.to_owned())),
        Err(source) => return Err(BackupError::Io { path: data_dir.to_owned(), source }),
    }
    let parent = data_dir.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(io_at(parent))?;
    let draft = tempfile::Builder::new().prefix(".rapidclaw-restore").tempdir_in(parent).map_err(io_at(parent))?;
    let (dumped, fresh) = (draft.path().join("dump"), draft.path().join("data"));
    let contents = {
        let (file, dumped, fresh) = (file.to_owned(), dumped.clone(), fresh.clone());
        blocking(move || unpack(&file, &dumped, &fresh)).await?
    };
    let (beside, given) = (key_file(data_dir), key.map(Path::to_owned));
    let source = given.unwrap_or_else(|| beside.clone());
    let key = read_key(&source)?;
    if check(&key) != contents.key_check {
        return Err(BackupError::WrongKey(source));
    }
    // Postgres' user has to pass through.
    paths::ensure_dir(draft.path(), 0o711).map_err(io_at(draft.path()))?;
    paths::ensure_dir(&fresh, 0o711).map_err(io_at(&fresh))?;
    let managed = Managed::ensure(&Options { image, ..Options::new(&fresh) }).await?;
    let restored = managed.restore(&dumped, &dump(&contents), &key).await;
    managed.stop().await?;
    let mut contents = contents;
    contents.missing.extend(restored?);
    if source != beside {
        let text = fs::read(&source).map_err(io_at(&source))?;
        paths::write_private(&beside, &text).map_err(io_at(&beside))?;
    }
    fs::rename(&fresh, data_dir).map_err(io_at(data_dir))?;
    Ok(contents)
}

/// The database's files into `dumped`, the registry into `fresh`.
fn unpack(file: &Path, dumped: &Path, fresh: &Path) -> Result<Contents, BackupError> {
    let strange = |source| BackupError::NotABackup { path: file.to_owned(), source };
    let wrong = |why: &str| strange(io::Error::new(io::ErrorKind::InvalidData, why.to_owned()));
    for folder in [dumped, fresh] {
        fs::create_dir(folder).map_err(io_at(folder))?;
    }
    let mut archive = tar::Archive::new(File::open(file).map_err(io_at(file))?);
    let mut contents: Option<Contents> = None;
    for entry in archive.entries().map_err(strange)? {
        let mut entry = entry.map_err(strange)?;
        let path = entry.path().map_err(strange)?.into_owned();
        let Some(known) = &contents else {
            if path != Path::new(CONTENTS) {
                return Err(wrong("it does not begin with backup.json"));
            }
            let said: serde_json::Value = serde_json::from_reader(&mut entry).map_err(|error| strange(error.into()))?;
            let schema = said["schema"].as_u64().unwrap_or_default();
            if !(u64::from(FIRST_SCHEMA)..=u64::from(SCHEMA)).contains(&schema) {
                let version = said["rapidclaw"].as_str().unwrap_or("?").to_owned();
                return Err(BackupError::Newer { path: file.to_owned(), version });
            }
            contents = Some(serde_json::from_value(said).map_err(|error| strange(error.into()))?);
            continue;
        };
        let is_dump = dump(known).may_hold(&path);
        let folder = match () {
            () if is_dump => dumped,
            () if path.starts_with(REGISTRY) => fresh,
            () => return Err(wrong(&format!("it holds {}", path.display()))),
        };
        // Leaves out what would lie outside of the folder.
        entry.unpack_in(folder).map_err(strange)?;
    }
    let contents = contents.ok_or_else(|| wrong("it is empty"))?;
    match dump(&contents).files().iter().find(|name| !dumped.join(name).is_file()) {
        Some(missing) => Err(wrong(&format!("it ends before {missing}"))),
        None => Ok(contents),
    }
}

fn dump(contents: &Contents) -> Dump {
    Dump { postgres: contents.postgres, databases: contents.databases.clone(), missing: contents.missing.clone() }
}

fn read_key(path: &Path) -> Result<MasterKey, BackupError> {
    if !path.exists() {
        return Err(BackupError::NoKey(path.to_owned()));
    }
    Ok(MasterKey::ensure(path)?)
}

fn check(key: &MasterKey) -> String {
    hex(&key.mac(KEY_CHECK))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, BackupError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(BackupError::Io { path: PathBuf::from("a thread for files"), source: io::Error::other(error) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_backup_is_refused_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (file, data) = (folder.path().join("file"), folder.path().join("data"));
        fs::write(&file, vec![b'x'; 2048]).unwrap();
        assert!(matches!(restore(&file, &data, None, None).await, Err(BackupError::NotABackup { .. })));
        // Another's archive.
        let mut tar = tar::Builder::new(File::create(&file).unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        tar.append_data(&mut header, "backup.txt", &b"hi"[..]).unwrap();
        tar.into_inner().unwrap();
        let error = restore(&file, &data, None, None).await.unwrap_err();
        assert!(matches!(error, BackupError::NotABackup { .. }), "{error}");
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["file"]);
    }

    #[tokio::test]
    async fn a_folder_with_data_is_not_restored_into() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("something"), "").unwrap();
        let refused = restore(Path::new("/none"), folder.path(), None, None).await;
        assert!(matches!(refused, Err(BackupError::NotEmpty(_))));
        assert!(matches!(back_up(folder.path(), Path::new("/none")).await, Err(BackupError::NoPostgres(_))));
    }
}
