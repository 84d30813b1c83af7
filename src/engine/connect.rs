//! Connects to a Docker Engine: any from API 1.41 on, wherever `DOCKER_HOST` or the usual sockets say.

use super::place::{self, Place, PlaceError, Surroundings};
use crate::base::http;
use bollard::errors::Error as DockerError;
use bollard::{API_DEFAULT_VERSION, Docker};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The oldest API that is spoken (Engine 20.10).
pub const MIN_API: (u32, u32) = (1, 41);

/// How long an engine may take to answer the first question.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer's head may take. A build's first line, a stop's whole grace and a `wait` come
/// within it (the default of 120 s breaks off long stops); who wants less bounds the call itself.
const CALL_TIMEOUT_SECONDS: u64 = 3_600;

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nothing listens there.
    #[error("no Docker Engine answers at {address}")]
    NotRunning {
        /// Where it was looked for.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// This user may not talk to it.
    #[error("this user may not use the Docker Engine at {address}")]
    NoRights {
        /// Where it is.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Its API is older than 1.41.
    #[error("the Docker Engine at {address} speaks API {found}; 1.41 is the oldest that will do")]
    TooOld {
        /// Where it is.
        address: String,
        /// What it speaks.
        found: String,
    },
    /// It took a connection and did not answer.
    #[error("the Docker Engine at {address} does not answer")]
    TimedOut {
        /// Where it is.
        address: String,
    },
    /// `DOCKER_HOST` names a way that is not gone here.
    #[error("DOCKER_HOST={0} is neither unix://, tcp:// nor http://")]
    Address(String),
    /// A context of Docker's leads nowhere.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A certificate for it is not there.
    #[error("the Docker Engine wants TLS, and {} is not there", .0.display())]
    Certificate(PathBuf),
    /// One side speaks TLS and the other does not, or they do not trust each other.
    #[error("TLS with the Docker Engine at {address}")]
    Tls {
        /// Where it is.
        address: String,
        /// Whether we speak it.
        ours: bool,
        /// What went wrong.
        source: Box<bollard::errors::Error>,
    },
    /// It answered with an error.
    #[error("asking the Docker Engine at {address}")]
    Refused {
        /// Where it is.
        address: String,
        /// What it answered.
        source: Box<bollard::errors::Error>,
    },
}

impl EngineError {
    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::NotRunning { address, .. } if address.starts_with("unix://") => {
                "start it: `sudo systemctl start docker` (Docker Desktop: open it); without systemd: `sudo dockerd`; \
                 to install it: https://docs.docker.com/engine/install"
                    .into()
            }
            Self::NotRunning { .. } | Self::TimedOut { .. } => {
                "see whether it runs (`docker version`) and whether DOCKER_HOST names it".into()
            }
            Self::NoRights { .. } => {
                "join its group: `sudo usermod -aG docker $USER`, then log in again; or use sudo".into()
            }
            Self::TooOld { .. } => "update it to Docker Engine 20.10 or newer: https://docs.docker.com/engine/install".into(),
            Self::Address(given) if given.starts_with("ssh://") => {
                "forward its socket: `ssh -NL /tmp/docker.sock:/var/run/docker.sock HOST`, then DOCKER_HOST=unix:///tmp/docker.sock"
                    .into()
            }
            Self::Address(_) => "set DOCKER_HOST to unix:///PATH or tcp://HOST:PORT, or unset it".into(),
            Self::Place(_) => "`docker context ls` shows those that are there; DOCKER_HOST comes before any".into(),
            Self::Certificate(_) => {
                "DOCKER_CERT_PATH names the folder of ca.pem, cert.pem and key.pem; DOCKER_TLS_VERIFY=\"\" goes without".into()
            }
            Self::Tls { ours: false, .. } => {
                "it may want TLS: set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the folder of ca.pem, cert.pem and \
                 key.pem (GitLab's docker:dind has them in /certs/client)"
                    .into()
            }
            Self::Tls { .. } => {
                "see whether ca.pem, cert.pem and key.pem are those of this engine (`docker version` uses the same)".into()
            }
            Self::Refused { .. } => "see the engine's own log (`journalctl -u docker`)".into(),
        }
    }

    /// What an engine said, or that it and we do not speak the same way.
    fn refused(address: &str, tls: bool, source: DockerError) -> Self {
        let (address, source) = (address.to_owned(), Box::new(source));
        // An engine that wants TLS says so in clear, or ends the connection.
        let said = match &*source {
            DockerError::DockerResponseServerError { message, .. } => {
                message.contains("HTTP request to an HTTPS server")
            }
            DockerError::HyperResponseError { .. } | DockerError::HyperLegacyError { .. } => {
                address.starts_with("tcp://")
            }
            _ => false,
        };
        if said || http::tls_fault(&*source).is_some() {
            return Self::Tls { address, ours: tls, source };
        }
        Self::Refused { address, source }
    }
}

/// Connects to the engine that the environment names and sees that it answers.
pub async fn connect() -> Result<Docker, EngineError> {
    connect_within(&Surroundings::here().place()?, CONNECT_TIMEOUT).await
}

/// Whether the engine's process has the same file system at this path as this one: what is mounted here is there
/// only where both are in one mount namespace, or in two that tell each other.
pub async fn sees(path: &Path) -> bool {
    let Ok(place) = Surroundings::here().place() else { return false };
    let Some(socket) = place.address.strip_prefix("unix://") else { return false };
    let peer = async { tokio::net::UnixStream::connect(socket).await?.peer_cred() };
    let Ok(Ok(peer)) = tokio::time::timeout(CONNECT_TIMEOUT, peer).await else { return false };
    let Some((pid, below)) = peer.pid().zip(path.strip_prefix("/").ok()) else { return false };
    let there = Path::new("/proc").join(pid.to_string()).join("root").join(below);
    match (rustix::fs::stat(path), rustix::fs::stat(&there)) {
        (Ok(here), Ok(there)) => (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino),
        _ => false,
    }
}

/// Connects to the engine at `address` (`unix://PATH`, `tcp://HOST:PORT`, `http://HOST:PORT`).
pub async fn connect_to(address: &str) -> Result<Docker, EngineError> {
    let place = Place { address: address.to_owned(), certificates: None, named_by: None };
    connect_within(&place, CONNECT_TIMEOUT).await
}

async fn connect_within(place: &Place, patience: Duration) -> Result<Docker, EngineError> {
    let address = place.address.as_str();
    let port = if place.certificates.is_some() { 2376 } else { 2375 };
    let probe = async {
        if let Some(path) = address.strip_prefix("unix://") {
            tokio::net::UnixStream::connect(path).await.map(drop)
        } else {
            let host = address.split_once("://").map_or(address, |(_, host)| host).trim_end_matches('/');
            let host = if host.contains(':') { host.to_owned() } else { format!("{host}:{port}") };
            tokio::net::TcpStream::connect(host).await.map(drop)
        }
    };
    let known = ["unix://", "tcp://", "http://"].iter().any(|scheme| address.starts_with(scheme));
    if !known {
        return Err(EngineError::Address(address.to_owned()));
    }
    let timed_out = || EngineError::TimedOut { address: address.to_owned() };
    tokio::time::timeout(patience, probe).await.map_err(|_| timed_out())?.map_err(|source| {
        let address = address.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => EngineError::NoRights { address, source },
            _ => EngineError::NotRunning { address, source },
        }
    })?;
    let refused = |source| EngineError::refused(address, place.certificates.is_some(), source);
    let docker = match &place.certificates {
        _ if address.starts_with("unix://") => {
            Docker::connect_with_unix(address, CALL_TIMEOUT_SECONDS, API_DEFAULT_VERSION)
        }
        Some(folder) => {
            let [key, cert, authority] = place::files(folder);
            if let Some(missing) = [&key, &cert, &authority].into_iter().find(|file| !file.is_file()) {
                return Err(EngineError::Certificate(missing.clone()));
            }
            http::install_crypto();
            Docker::connect_with_ssl(address, &key, &cert, &authority, CALL_TIMEOUT_SECONDS, API_DEFAULT_VERSION)
        }
        None => Docker::connect_with_http(address, CALL_TIMEOUT_SECONDS, API_DEFAULT_VERSION),
    }
    .map_err(refused)?;
    // Not negotiate_version: bollard 0.21 sends paths without a version, which every engine answers
    // in its own newest one.
    let version = tokio::time::timeout(patience, docker.version()).await.map_err(|_| timed_out())?.map_err(refused)?;
    let found = version.api_version.unwrap_or_default();
    if parse_api(&found).is_none_or(|api| api < MIN_API) {
        return Err(EngineError::TooOld { address: address.to_owned(), found });
    }
    Ok(docker)
}

/// Whether the engine has an image of that name or id.
pub async fn has_image(docker: &Docker, image: &str) -> Result<bool, EngineError> {
    let address = place::address;
    match tokio::time::timeout(CONNECT_TIMEOUT, docker.inspect_image(image)).await {
        Ok(Ok(_)) => Ok(true),
        Ok(Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. })) => Ok(false),
        Ok(Err(source)) => Err(EngineError::Refused { address: address(), source: Box::new(source) }),
        Err(_) => Err(EngineError::TimedOut { address: address() }),
    }
}

fn parse_api(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// An engine that answers every request with `body`, or never.
    fn engine(folder: &Path, body: Option<&'static str>) -> String {
        let path = folder.join("docker.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut head = [0; 4096];
                    let read = stream.read(&mut head).await.unwrap_or(0);
                    let Some(body) = body.filter(|_| read > 0) else {
                        return std::future::pending::<()>().await;
                    };
                    let head =
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: ";
                    let _ = stream.write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes()).await;
                });
            }
        });
        format!("unix://{}", path.display())
    }

    #[tokio::test]
    async fn each_way_to_fail_has_its_error_and_its_hint() {
        let folder = tempfile::tempdir().unwrap();
        let error = connect_to("unix:///nowhere/docker.sock").await.unwrap_err();
        assert!(matches!(error, EngineError::NotRunning { .. }) && error.hint().contains("systemctl start docker"));
        let error = connect_to("ssh://host").await.unwrap_err();
        assert!(matches!(error, EngineError::Address(_)) && error.hint().contains("ssh -NL"));
        let error = connect_to(&engine(folder.path(), Some(r#"{"ApiVersion":"1.40"}"#))).await.unwrap_err();
        assert!(matches!(&error, EngineError::TooOld { found, .. } if found == "1.40"), "{error:?}");
        assert!(
            connect_to("tcp://127.0.0.1:1").await.is_err_and(|error| matches!(error, EngineError::NotRunning { .. }))
        );
    }

    #[tokio::test]
    async fn an_engine_that_is_new_enough_will_do_and_a_silent_one_times_out() {
        let folder = tempfile::tempdir().unwrap();
        connect_to(&engine(folder.path(), Some(r#"{"ApiVersion":"1.53"}"#))).await.unwrap();
        let silent = tempfile::tempdir().unwrap();
        let place = Place { address: engine(silent.path(), None), certificates: None, named_by: None };
        let refused = connect_within(&place, Duration::from_millis(200)).await;
        assert!(matches!(refused, Err(EngineError::TimedOut { .. })));
    }
}
