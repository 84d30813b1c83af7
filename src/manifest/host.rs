//! Hosts of the egress allowlist.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// One entry of `security.allowed_hosts`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AllowedHost {
    /// The name in lowercase, or an address; of `*.example.com` it is `example.com`.
    pub host: String,
    /// The port; 443 unless given.
    pub port: u16,
    /// Whether every name below `host` is meant (and `host` itself is not).
    pub wildcard: bool,
}

/// Why an entry is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// It has a scheme.
    #[error("is a URL; write the host alone, such as \"{0}\"")]
    Url(String),
    /// It has a path, a user or blanks.
    #[error("must be NAME, NAME:PORT or *.NAME")]
    Syntax,
    /// The port is none.
    #[error("has a port that is not between 1 and 65535")]
    Port,
    /// A star somewhere else than first.
    #[error("may have a star only as its first label, such as \"*.example.com\", with two labels behind it")]
    Star,
    /// It names this machine or the link.
    #[error("is a loopback, link-local or unspecified address, which is never reachable from a replica")]
    Local,
}

impl FromStr for AllowedHost {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if let Some((_, rest)) = text.split_once("://") {
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            return Err(HostError::Url(host.rsplit('@').next().unwrap_or_default().to_owned()));
        }
        if text.is_empty() || text.contains(|character: char| "/?#@ \t\\".contains(character)) {
            return Err(HostError::Syntax);
        }
        let (host, port) = split_port(text)?;
        if let Ok(address) = host.parse::<IpAddr>() {
            if is_local(address) {
                return Err(HostError::Local);
            }
            return Ok(Self { host: address.to_string(), port, wildcard: false });
        }
        let (name, wildcard) = match host.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (host, false),
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_lowercase();
        if name.contains('*') || (wildcard && !name.contains('.')) {
            return Err(HostError::Star);
        }
        if name == "localhost" || name.ends_with(".localhost") {
            return Err(HostError::Local);
        }
        // A last label of digits would be read as an IPv4 address by resolvers (RFC 1123 2.1).
        let numeric = name.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
        if name.len() > 253 || numeric || !name.split('.').all(is_label) {
            return Err(HostError::Syntax);
        }
        Ok(Self { host: name, port, wildcard })
    }
}

fn split_port(text: &str) -> Result<(&str, u16), HostError> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(HostError::Syntax)?;
        if after.is_empty() { (host, None) } else { (host, Some(after.strip_prefix(':').ok_or(HostError::Syntax)?)) }
    } else if text.matches(':').count() > 1 {
        (text, None)
    } else {
        text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)))
    };
    let Some(port) = port else { return Ok((host, 443)) };
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| digits && *port > 0).ok_or(HostError::Port)?;
    Ok((host, port))
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= 63
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast(),
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unicast_link_local()
                || v6.to_ipv4_mapped().is_some_and(|v4| is_local(IpAddr::V4(v4)))
        }
    }
}

impl fmt::Display for AllowedHost {
    /// `api.example.com`, `db.example.com:5432`, `*.example.com`; 443 is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.wildcard { "*." } else { "" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{star}{open}{}{close}", self.host)?;
        if self.port == 443 { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_ports_and_patterns() {
        for (text, shown) in [
            ("api.anthropic.com", "api.anthropic.com"),
            ("API.Example.com.:443", "api.example.com"),
            ("db.example.com:5432", "db.example.com:5432"),
            ("*.example.com", "*.example.com"),
            ("*.example.com:8443", "*.example.com:8443"),
            ("redis", "redis"),
            ("10.0.0.7:6379", "10.0.0.7:6379"),
            ("[2001:db8::1]:443", "[2001:db8::1]"),
        ] {
            assert_eq!(text.parse::<AllowedHost>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_host() {
        for text in [
            "",
            "https://api.example.com/v1",
            "api.example.com/v1",
            "user@example.com",
            "a b",
            "*",
            "*.com",
            "a.*.com",
            "127.0.0.1",
            "127.0.0.1:80",
            "[::1]:443",
            "::ffff:127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "localhost",
            "x.localhost:80",
            "example.com:0",
            "example.com:99999",
            "example.com:",
            "example.com:+80",
            "-a.com",
            "a..com",
            "1.2.3",
            "exämple.com",
        ] {
            assert!(text.parse::<AllowedHost>().is_err(), "{text} passed");
        }
        assert_eq!("https://u@h.com:1/x".parse::<AllowedHost>(), Err(HostError::Url("h.com:1".into())));
    }
}
