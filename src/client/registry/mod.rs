//! A client of any registry that speaks the distribution specification: the server's own, or another one.

mod challenge;
mod login;
mod upload;

pub use upload::{Blob, Content};

use crate::base::http::{self, Way};
use crate::engine::credentials::Login;
use challenge::Challenge;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, header};
use secrecy::{ExposeSecret as _, SecretString};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a registry may take to be reached.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer may take that moves no layer.
const ANSWER: Duration = Duration::from_secs(60);
/// How often a request is sent to a registry that is away for a moment, and what is waited before it is sent again
/// for the first time; longer each time.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(500);
/// How often an answer may send whoever reads elsewhere.
const REDIRECTS: u32 = 3;
/// The most that is read of an answer.
const MOST: usize = 8 << 20;

/// Why a registry could not be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryClientError {
    /// The name of a registry or a repository is none.
    #[error("{0:?} is not the name of a registry and a path in it (HOST/PATH)")]
    Name(String),
    /// It could not be reached, or did not answer.
    #[error("the registry {registry} cannot be reached: {}", http::root(source))]
    Unreachable {
        /// Which.
        registry: String,
        /// Why.
        source: reqwest::Error,
    },
    /// It does not know us.
    #[error("the registry {registry} refuses the login{}", if *sent { "" } else { ": there is none for it" })]
    Login {
        /// Which.
        registry: String,
        /// Whether there was one.
        sent: bool,
    },
    /// It refused.
    #[error("the registry {registry} refused {doing} ({status}): {said}")]
    Refused {
        /// Which.
        registry: String,
        /// What.
        doing: &'static str,
        /// Its status.
        status: u16,
        /// Its words.
        said: String,
    },
    /// It answers what the specification does not know.
    #[error("the registry {registry} does not speak as registries do: {what}")]
    Answer {
        /// Which.
        registry: String,
        /// What is wrong.
        what: String,
    },
    /// A file on the way could not be read.
    #[error("a layer cannot be read again")]
    File(#[source] std::io::Error),
}

/// A repository in a registry.
pub struct RepositoryClient {
    /// `HOST:PORT`, as it is shown.
    registry: String,
    /// `https://HOST:PORT`
    base: Url,
    name: String,
    http: reqwest::Client,
    login: Login,
    /// What the registry's own login has given.
    token: Mutex<Option<SecretString>>,
    /// Whether it has answered.
    reached: AtomicBool,
}

/// Whether what answers so may do better in a moment (RFC 9110 15.6, RFC 6585 4).
fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504)
}

impl RegistryClientError {
    /// Whether TLS is why: asking again changes nothing.
    fn is_tls(&self) -> bool {
        matches!(self, Self::Unreachable { source, .. } if http::tls_fault(source).is_some())
    }

    /// Whether the same may work in a moment.
    fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => !self.is_tls(),
            Self::Refused { status, .. } => StatusCode::from_u16(*status).is_ok_and(is_passing),
            _ => false,
        }
    }
}

impl RepositoryClient {
    /// A repository of the server's own registry.
    pub fn of_server(
        server: &str,
        http: reqwest::Client,
        token: SecretString,
        name: &str,
    ) -> Result<Self, RegistryClientError> {
        let base = Url::parse(server).map_err(|_| RegistryClientError::Name(server.to_owned()))?;
        let registry = authority(&base);
        let token = Mutex::new(Some(token));
        Ok(Self {
            registry,
            base,
            name: name.to_owned(),
            http,
            login: Login::None,
            token,
            reached: AtomicBool::default(),
        })
    }

    /// A repository of any registry: `HOST[:PORT]/PATH`, over TLS, on this machine without.
    pub fn of(reference: &str, agent: &str, login: Login) -> Result<Self, RegistryClientError> {
        let (host, path) = split(reference)?;
        let here = is_here(host);
        let scheme = if here { "http" } else { "https" };
        let wrong = || RegistryClientError::Name(reference.to_owned());
        let base = Url::parse(&format!("{scheme}://{}", address_of(host))).map_err(|_| wrong())?;
        let registry = host.to_owned();
        let http = http::client_for(&Way { tls: !here, here, authorities: None }, CONNECT)
            .map_err(|source| RegistryClientError::Unreachable { registry: registry.clone(), source })?;
        Ok(Self {
            registry,
            base,
            name: format!("{path}/{agent}"),
            http,
            login,
            token: Mutex::default(),
            reached: AtomicBool::default(),
        })
    }

    /// `HOST/PATH`
    pub fn shown(&self) -> String {
        format!("{}/{}", self.registry, self.name)
    }

    /// How many bytes a blob has that is there. Nothing where that cannot be told: it is pushed again then.
    pub async fn find_blob(&self, digest: &str) -> Result<Option<u64>, RegistryClientError> {
        let url = self.url(&format!("blobs/{digest}"))?;
        let ask = || self.http.request(Method::HEAD, url.clone()).timeout(ANSWER);
        let answer = self.send("looking for a layer", &ask).await?;
        let elsewhere = answer.status().is_redirection();
        let answer = self.followed(Method::HEAD, answer).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => {
                let length = answer.headers().get(header::CONTENT_LENGTH);
                Ok(length.and_then(|length| length.to_str().ok()?.parse().ok()))
            }
            _ if elsewhere => Ok(None),
            _ => Err(self.refused("looking for a layer", answer).await),
        }
    }

    /// A blob that is small.
    pub async fn read_blob(&self, digest: &str) -> Result<Option<Vec<u8>>, RegistryClientError> {
        let url = self.url(&format!("blobs/{digest}"))?;
        let answer = self.send("reading a config", &|| self.http.get(url.clone()).timeout(ANSWER)).await?;
        let answer = self.followed(Method::GET, answer).await?;
        self.found("reading a config", answer).await
    }

    /// The manifest of a tag or digest.
    pub async fn read_manifest(&self, reference: &str) -> Result<Option<Vec<u8>>, RegistryClientError> {
        use crate::registry::manifest::{DOCKER_MANIFEST, OCI_MANIFEST};
        let url = self.url(&format!("manifests/{reference}"))?;
        let kinds = format!("{DOCKER_MANIFEST}, {OCI_MANIFEST}");
        let ask = || self.http.get(url.clone()).header(header::ACCEPT, &kinds).timeout(ANSWER);
        let answer = self.send("reading a manifest", &ask).await?;
        self.found("reading a manifest", answer).await
    }

    /// Puts a manifest under a tag or its digest.
    pub async fn put_manifest(&self, reference: &str, kind: &str, content: &[u8]) -> Result<(), RegistryClientError> {
        let url = self.url(&format!("manifests/{reference}"))?;
        let put = || {
            let request = self.http.put(url.clone()).header(header::CONTENT_TYPE, kind).timeout(ANSWER);
            request.body(content.to_vec())
        };
        let answer = self.send("taking the manifest", &put).await?;
        if answer.status().is_success() { Ok(()) } else { Err(self.refused("taking the manifest", answer).await) }
    }

    fn url(&self, rest: &str) -> Result<Url, RegistryClientError> {
        self.base.join(&format!("/v2/{}/{rest}", self.name)).map_err(|_| RegistryClientError::Name(self.shown()))
    }

    async fn found(&self, doing: &'static str, answer: Response) -> Result<Option<Vec<u8>>, RegistryClientError> {
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(self.body(answer).await?)),
            _ => Err(self.refused(doing, answer).await),
        }
    }

    async fn body(&self, mut answer: Response) -> Result<Vec<u8>, RegistryClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|source| self.unreachable(source))? {
            body.extend_from_slice(&chunk);
            if body.len() > MOST {
                return Err(self.strange("an answer is too long"));
            }
        }
        Ok(body)
    }

    /// Where an answer sends whoever reads: registries keep contents in S3 and the like, behind addresses that
    /// hold their own permission. Our login stays here.
    async fn followed(&self, method: Method, mut answer: Response) -> Result<Response, RegistryClientError> {
        for _ in 0..REDIRECTS {
            if !answer.status().is_redirection() {
                break;
            }
            let location = answer.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
            let url = location.and_then(|location| answer.url().join(location).ok());
            let url = url.ok_or_else(|| self.strange("it does not say where a layer is"))?;
            let tls = url.scheme() == "https";
            if !tls && self.base.scheme() == "https" {
                return Err(self.strange("its layers are at an address without TLS"));
            }
            let here = super::is_loopback(url.host_str().unwrap_or_default());
            let http = http::client_for(&Way { tls, here, authorities: None }, CONNECT);
            let http = http.map_err(|source| self.unreachable(source))?;
            let request = http.request(method.clone(), url).timeout(ANSWER);
            answer = request.send().await.map_err(|source| self.unreachable(source))?;
        }
        Ok(answer)
    }

    /// Sends a request that may be sent again: it is, while the registry is away for a moment or has too much to do.
    /// One that was never reached is not waited for.
    async fn send(
        &self,
        doing: &'static str,
        request: &(dyn Fn() -> RequestBuilder + Sync),
    ) -> Result<Response, RegistryClientError> {
        let mut tries = 0;
        loop {
            let answer = self.send_once(doing, request).await;
            tries += 1;
            let passing = match &answer {
                Ok(answer) => is_passing(answer.status()),
                Err(error @ RegistryClientError::Unreachable { .. }) => {
                    self.reached.load(Ordering::Relaxed) && !error.is_tls()
                }
                Err(_) => false,
            };
            self.reached.fetch_or(answer.is_ok(), Ordering::Relaxed);
            if !passing || tries == TRIES {
                return answer;
            }
            tokio::time::sleep(PAUSE * tries).await;
        }
    }

    /// Sends a request; logs in and sends it again where that is wanted.
    async fn send_once(
        &self,
        doing: &'static str,
        request: &(dyn Fn() -> RequestBuilder + Sync),
    ) -> Result<Response, RegistryClientError> {
        let answer = self.with_login(request()).send().await.map_err(|source| self.unreachable(source))?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let challenge = answer.headers().get(header::WWW_AUTHENTICATE).and_then(|text| text.to_str().ok());
        let challenge = challenge.map(Challenge::parse).unwrap_or_default();
        self.log_in(challenge).await?;
        let answer = self.with_login(request()).send().await.map_err(|source| self.unreachable(source))?;
        match answer.status() {
            StatusCode::UNAUTHORIZED => Err(self.not_allowed()),
            StatusCode::FORBIDDEN => Err(self.refused(doing, answer).await),
            _ => Ok(answer),
        }
    }

    fn with_login(&self, request: RequestBuilder) -> RequestBuilder {
        match (&*self.token.lock().unwrap_or_else(PoisonError::into_inner), &self.login) {
            (Some(token), _) => request.bearer_auth(token.expose_secret()),
            (None, Login::Password { user, password }) => request.basic_auth(user, Some(password.expose_secret())),
            (None, Login::None | Login::Identity(_)) => request,
        }
    }

    fn not_allowed(&self) -> RegistryClientError {
        let sent = !matches!(self.login, Login::None);
        RegistryClientError::Login { registry: self.registry.clone(), sent }
    }

    fn unreachable(&self, source: reqwest::Error) -> RegistryClientError {
        RegistryClientError::Unreachable { registry: self.registry.clone(), source }
    }

    fn strange(&self, what: impl Into<String>) -> RegistryClientError {
        RegistryClientError::Answer { registry: self.registry.clone(), what: what.into() }
    }

    async fn refused(&self, doing: &'static str, answer: Response) -> RegistryClientError {
        let status = answer.status().as_u16();
        let body = self.body(answer).await.unwrap_or_default();
        let said = serde_json::from_slice::<serde_json::Value>(&body).ok();
        let said = said.as_ref().and_then(|said| {
            let error = &said["errors"][0];
            error["message"].as_str().filter(|text| !text.is_empty()).or(error["code"].as_str())
        });
        let said = said.unwrap_or("it does not say why").to_owned();
        RegistryClientError::Refused { registry: self.registry.clone(), doing, status, said }
    }
}

fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// `HOST[:PORT]` and the path.
fn split(reference: &str) -> Result<(&str, &str), RegistryClientError> {
    let wrong = || RegistryClientError::Name(reference.to_owned());
    let (host, path) = reference.split_once('/').ok_or_else(wrong)?;
    let looks_like_a_host = host.contains(['.', ':']) || host == "localhost";
    let path = path.trim_end_matches('/');
    if !looks_like_a_host || crate::registry::names::Repository::parse(path).is_none() {
        return Err(wrong());
    }
    Ok((host, path))
}

/// Docker Hub answers under another name.
fn address_of(host: &str) -> &str {
    if host == "docker.io" || host == "index.docker.io" { "registry-1.docker.io" } else { host }
}

/// As Docker takes it: loopback needs no TLS.
fn is_here(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    super::is_loopback(name.map_or(host, |(name, _)| name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_named_by_host_and_path() {
        assert_eq!(split("ghcr.io/team/agents").unwrap(), ("ghcr.io", "team/agents"));
        assert_eq!(split("localhost:5000/x/").unwrap(), ("localhost:5000", "x"));
        for wrong in
            ["", "ghcr.io", "team/agents", "https://ghcr.io/x", "ghcr.io/Team", "ghcr.io/../x", "ghcr.io/x:tag"]
        {
            assert!(split(wrong).is_err(), "{wrong}");
        }
        assert!(is_here("127.0.0.1:5000") && is_here("localhost") && is_here("[::1]:5000"));
        assert!(!is_here("registry.example.com:5000") && !is_here("10.0.0.1:5000"));
        assert_eq!(address_of("docker.io"), "registry-1.docker.io");
    }
}
