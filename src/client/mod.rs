//! Typed client of the control API, and where its logins rest.

mod builds;
pub mod contexts;
pub mod keyring;
mod operations;
pub mod registry;

use crate::api::control::{
    AgentStatus, DeployPlan, DeployRequest, DeployResponse, KeyCreated, KeyRequest, KeyView, RollbackRequest,
    RollbackResponse, RolloutView, ServerHealth, Whoami,
};
use crate::api::history::WatchQuery;
use crate::api::payload::{self, Empty, NoQuery, PathValues as _, Payload};
use crate::api::problem::{DATABASE_AWAY, ENGINE_AWAY, Problem};
use crate::api::routes::{self, Route};
use crate::api::tokens::{TokenCreated, TokenRequest, TokenView};
use crate::api::version::{self, Spoken};
use crate::base::http::{self, Way};
use crate::base::secret::{ExposeSecret as _, SecretString};
use reqwest::{Method, Url};
use serde::Serialize;
use std::io;
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;

/// How long the server may take to be reached.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take; watching a rollout waits less than half of it.
const TOTAL: Duration = Duration::from_secs(90);
/// What a file of certificates has in it.
const PEM: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none.
    #[error("{0:?} is not the address of a server")]
    Address(String),
    /// The token would travel in clear.
    #[error("{0} is another host, and plain HTTP would show it the token")]
    PlainHttp(String),
    /// The server could not be reached.
    #[error("the server at {server} cannot be reached")]
    Unreachable {
        /// Which.
        server: String,
        /// Why.
        source: Lost,
    },
    /// The server stopped speaking in the middle of an answer.
    #[error("the server at {server} has said nothing for {seconds} s")]
    Silent {
        /// Which.
        server: String,
        /// How long, in seconds.
        seconds: u64,
    },
    /// The server ended an answer before its end.
    #[error("the server at {0} has broken off")]
    BrokenOff(String),
    /// A line of a log is longer than this many MiB.
    #[error("a line of the log is longer than {0} MiB")]
    LongLine(usize),
    /// The file of trusted authorities cannot be used.
    #[error("the CA file {path}")]
    CaFile {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Neither side knows a version of the control API that the other does.
    #[error("the server at {server} speaks control API {theirs}, this command line {}", version::OURS)]
    Version {
        /// Which.
        server: String,
        /// What it speaks.
        theirs: Spoken,
    },
    /// The server refused.
    #[error("{}", said(.0))]
    Refused(Box<Problem>),
    /// What should be sent is not JSON.
    #[error("the request cannot be written as JSON")]
    Request(#[source] serde_json::Error),
    /// The server answered something else.
    #[error("the server's answer is not what this version expects ({status})")]
    Answer {
        /// Its status.
        status: u16,
        /// Why it could not be read.
        source: serde_json::Error,
    },
}

impl ClientError {
    /// Whether the same may work soon: the server starts again, or what it needs does.
    pub fn is_passing(&self) -> bool {
        match self {
            // Who it is does not change by asking again.
            Self::Unreachable { source, .. } => source.tls_fault().is_none(),
            Self::Refused(problem) => is_away(problem),
            Self::Silent { .. } | Self::BrokenOff(_) => true,
            _ => false,
        }
    }

    /// Whether the request may have reached the server all the same: only its answer is missing.
    pub fn may_be_done(&self) -> bool {
        matches!(self, Self::Unreachable { source, .. } if !source.is_before_sending())
    }
}

/// Whether a problem says that something the server needs is away for a moment.
pub fn is_away(problem: &Problem) -> bool {
    matches!(problem.code.as_str(), DATABASE_AWAY | ENGINE_AWAY)
}

/// Why no answer came: the innermost cause, without the layers that handed it on.
#[derive(Debug, thiserror::Error)]
#[error("{}", http::root(.0))]
pub struct Lost(reqwest::Error);

impl From<reqwest::Error> for Lost {
    fn from(error: reqwest::Error) -> Self {
        Self(error)
    }
}

impl Lost {
    /// Whether nothing of the request has left.
    pub fn is_before_sending(&self) -> bool {
        self.0.is_connect() || self.0.is_builder()
    }

    /// What TLS has against the server, where that is why.
    pub fn tls_fault(&self) -> Option<&rustls::Error> {
        http::tls_fault(&self.0)
    }
}

fn said(problem: &Problem) -> String {
    if problem.detail.is_empty() { problem.title.clone() } else { format!("{}: {}", problem.title, problem.detail) }
}

/// A server, and the token for it.
pub struct Client {
    server: String,
    here: bool,
    token: SecretString,
    http: reqwest::Client,
}

/// The address in its one form: scheme, host, port, no slash at its end. Plain HTTP only to loopback.
pub fn address(text: &str) -> Result<String, ClientError> {
    let wrong = || ClientError::Address(text.to_owned());
    let spelled = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let url = Url::parse(&spelled).map_err(|_| wrong())?;
    let host = url.host_str().ok_or_else(wrong)?;
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(host) => {}
        "http" => return Err(ClientError::PlainHttp(host.to_owned())),
        _ => return Err(wrong()),
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Whether a host, of a URL or with no port behind it, is this machine's loopback.
pub fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl Client {
    /// A client of the server at `server` ([`address`]); `ca_file` holds authorities that are trusted beside
    /// the system's (PEM).
    pub fn new(server: &str, token: SecretString, ca_file: Option<&Path>) -> Result<Self, ClientError> {
        let server = address(server)?;
        let tls = server.starts_with("https:");
        let here = Url::parse(&server).is_ok_and(|url| url.host_str().is_some_and(is_loopback));
        let read = |path: &Path| {
            let unusable = |source| ClientError::CaFile { path: path.display().to_string(), source };
            let pem = std::fs::read(path).map_err(unusable)?;
            let any = pem.windows(PEM.len()).any(|part| part == PEM);
            if any { Ok(pem) } else { Err(unusable(io::Error::other("it holds no certificate in PEM form"))) }
        };
        let authorities = ca_file.filter(|_| tls).map(read).transpose()?;
        let http = http::client_for(&Way { tls, here, authorities: authorities.as_deref() }, CONNECT)
            .map_err(|error| ClientError::Unreachable { server: server.clone(), source: error.into() })?;
        Ok(Self { server, here, token, http })
    }

    /// The server's address.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Whether it is called over this machine's loopback.
    pub fn is_here(&self) -> bool {
        self.here
    }

    /// Who the token belongs to.
    pub async fn whoami(&self) -> Result<Whoami, ClientError> {
        self.get::<routes::GetWhoami>(()).await
    }

    /// How the server is.
    pub async fn server_health(&self) -> Result<ServerHealth, ClientError> {
        self.get::<routes::GetServerHealth>(()).await
    }

    /// All agents that the token sees.
    pub async fn agents(&self) -> Result<Vec<AgentStatus>, ClientError> {
        self.get::<routes::ListAgents>(()).await
    }

    /// One agent; nothing when there is none.
    pub async fn agent(&self, name: &str) -> Result<Option<AgentStatus>, ClientError> {
        match self.get::<routes::GetAgent>(name.to_owned()).await {
            Ok(found) => Ok(found.into_iter().next()),
            Err(ClientError::Refused(problem)) if problem.code == "no-such-agent" => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deploys.
    pub async fn deploy(&self, name: &str, request: &DeployRequest) -> Result<DeployResponse, ClientError> {
        self.send::<routes::DeployAgent>(name.to_owned(), request).await
    }

    /// What a deploy would do.
    pub async fn plan(&self, name: &str, request: &DeployRequest) -> Result<DeployPlan, ClientError> {
        self.send::<routes::PlanDeploy>(name.to_owned(), request).await
    }

    /// Goes back to a release, or to the one that served before.
    pub async fn roll_back(&self, name: &str, request: &RollbackRequest) -> Result<RollbackResponse, ClientError> {
        self.send::<routes::RollBack>(name.to_owned(), request).await
    }

    /// Ends a rollout that is under way.
    pub async fn cancel_rollout(&self, id: Uuid) -> Result<(), ClientError> {
        self.send::<routes::CancelRollout>(id, &()).await
    }

    /// The rollout with its events after `after`, once there are any or `wait` seconds are over.
    pub async fn rollout(&self, id: Uuid, after: i32, wait: u64) -> Result<RolloutView, ClientError> {
        self.call::<routes::GetRollout>(id, &WatchQuery { after, wait }, &()).await
    }

    /// Removes an agent with all that is known of it.
    pub async fn destroy(&self, name: &str) -> Result<(), ClientError> {
        self.send::<routes::DestroyAgent>(name.to_owned(), &()).await
    }

    /// The agent's keys, without their values.
    pub async fn keys(&self, agent: &str) -> Result<Vec<KeyView>, ClientError> {
        self.get::<routes::ListKeys>(agent.to_owned()).await
    }

    /// A new key.
    pub async fn create_key(&self, agent: &str, name: &str) -> Result<KeyCreated, ClientError> {
        self.send::<routes::CreateKey>(agent.to_owned(), &KeyRequest { name: name.to_owned() }).await
    }

    /// Makes a key open nothing any more.
    pub async fn revoke_key(&self, agent: &str, key: Uuid) -> Result<(), ClientError> {
        self.send::<routes::RevokeKey>((agent.to_owned(), key), &()).await
    }

    /// The tokens that the caller's own covers, without their values.
    pub async fn tokens(&self) -> Result<Vec<TokenView>, ClientError> {
        self.get::<routes::ListTokens>(()).await
    }

    /// A new token.
    pub async fn create_token(&self, request: &TokenRequest) -> Result<TokenCreated, ClientError> {
        self.send::<routes::CreateToken>((), request).await
    }

    /// Makes a token open nothing any more.
    pub async fn revoke_token(&self, id: Uuid) -> Result<(), ClientError> {
        self.send::<routes::RevokeToken>(id, &()).await
    }

    /// A request of a route that takes neither query nor body.
    async fn get<R>(&self, path: R::Path) -> Result<<R::Response as Payload>::Value, ClientError>
    where
        R: Route<Query = NoQuery, Request = Empty>,
        R::Response: Payload,
    {
        self.call::<R>(path, &NoQuery {}, &()).await
    }

    /// A request of a route that takes no query.
    async fn send<R>(
        &self,
        path: R::Path,
        body: &<R::Request as Payload>::Value,
    ) -> Result<<R::Response as Payload>::Value, ClientError>
    where
        R: Route<Query = NoQuery>,
        R::Request: Payload,
        R::Response: Payload,
    {
        self.call::<R>(path, &NoQuery {}, body).await
    }

    /// A request of a route, and its whole answer.
    async fn call<R>(
        &self,
        path: R::Path,
        query: &R::Query,
        body: &<R::Request as Payload>::Value,
    ) -> Result<<R::Response as Payload>::Value, ClientError>
    where
        R: Route,
        R::Request: Payload,
        R::Response: Payload,
    {
        let unreachable =
            |error: reqwest::Error| ClientError::Unreachable { server: self.server.clone(), source: error.into() };
        let request = self.request::<R>(&path, query).timeout(TOTAL);
        let request = match R::Request::encode(body) {
            Some(bytes) => {
                let bytes = bytes.map_err(ClientError::Request)?;
                request.header("content-type", payload::JSON).body(bytes)
            }
            None => request,
        };
        let response = request.send().await.map_err(unreachable)?;
        self.check_version(&response)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(unreachable)?;
        if !status.is_success() {
            return Err(refused(status, &bytes));
        }
        R::Response::decode(&bytes).map_err(|source| ClientError::Answer { status: status.as_u16(), source })
    }

    /// A request with the token, and without a body and a time-out.
    fn request<R: Route>(&self, path: &R::Path, query: &R::Query) -> reqwest::RequestBuilder {
        let method = match R::METHOD {
            routes::Method::Get => Method::GET,
            routes::Method::Post => Method::POST,
            routes::Method::Put => Method::PUT,
            routes::Method::Patch => Method::PATCH,
            routes::Method::Delete => Method::DELETE,
        };
        let url = format!("{}{}", self.server, target(R::PATH, &path.values(), query));
        let request = self.http.request(method, url);
        request.bearer_auth(self.token.expose_secret()).header(version::HEADER, version::OURS.to_string())
    }

    /// A server that says nothing of versions is taken as it is.
    fn check_version(&self, response: &reqwest::Response) -> Result<(), ClientError> {
        let theirs = response.headers().get(version::HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
        match theirs {
            Some(theirs) if version::OURS.common(theirs).is_none() => {
                Err(ClientError::Version { server: self.server.clone(), theirs })
            }
            _ => Ok(()),
        }
    }
}

/// A path with its values in place of their names, and a query. Whatever they hold is encoded.
fn target(path: &str, values: &[String], query: &impl Serialize) -> String {
    let Ok(mut url) = Url::parse("http://server") else { return String::new() };
    let mut values = values.iter();
    if let Ok(mut segments) = url.path_segments_mut() {
        for part in path.split('/').skip(1) {
            let value = if part.starts_with('{') { values.next().map(String::as_str) } else { Some(part) };
            segments.push(value.unwrap_or_default());
        }
    }
    if let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(query) {
        for (name, value) in fields {
            let text = match value {
                serde_json::Value::Null => continue,
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            };
            url.query_pairs_mut().append_pair(&name, &text);
        }
    }
    url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()))
}

fn refused(status: reqwest::StatusCode, body: &[u8]) -> ClientError {
    let problem = serde_json::from_slice::<Problem>(body)
        .unwrap_or_else(|_| Problem::new(status.as_u16(), "unknown", "the server refused").detail(status.to_string()));
    ClientError::Refused(Box::new(problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_goes_to_loopback_only() {
        assert_eq!(address("http://127.0.0.1:4120/").unwrap(), "http://127.0.0.1:4120");
        assert_eq!(address("http://[::1]:4120").unwrap(), "http://[::1]:4120");
        assert_eq!(address("agents.example.com").unwrap(), "https://agents.example.com");
        assert!(matches!(address("http://agents.example.com"), Err(ClientError::PlainHttp(_))));
        assert!(matches!(address("ftp://x"), Err(ClientError::Address(_))));
        assert!(matches!(address("http://"), Err(ClientError::Address(_))));
    }

    #[test]
    fn what_a_user_names_cannot_leave_its_place_in_the_address() {
        use crate::api::history::RunsQuery;
        let target = |path, values: &[&str], query: &RunsQuery| {
            target(path, &values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>(), query)
        };
        let (none, some) =
            (RunsQuery::default(), RunsQuery { limit: Some(2), thread: Some("a&b=c".into()), status: None });
        assert_eq!(target("/v1/agents/{name}/runs", &["a"], &none), "/v1/agents/a/runs");
        let thread = "/v1/agents/{name}/threads/{thread}";
        assert_eq!(target(thread, &["a", "x/y?z"], &none), "/v1/agents/a/threads/x%2Fy%3Fz");
        assert_eq!(target("/v1/agents/{name}", &["a"], &some), "/v1/agents/a?limit=2&thread=a%26b%3Dc");
    }
}
