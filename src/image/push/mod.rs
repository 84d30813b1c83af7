//! An image from an engine into a registry, without the engine's help: what the registry lacks is packed here
//! and goes over this program's own connection. So it works with any engine (Docker Desktop's virtual machine
//! included), needs no setting of it, and a changed line moves one small layer.

mod error;
mod pack;
mod save;

use crate::api::images::LayerBlob;
use crate::base::secret::sha256_digest;
use crate::client::registry::{Blob, Content, RepositoryClient};
use crate::engine::images::can_append;
use crate::image::archive::{self, ArchiveError};
use crate::image::report::Built;
use crate::registry::manifest::{DOCKER_MANIFEST, Manifest, OCI_MANIFEST, diff_ids};
use bollard::Docker;
use bytes::Bytes;
pub use error::PushError;
use error::{disk, engine};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use pack::{DOCKER_GZIP, Packed};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tempfile::TempDir;

/// How many layers are packed and pushed at the same time.
const AT_ONCE: usize = 3;

const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The tag of what was pushed last into a repository.
pub const LATEST: &str = "latest";

/// Layers that are in a registry, by the digest of what they hold.
pub type Known = BTreeMap<String, LayerBlob>;

/// What came of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The manifest's digest.
    pub digest: String,
    /// Bytes of layers and config that were not there.
    pub bytes: u64,
}

/// Digests of the image's layers, uncompressed; lowest first.
pub async fn layers(docker: &Docker, image: &str) -> Result<Vec<String>, PushError> {
    let found = docker.inspect_image(image).await.map_err(engine("asking what the image consists of"))?;
    Ok(found.root_fs.and_then(|root| root.layers).unwrap_or_default())
}

/// What of an image is in a registry already, by what was pushed there last.
pub async fn known(repository: &RepositoryClient) -> Result<Known, PushError> {
    let Some(manifest) = repository.read_manifest(LATEST).await? else { return Ok(Known::new()) };
    let Ok(manifest) = Manifest::read(None, &manifest) else { return Ok(Known::new()) };
    let Some(config) = manifest.image_config() else { return Ok(Known::new()) };
    let config = repository.read_blob(&config.to_string()).await?.unwrap_or_default();
    let blobs = manifest.layers.into_iter().filter(|layer| layer.urls.is_empty());
    let blobs = blobs.map(|one| LayerBlob { media_type: one.media_type, digest: one.digest, size: one.size });
    Ok(diff_ids(&config).unwrap_or_default().into_iter().map(|id| id.to_string()).zip(blobs).collect())
}

/// Pushes an image under its digest and under `tags`. `known` are layers that are there; `sent` counts bytes
/// on their way.
pub async fn push(
    docker: &Docker,
    built: &Built,
    repository: &RepositoryClient,
    known: &Known,
    tags: &[&str],
    sent: &Arc<AtomicU64>,
) -> Result<Pushed, PushError> {
    let image = docker.inspect_image(&built.image_id).await.map_err(engine("asking what the image consists of"))?;
    let classic = can_append(&image);
    let ids = image.root_fs.and_then(|root| root.layers).unwrap_or_default();
    let folder = tempfile::Builder::new().prefix("rapidclaw-push-").tempdir().map_err(disk(&std::env::temp_dir()))?;
    let work = Work { docker, built, repository, sent, folder };
    let missing: Vec<usize> = (0..ids.len()).filter(|at| !known.contains_key(&ids[*at])).collect();
    let config = if classic { work.config().await? } else { None };
    let code = match missing.as_slice() {
        [only] if *only + 1 == ids.len() => work.pack_code(&ids[*only]).await?,
        _ => None,
    };
    let mut bytes = 0;
    let (config, packed) = match (config, missing.as_slice(), code) {
        (Some(config), [], _) => (config, HashMap::new()),
        (Some(config), [only], Some(code)) => {
            bytes += code.size;
            work.push_layer(&code).await?;
            (config, HashMap::from([(*only, code.blob())]))
        }
        (_, missing, _) => {
            let (config, pushed) = work.push_saved(&ids, missing).await?;
            bytes += pushed.values().map(|layer| layer.size).sum::<u64>();
            (config, pushed)
        }
    };
    if let Some(content) = config.content {
        bytes += config.size;
        let blob = Blob { digest: config.digest.clone(), size: config.size, content: Content::Bytes(content) };
        work.repository.push_blob(&blob, sent).await?;
    }
    let layers = ids.iter().enumerate().filter_map(|(at, id)| packed.get(&at).or_else(|| known.get(id)));
    let (kind, manifest) = manifest(&config.digest, config.size, layers);
    let digest = sha256_digest(&manifest);
    repository.put_manifest(&digest, kind, &manifest).await?;
    for tag in tags {
        repository.put_manifest(tag, kind, &manifest).await?;
    }
    Ok(Pushed { digest, bytes })
}

struct Work<'a> {
    docker: &'a Docker,
    built: &'a Built,
    repository: &'a RepositoryClient,
    sent: &'a Arc<AtomicU64>,
    folder: TempDir,
}

/// A config; its bytes where they are not in the registry.
struct Config {
    digest: String,
    size: u64,
    content: Option<Bytes>,
}

impl Work<'_> {
    /// The config where it is at hand: engines that name images by it, just built, or pushed before.
    async fn config(&self) -> Result<Option<Config>, PushError> {
        let digest = &self.built.image_id;
        if let Some(content) = self.built.config.as_ref().filter(|config| sha256_digest(config) == **digest) {
            let content = Bytes::copy_from_slice(content);
            return Ok(Some(Config { digest: digest.clone(), size: content.len() as u64, content: Some(content) }));
        }
        let size = self.repository.find_blob(digest).await?;
        Ok(size.map(|size| Config { digest: digest.clone(), size, content: None }))
    }

    /// The code, packed from the project's files, where that is what the layer holds.
    async fn pack_code(&self, diff_id: &str) -> Result<Option<Packed>, PushError> {
        let Some(code) = self.built.code.clone() else { return Ok(None) };
        let path = self.folder.path().join("code");
        let packed = self.blocking(move || {
            let mut packer = pack::Packer::new(&path)?;
            let written = archive::write(code.iter(), &archive::Seen::default(), &mut packer);
            Ok((written, packer.finish()?))
        });
        let (written, packed) = packed.await?;
        match written {
            // The engine still has what the files held.
            Err(ArchiveError::Changed(_) | ArchiveError::File { .. }) => return Ok(None),
            written => written?,
        }
        Ok(Some(packed).filter(|packed| packed.diff_id == diff_id))
    }

    async fn push_layer(&self, layer: &Packed) -> Result<(), PushError> {
        let content = Content::File(layer.path.clone());
        let blob = Blob { digest: layer.digest.clone(), size: layer.size, content };
        self.repository.push_blob(&blob, self.sent).await?;
        Ok(())
    }

    /// Has the engine write the whole image, and takes what is missing out of that.
    async fn push_saved(
        &self,
        ids: &[String],
        missing: &[usize],
    ) -> Result<(Config, HashMap<usize, LayerBlob>), PushError> {
        let path = self.folder.path().join("image.tar");
        save::save(self.docker, &self.built.image_id, &path).await?;
        let (archive, file) = (path.clone(), path);
        let saved = self.blocking(move || save::Saved::read(&archive)).await?.map_err(PushError::Archived)?;
        if saved.layers.len() != ids.len() {
            return Err(PushError::Archived(format!("{} layers, not {}", saved.layers.len(), ids.len())));
        }
        let layers = stream::iter(missing.iter().copied()).map(|at| {
            let (part, id, archive) = (saved.layers[at], ids[at].clone(), file.clone());
            let to = self.folder.path().join(format!("layer-{at}"));
            async move {
                let packed = self.blocking(move || part.pack(&archive, &to)).await?;
                // What came packed is checked by whoever unpacks it.
                if packed.media_type == DOCKER_GZIP && !packed.as_it_came && packed.diff_id != id {
                    return Err(PushError::Archived(format!("layer {} instead of {id}", packed.diff_id)));
                }
                self.push_layer(&packed).await?;
                let _ = std::fs::remove_file(&packed.path);
                Ok((at, packed.blob()))
            }
        });
        let pushed = layers.buffer_unordered(AT_ONCE).try_collect().await?;
        let digest = sha256_digest(&saved.config);
        let config = Config { digest, size: saved.config.len() as u64, content: Some(saved.config.into()) };
        Ok((config, pushed))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, PushError> {
        let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)));
        done.map_err(disk(self.folder.path()))
    }
}

/// The manifest: Docker's where all layers can be that, which every engine takes; else OCI's.
fn manifest<'l>(config: &str, size: u64, layers: impl Iterator<Item = &'l LayerBlob>) -> (&'static str, Vec<u8>) {
    let layers: Vec<&LayerBlob> = layers.collect();
    let docker = layers.iter().all(|layer| matches!(layer.media_type.as_str(), DOCKER_GZIP | OCI_GZIP));
    let (kind, config_kind) = if docker { (DOCKER_MANIFEST, DOCKER_CONFIG) } else { (OCI_MANIFEST, OCI_CONFIG) };
    let kind_of = |layer: &LayerBlob| match layer.media_type.as_str() {
        DOCKER_GZIP | OCI_GZIP if docker => DOCKER_GZIP.to_owned(),
        DOCKER_GZIP => OCI_GZIP.to_owned(),
        other => other.to_owned(),
    };
    let layers: Vec<Value> = layers
        .into_iter()
        .map(|layer| json!({"mediaType": kind_of(layer), "size": layer.size, "digest": layer.digest}))
        .collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": kind,
        "config": {"mediaType": config_kind, "size": size, "digest": config}, "layers": layers});
    (kind, manifest.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::pack::OCI_ZSTD;
    use super::*;

    #[test]
    fn the_manifest_is_dockers_where_it_can_be() {
        let layer = |kind: &str| LayerBlob { media_type: kind.into(), digest: sha256_digest(kind.as_bytes()), size: 1 };
        let config = sha256_digest(b"config");
        let (kind, text) = manifest(&config, 2, [layer(DOCKER_GZIP), layer(OCI_GZIP)].iter());
        let read = Manifest::read(Some(kind), &text).unwrap();
        assert_eq!((kind, read.layers[1].media_type.as_str()), (DOCKER_MANIFEST, DOCKER_GZIP));
        assert!(read.image_config().is_some());
        let (kind, text) = manifest(&config, 2, [layer(DOCKER_GZIP), layer(OCI_ZSTD)].iter());
        let read = Manifest::read(Some(kind), &text).unwrap();
        assert_eq!((kind, read.layers[0].media_type.as_str()), (OCI_MANIFEST, OCI_GZIP));
    }
}
