//! Fetches an image from its registry.

use super::credentials::{self, Login};
use bollard::auth::DockerCredentials;
use bollard::errors::Error as DockerError;
use bollard::query_parameters::CreateImageOptionsBuilder;
use bollard::{BollardRequest, Docker};
use futures_util::StreamExt as _;
use reqwest::header::HeaderValue;
use secrecy::ExposeSecret as _;

/// Why an image could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// Its registry does not give it, or cannot be reached.
    #[error("{message}")]
    Unavailable {
        /// The registry: `docker.io`, `HOST[:PORT]`.
        host: String,
        /// What the engine says.
        message: String,
    },
    /// The engine.
    #[error("asking the Docker Engine")]
    Engine(#[source] bollard::errors::Error),
}

/// The registry of an image's name (distribution's `reference`, "domain").
pub fn registry_of(name: &str) -> &str {
    let first = name.split_once('/').map(|(first, _)| first);
    first.filter(|first| first.contains(['.', ':']) || *first == "localhost").unwrap_or("docker.io")
}

/// The login of this machine's Docker for an image's registry, and why there is none where one should be: whoever
/// needs no login is not held up by a helper that fails.
async fn login(host: &str) -> (Option<DockerCredentials>, Option<String>) {
    let Some(folder) = credentials::folder() else { return (None, None) };
    let given = DockerCredentials { serveraddress: Some(host.to_owned()), ..DockerCredentials::default() };
    match credentials::login(&folder, host).await {
        Ok(Login::Password { user, password }) => {
            let password = Some(password.expose_secret().to_owned());
            (Some(DockerCredentials { username: Some(user), password, ..given }), None)
        }
        Ok(Login::Identity(token)) => {
            (Some(DockerCredentials { identitytoken: Some(token.expose_secret().to_owned()), ..given }), None)
        }
        Ok(Login::None) => (None, None),
        Err(error) => (None, Some(error.to_string())),
    }
}

/// The engine reads its login in the base64 of URLs and takes any other for none (Docker Engine API,
/// "Authentication"); bollard 0.21 writes the usual one, which differs where a password holds `>`, `?` or `~`.
fn with_login_for_urls(mut request: BollardRequest) -> BollardRequest {
    if let Some(value) = request.headers_mut().get_mut("x-registry-auth") {
        let changed = value.to_str().unwrap_or_default().replace('+', "-").replace('/', "_");
        if let Ok(mut changed) = HeaderValue::try_from(changed) {
            changed.set_sensitive(true);
            *value = changed;
        }
    }
    request
}

/// Fetches an image from its registry, for a platform (`linux/arm64`) where one is named, with the login that
/// Docker has there. The caller bounds it.
pub async fn pull(docker: &Docker, name: &str, platform: Option<&str>) -> Result<(), PullError> {
    // Without a tag the engine would fetch every tag there is.
    let last = name.rsplit('/').next().unwrap_or(name);
    let options = CreateImageOptionsBuilder::new().from_image(name);
    let options = if last.contains([':', '@']) { options } else { options.tag("latest") };
    let options = match platform {
        Some(platform) => options.platform(platform),
        None => options,
    };
    let host = registry_of(name);
    let (credentials, trouble) = login(host).await;
    let docker = docker.clone().with_request_modifier(with_login_for_urls);
    let mut stream = docker.create_image(Some(options.build()), None, credentials);
    while let Some(part) = stream.next().await {
        let message = match part {
            Ok(info) => info.error_detail.and_then(|error| error.message),
            Err(DockerError::DockerResponseServerError { message, .. }) => Some(message),
            Err(DockerError::DockerStreamError { error }) => Some(error),
            Err(other) => return Err(PullError::Engine(other)),
        };
        if let Some(message) = message {
            let message = trouble.map_or(message.clone(), |trouble| format!("{message}; {trouble}"));
            return Err(PullError::Unavailable { host: host.to_owned(), message });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_images_name_says_its_registry() {
        for (name, host) in [
            ("python:3.12-slim", "docker.io"),
            ("library/python", "docker.io"),
            ("ghcr.io/a/b:1", "ghcr.io"),
            ("localhost/b", "localhost"),
            ("localhost:5055/base:1", "localhost:5055"),
            ("h:5000/p/q@sha256:1", "h:5000"),
        ] {
            assert_eq!(registry_of(name), host, "{name}");
        }
    }
}
