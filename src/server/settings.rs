//! What a server is started with, what it says of itself in its data folder, and why it does not start.

use super::public_url::PublicUrl;
use super::tls::{TlsError, TlsFiles};
use crate::base::paths;
use crate::base::secret::{SecretError, SecretString};
use crate::control::ControlError;
use crate::egress::Override;
use crate::engine::EngineError;
use crate::models::ProviderOverride;
use crate::registry::RegistryError;
use crate::runtime::RuntimeError;
use crate::store::StoreError;
use crate::store::postgres::PostgresError;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Of how many releases of an agent the images stay, when nobody says.
pub const KEEP_IMAGES: u32 = 10;

/// What a server is told.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Where its data lie.
    pub data_dir: PathBuf,
    /// Of the control API.
    pub listen: SocketAddr,
    /// Of the agents' API.
    pub agents_listen: SocketAddr,
    /// How the control API is called from elsewhere.
    pub public_url: Option<PublicUrl>,
    /// How the agents' API is called from elsewhere; else as the control API, under its own port.
    pub agents_public_url: Option<PublicUrl>,
    /// Both listeners speak TLS.
    pub tls: Option<TlsFiles>,
    /// Whether others may listen in: no TLS on addresses other than loopback.
    pub insecure: bool,
    /// A Postgres of the user's; else one is managed in the data folder.
    pub database_url: Option<SecretString>,
    /// The image that the managed Postgres comes from; else the machine's own, or the official image.
    pub postgres_image: Option<String>,
    /// `--provider NAME=URL`.
    pub providers: Vec<ProviderOverride>,
    /// `--resolve NAME:PORT:ADDR`.
    pub resolve: Vec<Override>,
    /// Of how many releases of an agent the images stay.
    pub keep_images: u32,
    /// How many images it builds at once for those who deploy.
    pub build_jobs: Option<u32>,
    /// Takes over from the server that runs on the data folder.
    pub takeover: bool,
    /// The arguments to start the same server again with; no secret is among them.
    pub arguments: Vec<String>,
}

impl ServerSettings {
    /// All else as it is when nobody says.
    pub fn plain(data_dir: PathBuf, listen: SocketAddr, agents_listen: SocketAddr) -> Self {
        Self {
            data_dir,
            listen,
            agents_listen,
            public_url: None,
            agents_public_url: None,
            tls: None,
            insecure: false,
            database_url: None,
            postgres_image: None,
            providers: Vec::new(),
            resolve: Vec::new(),
            keep_images: KEEP_IMAGES,
            build_jobs: None,
            takeover: false,
            arguments: Vec::new(),
        }
    }
}

/// What a running server says of itself, in its data folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFile {
    /// Its process.
    pub pid: u32,
    /// Of the control API.
    pub url: String,
    /// Of the agents' API.
    pub agents_url: String,
    /// Its version.
    pub version: String,
    /// The arguments to start the same server again with.
    #[serde(default)]
    pub arguments: Vec<String>,
}

impl ServerFile {
    pub(super) fn of(settings: &ServerSettings, url: String, agents_url: String) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { pid: std::process::id(), url, agents_url, version, arguments: settings.arguments.clone() }
    }

    pub(super) fn write(&self, data_dir: &Path) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        paths::write_atomically(&server_file(data_dir), &text, 0o644)
    }
}

/// Why a server could not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The data folder cannot be used.
    #[error("the data folder {path}")]
    DataDir {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Another server has it.
    #[error("another server runs on the data folder {0}")]
    Locked(String),
    /// A port cannot be had.
    #[error("listening on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Others could listen in.
    #[error("{0} is not a loopback address, and there is no TLS")]
    Insecure(SocketAddr),
    /// Others could listen in.
    #[error("{0} is another host in plain HTTP, and would show it tokens and keys")]
    InsecureUrl(String),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Docker.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Replicas could not be told from others there.
    #[error("Docker Engine runs without root, so its containers have other users than this machine knows")]
    Rootless,
    /// Postgres.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The tables.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Keys and tokens.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The replicas' folders.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The control plane could not begin.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The server that runs did not hand over.
    #[error("taking over from the server that runs")]
    Handover(#[source] io::Error),
    /// The registry's folder.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Signals could not be listened for.
    #[error("listening for signals")]
    Signals(#[source] io::Error),
    /// It was to stop before it served.
    #[error("the server was stopped before it served")]
    Interrupted,
}

/// The file of [`ServerFile`] in a data folder.
pub fn server_file(data_dir: &Path) -> PathBuf {
    data_dir.join("server.json")
}

/// The file of the administrator's token in a data folder.
pub fn admin_token_file(data_dir: &Path) -> PathBuf {
    data_dir.join("admin-token")
}

/// The key file: beside the data folder, so that a copy of the one is not a copy of the other.
pub fn key_file(data_dir: &Path) -> PathBuf {
    let mut name = data_dir.as_os_str().to_owned();
    name.push(".key");
    name.into()
}
