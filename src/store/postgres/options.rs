//! What a managed Postgres shall be.

use std::path::PathBuf;

/// The managed Postgres' only role, and the database of the server in it.
pub(super) const ROLE: &str = "rapidclaw";

/// The oldest version that we work with.
pub(super) const MIN_MAJOR: u32 = 13;

/// What a managed Postgres shall be.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server's data folder; Postgres' own lies in it.
    pub data_dir: PathBuf,
    /// How many connections Postgres takes.
    pub max_connections: u16,
    /// Whether a commit survives a power cut. Off in tests alone.
    pub durable: bool,
    /// The image to take Postgres from. Absent: the machine's own, and the official image where it has none.
    pub image: Option<String>,
}

impl Options {
    /// The defaults of a server.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), max_connections: 400, durable: true, image: None }
    }
}

/// Memory of one connection: many times what the server's largest statement needs.
pub(super) const CONNECTION_BYTES: u64 = 1 << 30;
