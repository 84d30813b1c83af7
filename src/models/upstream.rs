//! Where the gateway sends a provider's requests. Pure.

use crate::egress::{Host, HostError, Refusal, is_private, judge};
use reqwest::Url;

/// Who named an upstream, and so how far it may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trust {
    /// The server's administrator (`--provider`): loopback too; plain HTTP to loopback and private addresses.
    Server,
    /// An agent's own variables, or a provider's default: never loopback, link-local or metadata addresses;
    /// plain HTTP to private addresses only.
    Agent,
}

/// What is wrong with a base URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// Not a URL. The text is not repeated: it may hold a secret.
    #[error("not a URL")]
    NotUrl,
    /// Neither https nor http.
    #[error("the scheme is neither https nor http")]
    Scheme,
    /// `user:password@`.
    #[error("a user or password in the URL; the key belongs in the provider's own variable")]
    Credentials,
    /// `?…` or `#…`.
    #[error("a query or fragment in a base URL")]
    Query,
    /// No host that can be called.
    #[error("the URL's host")]
    Host(#[source] HostError),
    /// An address that no agent reaches.
    #[error("{host} is a {refusal} address; only the server's --provider may name one")]
    Refused {
        /// Which.
        host: Host,
        /// Why.
        refusal: Refusal,
    },
    /// A key in clear over a public network.
    #[error("{host} is public and the URL is plain http; https is wanted")]
    PlainPublic {
        /// Which.
        host: Host,
    },
}

/// A checked base URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    base: Url,
    host: Host,
    port: u16,
    trust: Trust,
}

impl Upstream {
    /// Reads a base URL. What a name resolves to is judged when it is connected.
    pub fn parse(text: &str, trust: Trust) -> Result<Self, UpstreamError> {
        let base = Url::parse(text.trim()).map_err(|_| UpstreamError::NotUrl)?;
        if base.scheme() != "https" && base.scheme() != "http" {
            return Err(UpstreamError::Scheme);
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(UpstreamError::Credentials);
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err(UpstreamError::Query);
        }
        let host = Host::parse(base.host_str().unwrap_or_default()).map_err(UpstreamError::Host)?;
        let port = base.port_or_known_default().ok_or(UpstreamError::Scheme)?;
        let upstream = Self { base, host, port, trust };
        upstream.check_literal()?;
        Ok(upstream)
    }

    /// Names are judged by their addresses; an address in the URL is judged here, since no resolver sees it.
    fn check_literal(&self) -> Result<(), UpstreamError> {
        let refused = |refusal| UpstreamError::Refused { host: self.host.clone(), refusal };
        let public = || UpstreamError::PlainPublic { host: self.host.clone() };
        match &self.host {
            Host::Ip(address) => {
                if self.trust == Trust::Agent {
                    judge(*address).map_err(refused)?;
                }
                let near = is_private(*address) || address.is_loopback();
                if self.is_plain() && !near { Err(public()) } else { Ok(()) }
            }
            Host::Name(_) if self.trust == Trust::Agent && self.is_localhost() => Err(refused(Refusal::Loopback)),
            Host::Name(_) => Ok(()),
        }
    }

    fn is_localhost(&self) -> bool {
        // RFC 6761 6.3.
        matches!(&self.host, Host::Name(name) if name == "localhost" || name.ends_with(".localhost"))
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, 443 or 80 where the URL names none.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Who named it.
    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// Whether it is called without TLS.
    pub fn is_plain(&self) -> bool {
        self.base.scheme() == "http"
    }

    /// Whether it is on this machine or in a private network by its very URL: no system proxy stands between.
    pub(crate) fn is_near(&self) -> bool {
        let near = matches!(&self.host, Host::Ip(address) if is_private(*address) || address.is_loopback());
        self.is_plain() || near || self.is_localhost()
    }

    /// The URL of a request: the base and `rest`, which is empty or begins with `/`. `None` when `rest` would
    /// leave the base path, for us or for an upstream that decodes it once more.
    pub(crate) fn join(&self, rest: &str, query: Option<&str>) -> Option<Url> {
        if !(rest.is_empty() || rest.starts_with('/')) || !stays_below(rest) {
            return None;
        }
        let base = self.base.path().trim_end_matches('/');
        let mut url = self.base.clone();
        url.set_path(&format!("{base}{rest}"));
        url.set_query(query);
        // Belt and braces: the URL parser's own normalisation moved nothing.
        let tail = url.path().strip_prefix(base)?;
        (tail.is_empty() || tail.starts_with('/')).then_some(url)
    }
}

/// Whether no segment of `path` is `.` or `..`, however often it is percent-encoded. Encoded slashes by
/// themselves are good: models of some providers are named `org%2Fmodel`.
fn stays_below(path: &str) -> bool {
    /// Deeper nesting than any client's is refused.
    const ROUNDS: usize = 4;
    let mut bytes = path.as_bytes().to_vec();
    for _ in 0..ROUNDS {
        let dots = bytes.split(|byte| matches!(byte, b'/' | b'\\')).any(is_dots);
        if dots || bytes.iter().any(|byte| *byte < b' ' || matches!(byte, b'\\' | 0x7f)) {
            return false;
        }
        let decoded = percent_decoded(&bytes);
        if decoded == bytes {
            return true;
        }
        bytes = decoded;
    }
    false
}

/// A dot segment, with path parameters (`..;x`) as some servers strip them.
fn is_dots(segment: &[u8]) -> bool {
    let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
    matches!(name, b"." | b"..")
}

fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if let (b'%', Some(high), Some(low)) = (byte, digit(at + 1), digit(at + 2)) {
            decoded.extend(u8::try_from(high * 16 + low));
            at += 3;
        } else {
            decoded.push(*byte);
            at += 1;
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn agent(text: &str) -> Result<Upstream, UpstreamError> {
        Upstream::parse(text, Trust::Agent)
    }

    #[test]
    fn only_the_server_names_loopback() {
        for text in ["http://127.0.0.1:8000/v1", "https://localhost/v1", "http://[::1]:8000", "http://0x7f.1/"] {
            assert!(matches!(agent(text), Err(UpstreamError::Refused { .. })), "{text}");
            assert!(Upstream::parse(text, Trust::Server).is_ok(), "{text}");
        }
        assert!(matches!(agent("https://169.254.169.254/"), Err(UpstreamError::Refused { .. })));
    }

    #[test]
    fn plain_http_is_for_near_addresses() {
        assert!(agent("http://10.0.0.5:8000/v1").is_ok());
        assert!(agent("http://vllm.internal:8000/v1").is_ok());
        for trust in [Trust::Agent, Trust::Server] {
            assert!(matches!(Upstream::parse("http://8.8.8.8/", trust), Err(UpstreamError::PlainPublic { .. })));
        }
    }

    #[test]
    fn faulty_urls_are_told_apart() {
        assert_eq!(agent("api.openai.com"), Err(UpstreamError::NotUrl));
        assert_eq!(agent("ftp://a.example"), Err(UpstreamError::Scheme));
        assert_eq!(agent("https://u:p@a.example"), Err(UpstreamError::Credentials));
        assert_eq!(agent("https://a.example/?x=1"), Err(UpstreamError::Query));
    }

    #[test]
    fn a_request_is_appended_to_the_base() {
        let upstream = agent("https://api.groq.com/openai/v1/").unwrap();
        let joined = |rest, query| upstream.join(rest, query).map(String::from);
        assert_eq!(joined("/chat/completions", None).unwrap(), "https://api.groq.com/openai/v1/chat/completions");
        assert_eq!(
            joined("/models/a%2Fb", Some("x=1%20")).unwrap(),
            "https://api.groq.com/openai/v1/models/a%2Fb?x=1%20"
        );
        assert_eq!(joined("", None).unwrap(), "https://api.groq.com/openai/v1");
        let root = agent("https://api.anthropic.com").unwrap();
        assert_eq!(
            root.join("/v1/messages", Some("beta=true")).unwrap().as_str(),
            "https://api.anthropic.com/v1/messages?beta=true"
        );
    }

    #[test]
    fn no_request_leaves_the_base() {
        let upstream = agent("https://a.example/base").unwrap();
        for rest in [
            "/../x",
            "/..",
            "/a/../../x",
            "/%2e%2e/x",
            "/.%2E/x",
            "/%252e%252e/x",
            "/a%2f..%2f..%2fx",
            "/a%5c..%5cx",
            "/..;x/y",
            "/a\\..\\x",
            "/%2525252525252e/",
            "/./x",
            "@evil.example",
            "x",
            "/%00",
        ] {
            assert_eq!(upstream.join(rest, None), None, "{rest}");
        }
        assert_eq!(upstream.join("//evil.example/x", None).unwrap().host_str(), Some("a.example"));
        assert!(upstream.join("/a..b/...", None).is_some());
    }

    proptest! {
        #[test]
        fn what_is_joined_stays_at_its_host_and_path(rest in "/[a-z0-9%./\\\\;?#@:2eEfF5cC]{0,40}") {
            let upstream = agent("https://a.example/base/v1").unwrap();
            if let Some(url) = upstream.join(&rest, None) {
                prop_assert_eq!(url.host_str(), Some("a.example"));
                prop_assert!(url.path().starts_with("/base/v1/"), "{}", url);
                prop_assert!(url.query().is_none() && url.fragment().is_none());
            }
        }
    }
}
