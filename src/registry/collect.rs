//! Takes away what nothing names: no tag, no release, no manifest that is kept, and nobody a while ago.

use super::disk::{self, Disk};
use super::manifest::Descriptor;
use super::names::{Digest, Repository};
use super::{Registry, RegistryError, at};
use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;

/// Uploads wait for their client so many times as long as other things.
const UPLOAD_PATIENCE: u32 = 24;

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
    /// Takes away what is named neither by a tag nor by `named`, which are the releases' manifests.
    pub async fn collect(&self, named: HashSet<Digest>) -> Result<Collected, RegistryError> {
        let uploads = std::sync::Arc::clone(&self.uploads);
        self.on_disk(move |disk| {
            let (collected, open) = disk.collect(&named)?;
            uploads.forget_all_but(|id| open.contains(&id));
            Ok(collected)
        })
        .await
    }
}

impl Disk {
    fn collect(&self, named: &HashSet<Digest>) -> Result<(Collected, HashSet<Uuid>), RegistryError> {
        let _taking = self.take_away();
        let mut collected = Collected::default();
        let (mut live, mut open) = (HashSet::new(), HashSet::new());
        for name in self.all_repositories()? {
            let own = self.live_in(&name, named)?;
            for digest in self.manifests_of(&name)? {
                if !own.contains(&digest) && self.drop_manifest(&name, &digest)? {
                    collected.manifests += 1;
                }
            }
            let folder = self.repository(&name);
            for digest in disk::digests(&folder.join("_blobs"))? {
                let link = self.link_path(&name, &digest);
                if own.contains(&digest) || self.is_young(&link, 1) || self.is_young(&self.blob_path(&digest), 1) {
                    live.insert(digest);
                } else {
                    disk::remove(&link)?;
                }
            }
            for upload in disk::names(&folder.join("_uploads"))? {
                let path = folder.join("_uploads").join(&upload);
                if self.is_young(&path, UPLOAD_PATIENCE) {
                    open.extend(Uuid::try_parse(&upload));
                } else {
                    collected.bytes += fs::metadata(&path).map_or(0, |meta| meta.len());
                    collected.uploads += u64::from(disk::remove(&path)?);
                }
            }
            live.extend(own);
            self.tidy(&name)?;
        }
        for start in disk::names(&self.blobs())? {
            let folder = self.blobs().join(start);
            for digest in disk::digests(&folder)? {
                let path = self.blob_path(&digest);
                if !live.contains(&digest) && !self.is_young(&path, 1) {
                    collected.bytes += fs::metadata(&path).map_or(0, |meta| meta.len());
                    collected.blobs += u64::from(disk::remove(&path)?);
                }
            }
            self.drop_drafts(&folder)?;
        }
        for id in disk::digests(&self.layers())? {
            let path = self.layers().join(id.hex());
            let layer = disk::read(&path)?.and_then(|text| serde_json::from_str::<Descriptor>(&text).ok());
            let blob = layer.and_then(|layer| Digest::parse(&layer.digest));
            if !matches!(blob, Some(blob) if disk::exists(&self.blob_path(&blob))?) {
                disk::remove(&path)?;
            }
        }
        self.drop_drafts(&self.layers())?;
        Ok((collected, open))
    }

    /// What of a repository is named: manifests and blobs.
    fn live_in(&self, name: &Repository, named: &HashSet<Digest>) -> Result<HashSet<Digest>, RegistryError> {
        let mut live = HashSet::new();
        let all = self.manifests_of(name)?;
        let tagged: HashSet<Digest> = self.tagged(name)?.into_iter().collect();
        let mut open: Vec<Digest> = all
            .into_iter()
            .filter(|one| {
                let young =
                    || self.is_young(&self.manifest_path(name, one), 1) || self.is_young(&self.blob_path(one), 1);
                tagged.contains(one) || named.contains(one) || young()
            })
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
