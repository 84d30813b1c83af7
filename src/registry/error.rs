//! Why the registry does not do what it is asked for.

use super::names::Digest;
use std::io;

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
