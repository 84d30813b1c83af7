//! How a server is called from elsewhere.

use reqwest::Url;
use std::net::IpAddr;
use std::str::FromStr;

/// How a server is called from elsewhere: scheme, host and port, nothing behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(Url);

impl FromStr for PublicUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text).map_err(|_| "is no URL (https://HOST[:PORT])")?;
        if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none() {
            return Err("is no https:// or http:// URL");
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
            return Err("is more than https://HOST[:PORT]");
        }
        Ok(Self(url))
    }
}

impl PublicUrl {
    /// Without a slash at its end.
    pub fn as_str(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }

    /// The host, an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// Whether a `Host` header names it, with its port or without.
    pub fn is_host(&self, host: &str) -> bool {
        let name = format!("{}://{host}/", self.0.scheme());
        Url::parse(&name).is_ok_and(|url| url.host_str() == self.0.host_str() && url.port() == self.0.port())
    }

    /// Whether what is sent there can be read on the way.
    pub(super) fn is_open(&self) -> bool {
        let bare = self.host().trim_start_matches('[').trim_end_matches(']');
        let here = self.host() == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        self.0.scheme() == "http" && !here
    }

    /// The same host under another port.
    pub(super) fn with_port(&self, port: u16) -> Self {
        let mut url = self.0.clone();
        let _ = url.set_port(Some(port));
        Self(url)
    }
}
