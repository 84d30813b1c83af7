//! Takes away what nothing names: no tag, no release, no manifest that is kept, and nobody a while ago.

use super::disk::{self, Disk};
use super::manifest::Descriptor;
use super::names::{Digest, Repository};
use super::{Registry, RegistryError, at};
use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;

/// Uploads wait for their client so many times as long as other things.
const UPLOAD_PATIENCE: u32 = 24;

/// How many files go while others wait to give names.
const AT_ONCE: usize = 32;

/// What was taken away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Manifests.
    pub manifests: u64,
    /// Contents: layers, configs and manifests.
    pub blobs: u64,
    /// Uploads that nobody went on with.
    pub uploads: u64,
    /// Bytes of all that.
    pub bytes: u64,
}

impl Registry {
    /// Takes away what is named neither by a tag nor by `named`, which are the releases' manifests. Pushes and deploys
    /// go on meanwhile.
    pub async fn collect(&self, named: HashSet<Digest>) -> Result<Collected, RegistryError> {
        let uploads = std::sync::Arc::clone(&self.uploads);
        self.on_disk(move |disk| {
            let swept = disk.mark(&named).and_then(|garbage| disk.sweep(&garbage));
            disk.note_asked(false);
            let (collected, ended) = swept?;
            uploads.forget_all_but(|id| !ended.contains(&id));
            Ok(collected)
        })
        .await
    }
}

/// What nothing named when it was looked at. Whatever names something of it, or asks for it, from the beginning of
/// that look on is noted with all that belongs to it ([`Disk::keep_all`]), and stays: parts of the garbage go under the
/// lock that names are given under, after a second look.
#[derive(Debug, Default)]
struct Garbage {
    repositories: Vec<Repository>,
    manifests: Vec<(Repository, Digest)>,
    links: Vec<(Repository, Digest)>,
    blobs: Vec<Digest>,
    uploads: Vec<(Repository, String)>,
}

/// Folders that names were removed from.
#[derive(Default)]
struct Changed(BTreeSet<PathBuf>);

impl Changed {
    /// Removes a file. Says whether it was there; that it is gone is on the disk only after [`Changed::sync`].
    fn remove(&mut self, path: &Path) -> Result<bool, RegistryError> {
        match fs::remove_file(path) {
            Ok(()) => {
                self.0.extend(path.parent().map(Path::to_owned));
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(at("removing")(error)),
        }
    }

    fn sync(&mut self) -> Result<(), RegistryError> {
        for folder in std::mem::take(&mut self.0) {
            match File::open(&folder).and_then(|folder| folder.sync_all()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at("removing")(error)),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Disk {
    /// Looks for what nothing names, without holding anybody up.
    fn mark(&self, named: &HashSet<Digest>) -> Result<Garbage, RegistryError> {
        self.note_asked(true);
        let mut garbage = Garbage { repositories: self.all_repositories()?, ..Garbage::default() };
        let mut live = HashSet::new();
        for name in &garbage.repositories {
            let own = self.live_in(name, named)?;
            for digest in self.manifests_of(name)?.into_iter().filter(|digest| !own.contains(digest)) {
                garbage.manifests.push((name.clone(), digest));
            }
            let folder = self.repository(name);
            for digest in disk::digests(&folder.join("_blobs"))? {
                if own.contains(&digest) || self.is_young_link(name, &digest) {
                    live.insert(digest);
                } else {
                    garbage.links.push((name.clone(), digest));
                }
            }
            for upload in disk::names(&folder.join("_uploads"))? {
                if !self.is_young(&folder.join("_uploads").join(&upload), UPLOAD_PATIENCE) {
                    garbage.uploads.push((name.clone(), upload));
                }
            }
            live.extend(own);
        }
        for start in disk::names(&self.blobs())? {
            let found = disk::digests(&self.blobs().join(start))?.into_iter();
            let idle = |digest: &Digest| !live.contains(digest) && !self.is_young(&self.blob_path(digest), 1);
            garbage.blobs.extend(found.filter(idle));
        }
        Ok(garbage)
    }

    /// Takes away what is garbage still. Names first, so that nothing is ever named whose content is gone. Says also
    /// which uploads have ended.
    fn sweep(&self, garbage: &Garbage) -> Result<(Collected, HashSet<Uuid>), RegistryError> {
        let (mut collected, mut ended, mut changed) = (Collected::default(), HashSet::new(), Changed::default());
        self.in_parts(&garbage.manifests, |(name, digest)| {
            if !self.was_asked(digest) && !self.is_young_manifest(name, digest) {
                collected.manifests += u64::from(self.drop_manifest_with(name, digest, |path| changed.remove(path))?);
            }
            Ok(())
        })?;
        self.in_parts(&garbage.links, |(name, digest)| {
            if !self.was_asked(digest) && !self.is_young_link(name, digest) {
                changed.remove(&self.link_path(name, digest))?;
            }
            Ok(())
        })?;
        changed.sync()?;
        self.in_parts(&garbage.blobs, |digest| {
            let path = self.blob_path(digest);
            if !self.was_asked(digest) && !self.is_young(&path, 1) {
                let bytes = fs::metadata(&path).map_or(0, |meta| meta.len());
                if changed.remove(&path)? {
                    collected.blobs += 1;
                    collected.bytes += bytes;
                }
            }
            Ok(())
        })?;
        self.in_parts(&garbage.uploads, |(name, upload)| {
            let path = self.repository(name).join("_uploads").join(upload);
            if self.is_young(&path, UPLOAD_PATIENCE) || is_written(&path) {
                return Ok(());
            }
            let bytes = fs::metadata(&path).map_or(0, |meta| meta.len());
            if changed.remove(&path)? {
                collected.uploads += 1;
                collected.bytes += bytes;
                ended.extend(Uuid::try_parse(upload));
            }
            Ok(())
        })?;
        let notes = disk::digests(&self.layers())?;
        self.in_parts(&notes, |id| {
            let path = self.layers().join(id.hex());
            let layer = disk::read(&path)?.and_then(|text| serde_json::from_str::<Descriptor>(&text).ok());
            let blob = layer.and_then(|layer| Digest::parse(&layer.digest));
            if !matches!(blob, Some(blob) if disk::exists(&self.blob_path(&blob))?) {
                changed.remove(&path)?;
            }
            Ok(())
        })?;
        changed.sync()?;
        for start in disk::names(&self.blobs())? {
            self.drop_drafts(&self.blobs().join(start))?;
        }
        self.drop_drafts(&self.layers())?;
        self.in_parts(&garbage.repositories, |name| self.tidy(name))?;
        Ok((collected, ended))
    }

    /// Does something about each, a few at a time, while nobody gives names.
    fn in_parts<T>(
        &self,
        all: &[T],
        mut each: impl FnMut(&T) -> Result<(), RegistryError>,
    ) -> Result<(), RegistryError> {
        for part in all.chunks(AT_ONCE) {
            let _taking = self.take_away();
            part.iter().try_for_each(&mut each)?;
        }
        Ok(())
    }

    fn is_young_link(&self, name: &Repository, digest: &Digest) -> bool {
        self.is_young(&self.link_path(name, digest), 1) || self.is_young(&self.blob_path(digest), 1)
    }

    fn is_young_manifest(&self, name: &Repository, digest: &Digest) -> bool {
        self.is_young(&self.manifest_path(name, digest), 1) || self.is_young(&self.blob_path(digest), 1)
    }

    /// Sees that a manifest stays for the time of grace from now on, with all that would be live with it. Whoever
    /// calls it holds the lock that names are given under.
    pub(super) fn keep_all(&self, name: &Repository, digest: &Digest) -> Result<(), RegistryError> {
        let (mut seen, mut open) = (HashSet::new(), vec![digest.clone()]);
        while let Some(digest) = open.pop() {
            if !seen.insert(digest.clone()) {
                continue;
            }
            self.keep(&digest)?;
            if let Some(manifest) = self.read_manifest(name, &digest)? {
                for blob in manifest.blobs() {
                    self.keep(&blob)?;
                }
                open.extend(manifest.children());
            }
            open.extend(disk::digests(&self.referrers_path(name, &digest))?);
        }
        Ok(())
    }

    /// What of a repository is named: manifests and blobs.
    fn live_in(&self, name: &Repository, named: &HashSet<Digest>) -> Result<HashSet<Digest>, RegistryError> {
        let mut live = HashSet::new();
        let all = self.manifests_of(name)?;
        let tagged: HashSet<Digest> = self.tagged(name)?.into_iter().collect();
        let mut open: Vec<Digest> = all
            .into_iter()
            .filter(|one| tagged.contains(one) || named.contains(one) || self.is_young_manifest(name, one))
            .collect();
        while let Some(digest) = open.pop() {
            if !live.insert(digest.clone()) {
                continue;
            }
            if let Some(manifest) = self.read_manifest(name, &digest)? {
                live.extend(manifest.blobs());
                open.extend(manifest.children());
            }
            // Signatures and the like live as long as what they are about.
            open.extend(disk::digests(&self.referrers_path(name, &digest))?);
        }
        Ok(live)
    }

    fn is_young(&self, path: &Path, times: u32) -> bool {
        let modified = fs::metadata(path).and_then(|meta| meta.modified());
        // A clock that was set back makes young what comes from the future.
        modified.is_ok_and(|then| then.elapsed().unwrap_or(Duration::ZERO) < self.grace * times)
    }

    /// Removes what writes that were killed have left, and folders in which nothing is.
    fn tidy(&self, name: &Repository) -> Result<(), RegistryError> {
        let mut folder = self.repository(name);
        for one in ["_blobs", "_manifests", "_tags", "_uploads", "_referrers"] {
            self.drop_drafts(&folder.join(one))?;
            let _ = fs::remove_dir(folder.join(one));
        }
        while folder != self.repositories() && fs::remove_dir(&folder).is_ok() {
            folder.pop();
        }
        Ok(())
    }

    fn drop_drafts(&self, folder: &Path) -> Result<(), RegistryError> {
        let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
        for entry in entries {
            let entry = entry.map_err(at("listing"))?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") && !self.is_young(&entry.path(), 1) {
                disk::remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// Whether a request writes to an upload now.
fn is_written(path: &Path) -> bool {
    match File::open(path) {
        Ok(file) => matches!(file.try_lock(), Err(TryLockError::WouldBlock)),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests;
