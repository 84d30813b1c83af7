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
mod layers;
pub mod manifest;
mod manifests;
pub mod names;
pub mod path;
pub mod token;
mod uploads;

pub use disk::Disk;
pub use layers::{ImageParts, Layer, common_layers};
pub use manifests::{Found, Put};
pub use uploads::{Chunk, ChunkRange};

use names::Digest;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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

/// Why the registry does not do what it is asked for.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No repository of that name.
    #[error("there is no repository {0}")]
    NameUnknown(String),
    /// The repository has no such blob.
    #[error("the repository has no blob {0}")]
    BlobUnknown(Digest),
    /// The repository has no such manifest.
    #[error("the repository has no manifest {0}")]
    ManifestUnknown(String),
    /// What was sent is no manifest.
    #[error("{0}")]
    ManifestInvalid(String),
    /// A manifest refers to what is not there.
    #[error("the manifest refers to {0}, which the repository has not")]
    ManifestBlobUnknown(Digest),
    /// Something still refers to it.
    #[error("{0}")]
    InUse(String),
    /// There is no such upload, or it has ended.
    #[error("there is no such upload; it may have ended")]
    UploadUnknown,
    /// A chunk does not follow what has come.
    #[error("the chunk begins at {asked}, and {received} bytes have come")]
    OutOfOrder {
        /// Where it begins.
        asked: u64,
        /// How many bytes there are.
        received: u64,
    },
    /// A chunk has another size than it said.
    #[error("the chunk was to have {said} bytes and has {came}")]
    Size {
        /// What it said.
        said: u64,
        /// What came; it may be more.
        came: u64,
    },
    /// The content has another digest.
    #[error("the content has the digest {found}, not {asked}; the upload has ended")]
    Digest {
        /// What was asked for.
        asked: Digest,
        /// What it is.
        found: Digest,
    },
    /// The client went away or fell silent. What has come stays.
    #[error("the upload broke off after {received} bytes; it can go on from there")]
    BrokeOff {
        /// How many bytes there are.
        received: u64,
    },
    /// Another request goes on with the upload.
    #[error("another request goes on with this upload")]
    Busy,
    /// Too many uploads at once.
    #[error("too many uploads at once")]
    TooMany,
    /// No room on the disk.
    #[error("the server's disk is full")]
    Full,
    /// The disk failed.
    #[error("{doing} in the registry's folder")]
    Disk {
        /// What was done.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl RegistryError {
    /// Whether it says only that nobody takes what is written.
    pub fn is_nobody_reads(&self) -> bool {
        matches!(self, Self::Disk { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// For `map_err`: the disk failed at something.
pub(crate) fn at(doing: &'static str) -> impl Fn(io::Error) -> RegistryError {
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => RegistryError::Full,
        _ => RegistryError::Disk { doing, source },
    }
}

/// The registry. Clones share it.
#[derive(Clone)]
pub struct Registry {
    disk: Arc<Disk>,
    uploads: Arc<uploads::Uploads>,
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
