//! Manifests, tags and referrers of a repository. All of it blocks.

use super::RegistryError;
use super::disk::{self, Disk};
use super::manifest::{Descriptor, MAX_MANIFEST, Manifest, OCI_INDEX};
use super::names::{Digest, Reference, Repository, Tag};
use serde_json::{Value, json};
use std::path::Path;

/// The most entries of one page.
const MAX_PAGE: usize = 10_000;

/// A stored manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its digest.
    pub digest: Digest,
    /// What it was sent as.
    pub media_type: String,
    /// As it came.
    pub content: Vec<u8>,
}

/// What came of a new manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Its digest.
    pub digest: Digest,
    /// What it is about.
    pub subject: Option<Digest>,
}

/// A part of a list, and whether there is more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In order.
    pub names: Vec<String>,
    /// Whether others follow.
    pub more: bool,
}

impl Disk {
    /// Keeps a manifest, under its digest and under the tag it is given.
    pub fn put_manifest(
        &self,
        name: &Repository,
        reference: &Reference,
        content_type: Option<&str>,
        content: &[u8],
    ) -> Result<Put, RegistryError> {
        let digest = Digest::of(content);
        if let Reference::Digest(asked) = reference
            && *asked != digest
        {
            return Err(RegistryError::Digest { asked: asked.clone(), found: digest });
        }
        let manifest = Manifest::read(content_type, content).map_err(RegistryError::ManifestInvalid)?;
        let _naming = self.name();
        for blob in manifest.blobs() {
            if !disk::exists(&self.link_path(name, &blob))? || self.keep(&blob)?.is_none() {
                return Err(RegistryError::ManifestBlobUnknown(blob));
            }
        }
        for child in manifest.children() {
            if !disk::exists(&self.manifest_path(name, &child))? || self.keep(&child)?.is_none() {
                return Err(RegistryError::ManifestBlobUnknown(child));
            }
        }
        self.write_content(&digest, content)?;
        disk::write(&self.manifest_path(name, &digest), manifest.media_type.as_bytes(), true)?;
        let subject = manifest.subject();
        if let Some(subject) = &subject {
            disk::write(&self.referrers_path(name, subject).join(digest.hex()), b"", true)?;
        }
        self.note_layers(&manifest)?;
        self.keep_all(name, &digest)?;
        if let Reference::Tag(tag) = reference {
            disk::write(&self.tag_path(name, tag), digest.to_string().as_bytes(), true)?;
        }
        Ok(Put { digest, subject })
    }

    /// The manifest of that tag or digest.
    pub fn find_manifest(&self, name: &Repository, reference: &Reference) -> Result<Option<Found>, RegistryError> {
        let digest = match reference {
            Reference::Digest(digest) => digest.clone(),
            Reference::Tag(tag) => match self.find_tag(name, tag)? {
                Some(digest) => digest,
                None => return Ok(None),
            },
        };
        let _naming = self.name();
        let Some(media_type) = disk::read(&self.manifest_path(name, &digest))? else { return Ok(None) };
        self.keep_all(name, &digest)?;
        let content = self.read_content(&digest, MAX_MANIFEST as u64)?;
        Ok(content.map(|content| Found { digest, media_type, content }))
    }

    fn find_tag(&self, name: &Repository, tag: &Tag) -> Result<Option<Digest>, RegistryError> {
        Ok(disk::read(&self.tag_path(name, tag))?.and_then(|text| Digest::parse(text.trim())))
    }

    /// Removes a tag, or a manifest with all its tags.
    pub fn delete_manifest(&self, name: &Repository, reference: &Reference) -> Result<(), RegistryError> {
        let _naming = self.name();
        let removed = match reference {
            Reference::Tag(tag) => disk::remove(&self.tag_path(name, tag))?,
            Reference::Digest(digest) => {
                for tag in self.tags_of(name)?.iter().filter_map(|tag| Tag::parse(tag)) {
                    if self.find_tag(name, &tag)?.as_ref() == Some(digest) {
                        disk::remove(&self.tag_path(name, &tag))?;
                    }
                }
                self.drop_manifest(name, digest)?
            }
        };
        if removed { Ok(()) } else { Err(RegistryError::ManifestUnknown(shown(reference))) }
    }

    /// Takes a manifest out of the repository. Says whether it was there.
    fn drop_manifest(&self, name: &Repository, digest: &Digest) -> Result<bool, RegistryError> {
        self.drop_manifest_with(name, digest, disk::remove)
    }

    /// [`Self::drop_manifest`], removing files in the caller's way.
    pub(super) fn drop_manifest_with(
        &self,
        name: &Repository,
        digest: &Digest,
        mut remove: impl FnMut(&Path) -> Result<bool, RegistryError>,
    ) -> Result<bool, RegistryError> {
        if let Some(subject) = self.read_manifest(name, digest)?.and_then(|manifest| manifest.subject()) {
            let folder = self.referrers_path(name, &subject);
            remove(&folder.join(digest.hex()))?;
            let _ = std::fs::remove_dir(folder);
        }
        remove(&self.manifest_path(name, digest))
    }

    /// Takes a blob out of the repository. One that a manifest of it refers to stays.
    pub fn delete_blob(&self, name: &Repository, digest: &Digest) -> Result<(), RegistryError> {
        let _naming = self.name();
        for one in self.manifests_of(name)? {
            let manifest = self.read_manifest(name, &one)?;
            if manifest.is_some_and(|manifest| manifest.blobs().any(|blob| blob == *digest)) {
                return Err(RegistryError::InUse(format!("the manifest {one} refers to the blob: delete that first")));
            }
        }
        let removed = disk::remove(&self.link_path(name, digest))?;
        if removed { Ok(()) } else { Err(RegistryError::BlobUnknown(digest.clone())) }
    }

    pub(super) fn manifests_of(&self, name: &Repository) -> Result<Vec<Digest>, RegistryError> {
        disk::digests(&self.repository(name).join("_manifests"))
    }

    pub(super) fn tags_of(&self, name: &Repository) -> Result<Vec<String>, RegistryError> {
        disk::names(&self.repository(name).join("_tags"))
    }

    /// The digests that tags name.
    pub(super) fn tagged(&self, name: &Repository) -> Result<Vec<Digest>, RegistryError> {
        let tags = self.tags_of(name)?;
        let digests = tags.iter().filter_map(|tag| Tag::parse(tag)).map(|tag| self.find_tag(name, &tag));
        Ok(digests.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    pub(super) fn read_manifest(&self, name: &Repository, digest: &Digest) -> Result<Option<Manifest>, RegistryError> {
        let Some(media_type) = disk::read(&self.manifest_path(name, digest))? else { return Ok(None) };
        let content = self.read_content(digest, MAX_MANIFEST as u64)?;
        Ok(content.and_then(|content| Manifest::read(Some(&media_type), &content).ok()))
    }

    /// The repository's tags, in order, behind `last`.
    pub fn tags(&self, name: &Repository, count: Option<usize>, last: Option<&str>) -> Result<Page, RegistryError> {
        if !self.repository(name).join("_manifests").is_dir() && !self.repository(name).join("_blobs").is_dir() {
            return Err(RegistryError::NameUnknown(name.to_string()));
        }
        Ok(page(self.tags_of(name)?, count, last))
    }

    /// The names of the repositories that hold something and that `shows` lets pass, in order, behind `last`.
    pub fn catalog(
        &self,
        count: Option<usize>,
        last: Option<&str>,
        shows: impl Fn(&Repository) -> bool,
    ) -> Result<Page, RegistryError> {
        let mut names = Vec::new();
        for name in self.all_repositories()? {
            if shows(&name) && !self.manifests_of(&name)?.is_empty() {
                names.push(name.to_string());
            }
        }
        Ok(page(names, count, last))
    }

    /// All repositories that there are folders of.
    pub(super) fn all_repositories(&self) -> Result<Vec<Repository>, RegistryError> {
        let mut found = Vec::new();
        let mut open = vec![String::new()];
        while let Some(above) = open.pop() {
            for name in disk::names(&self.repositories().join(&above))?.iter().filter(|name| !name.starts_with('_')) {
                let name = if above.is_empty() { name.clone() } else { format!("{above}/{name}") };
                let Some(repository) = Repository::parse(&name) else { continue };
                if has_own(&self.repository(&repository)) {
                    found.push(repository);
                }
                open.push(name);
            }
        }
        Ok(found)
    }

    /// The index of what is about a manifest.
    pub fn referrers(&self, name: &Repository, subject: &Digest, kind: Option<&str>) -> Result<Value, RegistryError> {
        let mut found: Vec<Descriptor> = Vec::new();
        for digest in disk::digests(&self.referrers_path(name, subject))? {
            let Some(manifest) = self.read_manifest(name, &digest)? else { continue };
            let size = self.open_content(&digest)?.map_or(0, |(_, size)| size);
            found.push(manifest.referrer(&digest, size));
        }
        found.retain(|one| kind.is_none_or(|kind| one.artifact_type.as_deref() == Some(kind)));
        found.sort_by(|one, other| one.digest.cmp(&other.digest));
        Ok(json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found}))
    }
}

fn has_own(repository: &Path) -> bool {
    ["_manifests", "_blobs", "_uploads"].iter().any(|one| repository.join(one).is_dir())
}

fn shown(reference: &Reference) -> String {
    match reference {
        Reference::Tag(tag) => tag.as_str().to_owned(),
        Reference::Digest(digest) => digest.to_string(),
    }
}

/// The specification's order: letters of either case together.
fn order(name: &str) -> (String, &str) {
    (name.to_ascii_lowercase(), name)
}

fn page(mut names: Vec<String>, count: Option<usize>, last: Option<&str>) -> Page {
    names.sort_by(|one, other| order(one).cmp(&order(other)));
    let begin = last.map_or(0, |last| names.partition_point(|name| order(name) <= order(last)));
    let mut names = names.split_off(begin);
    let count = count.unwrap_or(MAX_PAGE).min(MAX_PAGE);
    // A page of none has no last entry to go on from.
    let more = names.len() > count && count > 0;
    names.truncate(count);
    Page { names, more }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other() {
        let names = || ["b", "B", "a", "c10", "C2", "_"].map(str::to_owned).to_vec();
        let all = page(names(), None, None);
        assert_eq!((all.names, all.more), (["_", "a", "B", "b", "c10", "C2"].map(str::to_owned).to_vec(), false));
        let mut seen = Vec::new();
        loop {
            let next = page(names(), Some(2), seen.last().map(String::as_str));
            seen.extend(next.names);
            if !next.more {
                break;
            }
        }
        assert_eq!(seen.len(), 6);
        assert_eq!(page(names(), Some(0), None), Page { names: vec![], more: false });
        // What it goes on from need not be there any more.
        assert_eq!(page(names(), Some(1), Some("bb")).names, ["c10"]);
    }
}
