//! Hosts and `host:port`, in the one form in which they are compared. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A host: a name in lowercase ASCII without the root's dot, or an address.
///
/// The two never meet: a text whose last label is a number is an address or nothing (as the URL
/// standard has it), so that `0x7f.1` and `2130706433`, which the system's resolver would take for
/// addresses, are no names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A DNS name.
    Name(String),
    /// An address; IPv4-mapped IPv6 as IPv4.
    Ip(IpAddr),
}

/// What is wrong with a host or a `host:port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing there.
    #[error("the host is empty")]
    Empty,
    /// More than 253 characters, or a label of more than 63 (RFC 1035 2.3.4).
    #[error("the host is too long for a DNS name")]
    Length,
    /// Characters other than letters, digits, `-`, `_` and dots, or an empty label.
    #[error("the host is no DNS name in ASCII form")]
    Characters,
    /// Ends in a number and is no IPv4 address of four decimal parts.
    #[error("the host looks like an IPv4 address and is none")]
    Ipv4,
    /// In brackets and no IPv6 address.
    #[error("the host in brackets is no IPv6 address")]
    Ipv6,
    /// No port, or none between 1 and 65535.
    #[error("the port is not a number between 1 and 65535")]
    Port,
}

impl Host {
    /// Reads a host as it stands in a URL or a `CONNECT`: IPv6 in brackets.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(HostError::Ipv6)?;
            let address: Ipv6Addr = inner.parse().map_err(|_| HostError::Ipv6)?;
            return Ok(Self::Ip(IpAddr::V6(address).to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(HostError::Empty);
        }
        if name.len() > 253 {
            return Err(HostError::Length);
        }
        for label in name.split('.') {
            if label.is_empty()
                || !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            {
                return Err(HostError::Characters);
            }
            if label.len() > 63 {
                return Err(HostError::Length);
            }
        }
        let last = name.rsplit('.').next().unwrap_or(name);
        if is_number(last) {
            return name.parse::<Ipv4Addr>().map(|address| Self::Ip(address.into())).map_err(|_| HostError::Ipv4);
        }
        Ok(Self::Name(name.to_ascii_lowercase()))
    }
}

/// "Ends in a number" of <https://url.spec.whatwg.org/#ends-in-a-number-checker>.
fn is_number(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    label.bytes().all(|byte| byte.is_ascii_digit())
        || hexadecimal.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl fmt::Display for Host {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => out.write_str(name),
            Self::Ip(IpAddr::V4(address)) => address.fmt(out),
            Self::Ip(IpAddr::V6(address)) => write!(out, "[{address}]"),
        }
    }
}

/// The target of a `CONNECT` (RFC 9112 3.2.3): a host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authority {
    /// Where to.
    pub host: Host,
    /// Never 0.
    pub port: u16,
}

impl Authority {
    /// Reads `host:port`; the port must be there.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let (host, port) = text.rsplit_once(':').ok_or(HostError::Port)?;
        Ok(Self { host: Host::parse(host)?, port: parse_port(port)? })
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.host, self.port)
    }
}

/// A port from 1 to 65535 in decimal digits, without sign or space.
pub(crate) fn parse_port(text: &str) -> Result<u16, HostError> {
    let digits = !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port > 0 => Ok(port),
        _ => Err(HostError::Port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_lowercase_and_without_the_roots_dot() {
        assert_eq!(Host::parse("API.Example.COM."), Ok(Host::Name("api.example.com".into())));
        assert_eq!(Host::parse("xn--bcher-kva.example"), Ok(Host::Name("xn--bcher-kva.example".into())));
        assert_eq!(Host::parse("my_db"), Ok(Host::Name("my_db".into())));
    }

    #[test]
    fn what_ends_in_a_number_is_an_address_or_nothing() {
        assert_eq!(Host::parse("10.0.0.1"), Ok(Host::Ip("10.0.0.1".parse().unwrap())));
        assert_eq!(Host::parse("[::ffff:10.0.0.1]"), Ok(Host::Ip("10.0.0.1".parse().unwrap())));
        for text in ["127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "a.example.7", "0x"] {
            assert_eq!(Host::parse(text), Err(HostError::Ipv4), "{text}");
        }
    }

    #[test]
    fn anything_else_is_no_host() {
        for text in
            ["", ".", "a..b", "bücher.example", "a b", "a/b", "user@host", "a%2e", "[::1", "[nonsense]", "::1", "a\r\n"]
        {
            assert!(Host::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Host::parse(&"a".repeat(64)), Err(HostError::Length));
        assert_eq!(Host::parse(&"a.".repeat(200)), Err(HostError::Length));
    }

    #[test]
    fn an_authority_has_a_port() {
        assert_eq!(Authority::parse("[2001:db8::1]:443").unwrap().to_string(), "[2001:db8::1]:443");
        for text in ["a", "a:", "a:0", "a:65536", "a:+1", "a: 1", "a:000443", ":443"] {
            assert!(Authority::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic_and_shown_as_it_reads(text in ".{0,80}") {
            if let Ok(authority) = Authority::parse(&text) {
                prop_assert_eq!(Authority::parse(&authority.to_string()).unwrap(), authority);
            }
        }
    }
}
