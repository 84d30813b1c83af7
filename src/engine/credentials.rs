//! Docker's own logins: `~/.docker/config.json`, its `auths`, `credsStore` and `credHelpers`
//! (docs.docker.com/reference/cli/docker/login, docker-credential-helpers' protocol).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use serde::Deserialize;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// How long a credential helper may take; it may ask the user for a fingerprint.
const PATIENCE: Duration = Duration::from_secs(60);
/// The name that Docker Hub's login has.
const HUB: &str = "https://index.docker.io/v1/";
/// The user of a refresh token.
const TOKEN_USER: &str = "<token>";

/// What a registry is shown.
#[derive(Clone)]
pub enum Login {
    /// Nothing.
    None,
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: SecretString,
    },
    /// A refresh token, as credential helpers give one for the user `<token>`.
    Identity(SecretString),
}

/// Why there is no login.
#[derive(Debug, thiserror::Error)]
pub enum DockerConfigError {
    /// The file cannot be read.
    #[error("Docker's configuration {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is damaged.
    #[error("Docker's configuration {} is damaged", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
    /// A credential helper failed.
    #[error("the credential helper {helper} failed: {said}")]
    Helper {
        /// Its name.
        helper: String,
        /// What it said.
        said: String,
    },
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    auths: HashMap<String, Entry>,
    creds_store: Option<String>,
    cred_helpers: HashMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<SecretString>,
    identitytoken: Option<SecretString>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    username: String,
    secret: SecretString,
}

/// Docker's configuration folder: `DOCKER_CONFIG`, else `~/.docker`.
pub fn folder() -> Option<PathBuf> {
    use crate::base::env;
    env::var(env::DOCKER_CONFIG)
        .map(PathBuf::from)
        .or_else(|| env::var("HOME").map(|home| Path::new(&home).join(".docker")))
}

/// The login of this machine's Docker for a registry (`HOST[:PORT]`).
pub async fn login(folder: &Path, registry: &str) -> Result<Login, DockerConfigError> {
    let path = folder.join("config.json");
    let text = match tokio::fs::read(&path).await {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Login::None),
        Err(source) => return Err(DockerConfigError::Read { path, source }),
    };
    let file: File =
        serde_json::from_slice(&text).map_err(|source| DockerConfigError::Damaged { path: path.clone(), source })?;
    let server = if matches!(registry, "docker.io" | "index.docker.io") { HUB } else { registry };
    let helper = file.cred_helpers.get(server).or(file.creds_store.as_ref()).filter(|name| !name.is_empty());
    if let Some(helper) = helper
        && let Some(login) = ask(helper, server).await?
    {
        return Ok(login);
    }
    let entry =
        file.auths.into_iter().find(|(name, _)| name == server || host_of(name) == server).map(|(_, entry)| entry);
    Ok(entry.map_or(Login::None, |entry| read(&entry)))
}

/// Old entries are whole addresses.
fn host_of(name: &str) -> &str {
    let name = name.split_once("://").map_or(name, |(_, rest)| rest);
    name.split('/').next().unwrap_or(name)
}

fn read(entry: &Entry) -> Login {
    use secrecy::ExposeSecret as _;
    if let Some(token) = entry.identitytoken.as_ref().filter(|token| !token.expose_secret().is_empty()) {
        return Login::Identity(token.clone());
    }
    let decoded = entry.auth.as_ref().and_then(|auth| STANDARD.decode(auth.expose_secret()).ok());
    let text = decoded.and_then(|decoded| String::from_utf8(decoded).ok());
    match text.as_deref().and_then(|text| text.split_once(':')) {
        Some((user, password)) => Login::Password {
            user: user.to_owned(),
            password: SecretString::from(password.trim_end_matches('\0').to_owned()),
        },
        None => Login::None,
    }
}

/// Asks `docker-credential-HELPER get`. Nothing: it has none.
async fn ask(helper: &str, server: &str) -> Result<Option<Login>, DockerConfigError> {
    let failed = |said: String| DockerConfigError::Helper { helper: helper.to_owned(), said };
    // It becomes the name of a program.
    if !helper.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
        return Err(failed("that is no name of a helper".to_owned()));
    }
    let asking = async {
        let mut child = Command::new(format!("docker-credential-{helper}"))
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A helper that fails early does not read; what it said is worth more than the broken pipe.
            match stdin.write_all(server.as_bytes()).await {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                _ => {}
            }
        }
        child.wait_with_output().await
    };
    let output = match tokio::time::timeout(PATIENCE, asking).await {
        Ok(output) => output.map_err(|error| failed(error.to_string()))?,
        Err(_) => return Err(failed(format!("no answer within {} s", PATIENCE.as_secs()))),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        // The protocol's own words.
        if said.contains("credentials not found") {
            return Ok(None);
        }
        let said = if said.is_empty() { String::from_utf8_lossy(&output.stderr).trim().to_owned() } else { said };
        return Err(failed(said));
    }
    let given: Given =
        serde_json::from_slice(&output.stdout).map_err(|_| failed("its answer is no login".to_owned()))?;
    Ok(Some(if given.username == TOKEN_USER {
        Login::Identity(given.secret)
    } else {
        Login::Password { user: given.username, password: given.secret }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;

    async fn found(config: &serde_json::Value, registry: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        match login(folder.path(), registry).await {
            Ok(Login::None) => "none".to_owned(),
            Ok(Login::Password { user, password }) => format!("{user}:{}", password.expose_secret()),
            Ok(Login::Identity(token)) => format!("token {}", token.expose_secret()),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn logins_come_from_the_file() {
        let config = serde_json::json!({"auths": {
            "127.0.0.1:5000": {"auth": STANDARD.encode("ann:p:w?>~")},
            "https://old.example/v1/": {"auth": STANDARD.encode("bob:b")},
            "https://index.docker.io/v1/": {"auth": STANDARD.encode("hub:h")},
            "token.example": {"auth": "", "identitytoken": "t"},
        }});
        for (registry, want) in [
            ("127.0.0.1:5000", "ann:p:w?>~"),
            ("old.example", "bob:b"),
            ("docker.io", "hub:h"),
            ("token.example", "token t"),
            ("other.example", "none"),
        ] {
            assert_eq!(found(&config, registry).await, want);
        }
        let nowhere = tempfile::tempdir().unwrap();
        assert!(matches!(login(nowhere.path(), "x.example").await, Ok(Login::None)));
        std::fs::write(nowhere.path().join("config.json"), "{").unwrap();
        assert!(matches!(login(nowhere.path(), "x.example").await, Err(DockerConfigError::Damaged { .. })));
    }

    /// Helpers that are there are asked in tests/it/registry/push.rs.
    #[tokio::test]
    async fn a_helper_that_is_none_is_said() {
        let bad = found(&serde_json::json!({"credsStore": "../x"}), "one.example").await;
        assert!(bad.contains("no name of a helper"), "{bad}");
        let missing = found(&serde_json::json!({"credsStore": "rapidclaw-none-such"}), "one.example").await;
        assert!(missing.starts_with("the credential helper rapidclaw-none-such failed"), "{missing}");
    }
}
