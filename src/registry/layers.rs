//! Images as engines know them: layers by the digest of what is in them, however they were packed.
//!
//! An engine names a layer by its uncompressed digest, a registry by that of the compressed bytes. Which
//! belongs to which is noted when a manifest comes, so that whoever has an image in an engine can ask what
//! is here without packing anything.

use super::disk::{self, Disk};
use super::manifest::{Descriptor, Manifest, diff_ids};
use super::names::{Digest, Reference, Repository};
use super::{RegistryError, at};
use serde_json::json;
use std::io::{self, Read, Write};

/// The largest config that is read.
const MAX_CONFIG: u64 = 8 << 20;

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The digest of what it holds.
    pub diff_id: Digest,
    /// The blob.
    pub digest: Digest,
    /// Bytes of the blob.
    pub size: u64,
}

/// An image, to be put together for an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageParts {
    /// The manifest's digest.
    pub manifest: Digest,
    /// The config's digest, which is the image's id in most engines.
    pub config_digest: Digest,
    /// The config.
    pub config: Vec<u8>,
    /// Bottom first.
    pub layers: Vec<Layer>,
}

impl Disk {
    /// Notes where the layers of an image are kept.
    pub(super) fn note_layers(&self, manifest: &Manifest) -> Result<(), RegistryError> {
        let Some(config) = manifest.image_config() else { return Ok(()) };
        let Some(ids) = self.read_content(&config, MAX_CONFIG)?.and_then(|config| diff_ids(&config)) else {
            return Ok(());
        };
        if ids.len() != manifest.layers.len() {
            return Ok(());
        }
        for (id, layer) in ids.iter().zip(&manifest.layers).filter(|(_, layer)| layer.urls.is_empty()) {
            if self.find_layer(id)?.is_none() {
                let text = serde_json::to_vec(layer).unwrap_or_default();
                // Lost, it is found out again with the next manifest.
                disk::write(&self.layers().join(id.hex()), &text, false)?;
            }
        }
        Ok(())
    }

    /// Where the layer of that uncompressed digest is kept.
    fn find_layer(&self, id: &Digest) -> Result<Option<Descriptor>, RegistryError> {
        let note = disk::read(&self.layers().join(id.hex()))?;
        let Some(layer) = note.and_then(|text| serde_json::from_str::<Descriptor>(&text).ok()) else { return Ok(None) };
        let there = match Digest::parse(&layer.digest) {
            Some(digest) => self.keep(&digest)?.is_some(),
            None => false,
        };
        Ok(Some(layer).filter(|_| there))
    }

    /// Which of these layers are here, in one of the repositories `among` or in any. Those that are belong to the
    /// repository from now on.
    pub fn adopt_layers(
        &self,
        name: &Repository,
        ids: &[Digest],
        among: Option<&[Repository]>,
    ) -> Result<Vec<Option<Descriptor>>, RegistryError> {
        let _naming = self.name();
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            let layer = self.find_layer(id)?;
            let digest = layer.as_ref().and_then(|layer| Digest::parse(&layer.digest));
            let known = match (&digest, among) {
                (Some(digest), Some(among)) => self.is_in_any(among, digest)?,
                (digest, _) => digest.is_some(),
            };
            if let Some(digest) = digest.filter(|_| known) {
                self.link(name, &digest)?;
            }
            found.push(layer.filter(|_| known));
        }
        Ok(found)
    }

    /// Whether one of the repositories has the blob.
    fn is_in_any(&self, repositories: &[Repository], blob: &Digest) -> Result<bool, RegistryError> {
        for name in repositories {
            if disk::exists(&self.link_path(name, blob))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The image of a manifest's digest; nothing where it is not whole.
    pub fn find_image(&self, name: &Repository, digest: &Digest) -> Result<Option<ImageParts>, RegistryError> {
        let Some(found) = self.find_manifest(name, &Reference::Digest(digest.clone()))? else { return Ok(None) };
        let Ok(manifest) = Manifest::read(Some(&found.media_type), &found.content) else { return Ok(None) };
        let Some(config_digest) = manifest.image_config() else { return Ok(None) };
        let Some(config) = self.read_content(&config_digest, MAX_CONFIG)? else { return Ok(None) };
        let ids = diff_ids(&config).unwrap_or_default();
        let mut layers = Vec::with_capacity(ids.len());
        for (diff_id, layer) in ids.into_iter().zip(&manifest.layers) {
            let Some(digest) = Digest::parse(&layer.digest) else { return Ok(None) };
            let Some(size) = self.keep(&digest)? else { return Ok(None) };
            layers.push(Layer { diff_id, digest, size });
        }
        let whole = layers.len() == manifest.layers.len();
        Ok(whole.then_some(ImageParts { manifest: found.digest, config_digest, config, layers }))
    }
}

impl Disk {
    /// Writes an image as `docker load` takes it. Layers go as they are kept: an engine unpacks them itself. Of
    /// the `known` lowest ones the files are left out: an engine that has them looks them up by their chain ids
    /// (moby `image/tarexport/load.go`).
    pub fn write_archive(
        &self,
        image: &ImageParts,
        known: usize,
        tag: &str,
        output: impl Write,
    ) -> Result<(), RegistryError> {
        let mut tar = tar::Builder::new(output);
        let mut add = |name: &str, bytes: u64, content: &mut dyn Read| {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o644);
            header.set_size(bytes);
            tar.append_data(&mut header, name, content).map_err(at("writing an image"))
        };
        let file = |number: usize, layer: &Layer| format!("{number}-{}/layer.tar", &layer.diff_id.hex()[..32]);
        for (number, layer) in image.layers.iter().enumerate().skip(known) {
            let missing = || at("reading a layer")(io::ErrorKind::NotFound.into());
            let (mut content, bytes) = self.open_content(&layer.digest)?.ok_or_else(missing)?;
            add(&file(number, layer), bytes, &mut content)?;
        }
        let config = format!("{}.json", image.config_digest.hex());
        add(&config, image.config.len() as u64, &mut image.config.as_slice())?;
        let layers: Vec<String> = image.layers.iter().enumerate().map(|(number, layer)| file(number, layer)).collect();
        let manifest = json!([{"Config": config, "RepoTags": [tag], "Layers": layers}]).to_string();
        add("manifest.json", manifest.len() as u64, &mut manifest.as_bytes())?;
        tar.into_inner().and_then(|mut output| output.flush()).map_err(at("writing an image"))
    }
}

/// How many of the lowest layers of an image are also those of another one.
pub fn common_layers(image: &ImageParts, other: &[String]) -> usize {
    image.layers.iter().zip(other).take_while(|(layer, id)| layer.diff_id.to_string() == **id).count()
}
