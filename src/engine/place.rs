//! Where the Docker Engine is, as `docker` itself finds it: `DOCKER_HOST`, else the context of `DOCKER_CONTEXT` or of
//! Docker's configuration, else the usual sockets (docs.docker.com: "Docker contexts", "Environment variables",
//! "Protect the Docker daemon socket").

use crate::base::env;
use crate::base::secret::hex;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

/// The socket of an engine that was installed as Docker's documentation has it.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// The context that means the usual socket.
const DEFAULT_CONTEXT: &str = "default";

/// An engine's address, and the certificates that it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `unix://PATH`, `tcp://HOST:PORT`, `http://HOST:PORT`.
    pub address: String,
    /// With TLS: the folder of `ca.pem`, `cert.pem` and `key.pem`.
    pub certificates: Option<PathBuf>,
    /// Who says so: `DOCKER_HOST`, `the Docker context NAME`; nothing for the usual socket.
    pub named_by: Option<String>,
}

/// Why a context leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It is not among Docker's contexts.
    #[error("the Docker context {0:?} is not there")]
    Unknown(String),
    /// It does not say where its engine is.
    #[error("the Docker context {0:?} names no Docker Engine")]
    Nowhere(String),
}

/// What is looked at: the environment once, so that all else is a function of it.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// `DOCKER_HOST`.
    pub host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub context: Option<String>,
    /// `DOCKER_TLS_VERIFY` is set to anything.
    pub tls: bool,
    /// `DOCKER_CERT_PATH`.
    pub certificates: Option<PathBuf>,
    /// `DOCKER_CONFIG`, else `~/.docker`.
    pub config: Option<PathBuf>,
    /// The home folder.
    pub home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    current_context: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Context {
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: Option<Endpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint {
    #[serde(default)]
    host: String,
}

impl Surroundings {
    /// Those of this process.
    pub fn here() -> Self {
        let home = env::var("HOME").map(PathBuf::from);
        Self {
            host: env::var(env::DOCKER_HOST),
            context: env::var("DOCKER_CONTEXT"),
            tls: env::var("DOCKER_TLS_VERIFY").is_some(),
            certificates: env::var("DOCKER_CERT_PATH").map(PathBuf::from),
            config: env::var(env::DOCKER_CONFIG).map(PathBuf::from).or_else(|| Some(home.as_ref()?.join(".docker"))),
            home,
            runtime: env::var("XDG_RUNTIME_DIR").map(PathBuf::from),
        }
    }

    /// Where the engine is. Where none of the usual sockets is there, the first of them is named.
    pub fn place(&self) -> Result<Place, PlaceError> {
        if let Some(host) = &self.host {
            let folder = || self.certificates.clone().or_else(|| self.config.clone());
            let is_socket = host.starts_with("unix://");
            let certificates = self.tls.then(folder).flatten().filter(|_| !is_socket);
            return Ok(Place { address: host.clone(), certificates, named_by: Some(env::DOCKER_HOST.to_owned()) });
        }
        match self.current_context() {
            Some(name) => self.of_context(&name),
            None => Ok(Place { address: self.usual_socket(), certificates: None, named_by: None }),
        }
    }

    fn current_context(&self) -> Option<String> {
        let configured = || {
            let text = std::fs::read(self.config.as_ref()?.join("config.json")).ok()?;
            // A damaged file is told where its logins are read.
            Some(serde_json::from_slice::<Config>(&text).ok()?.current_context)
        };
        self.context.clone().or_else(configured).filter(|name| !name.is_empty() && name != DEFAULT_CONTEXT)
    }

    fn of_context(&self, name: &str) -> Result<Place, PlaceError> {
        let unknown = || PlaceError::Unknown(name.to_owned());
        let contexts = self.config.as_ref().map(|config| config.join("contexts")).ok_or_else(unknown)?;
        let id = hex(&Sha256::digest(name));
        let text = std::fs::read(contexts.join("meta").join(&id).join("meta.json")).map_err(|_| unknown())?;
        let context: Option<Context> = serde_json::from_slice(&text).ok();
        let host = context.and_then(|context| context.endpoints.docker).map(|docker| docker.host);
        let address = host.filter(|host| !host.is_empty()).ok_or_else(|| PlaceError::Nowhere(name.to_owned()))?;
        let certificates = contexts.join("tls").join(&id).join("docker");
        Ok(Place {
            address,
            certificates: certificates.join("ca.pem").is_file().then_some(certificates),
            named_by: Some(format!("the Docker context {name}")),
        })
    }

    fn usual_socket(&self) -> String {
        self.first_socket(Path::exists)
    }

    /// Docker's own, Docker Desktop's, a rootless engine's, and those of Colima, Rancher Desktop, `OrbStack`, Podman.
    fn first_socket(&self, exists: impl Fn(&Path) -> bool) -> String {
        let at_home = [
            ".docker/run/docker.sock",
            ".docker/desktop/docker.sock",
            ".colima/default/docker.sock",
            ".colima/docker.sock",
            ".rd/docker.sock",
            ".orbstack/run/docker.sock",
        ];
        let at_home = at_home.iter().filter_map(|socket| Some(self.home.as_ref()?.join(socket)));
        let running = ["docker.sock", "podman/podman.sock"];
        let running = running.iter().filter_map(|socket| Some(self.runtime.as_ref()?.join(socket)));
        let first = PathBuf::from(DEFAULT_SOCKET);
        let sockets =
            [first.clone()].into_iter().chain(at_home).chain(running).chain([PathBuf::from("/run/podman/podman.sock")]);
        let found = sockets.into_iter().find(|socket| exists(socket));
        format!("unix://{}", found.unwrap_or(first).display())
    }
}

/// The address of the engine, as messages name it.
pub fn address() -> String {
    Surroundings::here().place().map_or_else(|error| error.to_string(), |place| place.address)
}

/// The three files of a folder of certificates.
pub fn files(folder: &Path) -> [PathBuf; 3] {
    ["key.pem", "cert.pem", "ca.pem"].map(|name| folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(folder: &Path) -> Surroundings {
        Surroundings { config: Some(folder.join("config")), home: Some(folder.to_owned()), ..Surroundings::default() }
    }

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn the_host_comes_first_and_its_certificates_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut around = around(folder.path());
        around.host = Some("tcp://docker:2376".into());
        around.context = Some("other".into());
        assert_eq!(
            around.place().unwrap(),
            Place { address: "tcp://docker:2376".into(), certificates: None, named_by: Some("DOCKER_HOST".into()) }
        );
        around.tls = true;
        assert_eq!(around.place().unwrap().certificates, around.config);
        around.certificates = Some("/certs/client".into());
        assert_eq!(around.place().unwrap().certificates.as_deref(), Some(Path::new("/certs/client")));
        around.host = Some("unix:///x.sock".into());
        assert_eq!(around.place().unwrap().certificates, None);
    }

    #[test]
    fn a_context_is_what_docker_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut around = around(folder.path());
        let config = around.config.clone().unwrap();
        write(&config.join("config.json"), r#"{"auths": {}, "currentContext": "far"}"#);
        assert_eq!(around.place().unwrap_err().to_string(), "the Docker context \"far\" is not there");
        // The folder's name is what `docker context create far` makes.
        let id = hex(&Sha256::digest("far"));
        let meta = config.join(format!("contexts/meta/{id}/meta.json"));
        write(
            &meta,
            r#"{"Name":"far","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://far:2376","SkipTLSVerify":false}}}"#,
        );
        let place = around.place().unwrap();
        assert_eq!((place.address.as_str(), place.certificates), ("tcp://far:2376", None));
        assert_eq!(place.named_by.as_deref(), Some("the Docker context far"));
        write(&config.join(format!("contexts/tls/{id}/docker/ca.pem")), "");
        assert!(around.place().unwrap().certificates.unwrap().ends_with("docker"));
        write(&meta, r#"{"Name":"far","Metadata":{},"Endpoints":{}}"#);
        assert!(matches!(around.place(), Err(PlaceError::Nowhere(_))));
        around.context = Some("default".into());
        assert_eq!(around.place().unwrap().named_by, None);
    }

    #[test]
    fn the_engine_is_looked_for_where_it_usually_is() {
        let around = Surroundings {
            home: Some("/home/u".into()),
            runtime: Some("/run/user/1".into()),
            ..Surroundings::default()
        };
        let found = |there: &str| around.first_socket(|path| path == Path::new(there));
        for socket in [
            DEFAULT_SOCKET,
            "/home/u/.docker/run/docker.sock",
            "/home/u/.colima/default/docker.sock",
            "/run/user/1/docker.sock",
            "/run/user/1/podman/podman.sock",
            "/run/podman/podman.sock",
        ] {
            assert_eq!(found(socket), format!("unix://{socket}"));
        }
        assert_eq!(found("/nowhere"), "unix:///var/run/docker.sock");
    }
}
