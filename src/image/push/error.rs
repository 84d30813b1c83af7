//! What may go wrong with a push.

use crate::client::registry::RegistryClientError;
use crate::image::archive::ArchiveError;
use bollard::errors::Error as DockerError;
use std::io;
use std::path::Path;

/// Why an image could not be pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryClientError),
    /// The engine.
    #[error("{doing}")]
    Engine {
        /// What it was doing.
        doing: &'static str,
        /// What it says.
        source: Box<DockerError>,
    },
    /// The project's files.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// This machine's disk.
    #[error("packing a layer below {folder}")]
    Disk {
        /// Where.
        folder: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The engine's archive is not what is known.
    #[error("the engine gave another image than was asked for: {0}")]
    Archived(String),
}

pub(super) fn engine(doing: &'static str) -> impl Fn(DockerError) -> PushError {
    move |source| PushError::Engine { doing, source: Box::new(source) }
}

pub(super) fn disk(folder: &Path) -> impl Fn(io::Error) -> PushError + '_ {
    move |source| PushError::Disk { folder: folder.display().to_string(), source }
}
