//! The image registry: content by its digest, in the data folder.
//!
//! All of it is files, and nothing is in Postgres: a blob's name is its digest, a tag is a file of one line,
//! and each change is one atomic rename, so that there is nothing that a second store would have to agree
//! with. A copy of the folder is a copy of the registry.
//!
//! | below `registry/` | holds |
//! | --- | --- |
//! | `blobs/sha256/ab/HEX` | content: layers, configs, manifests; each once |
//! | `repositories/NAME/_blobs/HEX` | empty: the repository has that blob |
//! | `repositories/NAME/_manifests/HEX` | the manifest's media type |
//! | `repositories/NAME/_tags/TAG` | the digest of the manifest |
//! | `repositories/NAME/_referrers/HEX/HEX` | empty: the second is about the first |
//! | `repositories/NAME/_uploads/ID` | what has come of an upload |
//! | `layers/HEX` | where the layer with that uncompressed digest is kept |
//!
//! Content gets its name only when it is whole, has that digest and lies on the disk: a server that is
//! killed leaves uploads, which go on, and never half a blob.

pub mod collect;
mod disk;
mod error;
mod layers;
pub mod manifest;
mod manifests;
pub mod names;
pub mod path;
mod slots;
pub mod token;
mod uploads;

pub use disk::{Disk, RegistrySettings};
pub use error::RegistryError;
pub(crate) use error::at;
pub use layers::{ImageParts, Layer, common_layers};
pub use manifests::{Found, Put};
pub use uploads::{Chunk, ChunkRange};

use slots::Uploads;
use std::io;
use std::sync::Arc;

/// The registry. Clones share it.
#[derive(Clone)]
pub struct Registry {
    disk: Arc<Disk>,
    uploads: Arc<Uploads>,
}

impl Registry {
    /// The registry in a folder, which is made where it is not there. Blocks.
    pub fn open(settings: RegistrySettings) -> Result<Self, RegistryError> {
        Ok(Self { disk: Arc::new(Disk::open(settings)?), uploads: Arc::default() })
    }

    /// The disk, for those who are on a thread that may block.
    pub fn disk(&self) -> Arc<Disk> {
        Arc::clone(&self.disk)
    }

    /// Does something with the disk, off the threads that requests are served on.
    pub async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> Result<T, RegistryError> + Send + 'static,
    ) -> Result<T, RegistryError> {
        let disk = Arc::clone(&self.disk);
        let done = tokio::task::spawn_blocking(move || work(&disk)).await;
        done.unwrap_or_else(|error| Err(at("working")(io::Error::other(error))))
    }
}
