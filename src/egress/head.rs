//! Reader of a `CONNECT` request's head. Pure; stricter than RFC 9112 asks, since its only client is our relay
//! and the HTTP libraries that follow `HTTPS_PROXY`.

use crate::egress::Defaults;
use crate::egress::host::{Authority, HostError};

/// What is wrong with a head.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Longer than [`Defaults::HEAD_BYTES`].
    #[error("the request's head is longer than {} bytes", Defaults::HEAD_BYTES)]
    TooLong,
    /// Not the form of a request.
    #[error("not an HTTP/1.1 request: {0}")]
    Malformed(&'static str),
    /// Another method than `CONNECT`.
    #[error("only CONNECT is spoken here, not {0}")]
    Method(String),
    /// The target is no `host:port` (RFC 9112 3.2.3).
    #[error("the target is no host:port")]
    Target(#[source] HostError),
}

/// A whole head, and how many bytes it took; what follows belongs to the tunnel.
#[derive(Debug, PartialEq, Eq)]
pub struct Connect {
    /// Where to.
    pub target: Authority,
    /// Length of the head, the empty line included.
    pub length: usize,
}

/// Reads the head at the start of `bytes`; `None` when more bytes are needed.
pub fn parse(bytes: &[u8]) -> Result<Option<Connect>, HeadError> {
    let window = &bytes[..bytes.len().min(Defaults::HEAD_BYTES)];
    let Some(end) = window.windows(4).position(|part| part == b"\r\n\r\n") else {
        // Refused as soon as it cannot become a request, so that a client of another protocol need not wait.
        early(window)?;
        return if bytes.len() >= Defaults::HEAD_BYTES { Err(HeadError::TooLong) } else { Ok(None) };
    };
    let head = std::str::from_utf8(&window[..end]).map_err(|_| HeadError::Malformed("bytes that are no text"))?;
    if head.bytes().any(|byte| (byte < b' ' && !matches!(byte, b'\r' | b'\n' | b'\t')) || byte == 0x7f) {
        return Err(HeadError::Malformed("control characters"));
    }
    let mut lines = head.split("\r\n");
    let target = request_line(lines.next().unwrap_or_default())?;
    let mut hosts = 0;
    for line in lines {
        let (name, value) = field(line)?;
        if name.eq_ignore_ascii_case("host") {
            hosts += 1;
        }
        // A CONNECT has no content (RFC 9110 9.3.6); bytes after the head are the tunnel's.
        let content = name.eq_ignore_ascii_case("transfer-encoding")
            || (name.eq_ignore_ascii_case("content-length") && value != "0");
        if content {
            return Err(HeadError::Malformed("a CONNECT has no content"));
        }
    }
    if hosts > 1 {
        return Err(HeadError::Malformed("more than one Host"));
    }
    Ok(Some(Connect { target, length: end + 4 }))
}

/// Faults that the first bytes show.
fn early(bytes: &[u8]) -> Result<(), HeadError> {
    let method = bytes.split(|byte| *byte == b' ').next().unwrap_or_default();
    let token = method.len() <= 32 && method.iter().all(|byte| byte.is_ascii_alphabetic() || *byte == b'-');
    if token { Ok(()) } else { Err(HeadError::Malformed("no method")) }
}

fn request_line(line: &str) -> Result<Authority, HeadError> {
    let mut parts = line.split(' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(HeadError::Malformed("the request line has not three parts"));
    };
    if method.is_empty() || method.len() > 32 || !method.bytes().all(is_token) {
        return Err(HeadError::Malformed("no method"));
    }
    if version != "HTTP/1.1" && version != "HTTP/1.0" {
        return Err(HeadError::Malformed("another version than HTTP/1.1"));
    }
    if method != "CONNECT" {
        return Err(HeadError::Method(method.to_owned()));
    }
    Authority::parse(target).map_err(HeadError::Target)
}

fn field(line: &str) -> Result<(&str, &str), HeadError> {
    let malformed = HeadError::Malformed("a header field without name");
    if line.contains(['\r', '\n']) {
        return Err(HeadError::Malformed("a line that does not end in CR LF"));
    }
    let (name, value) = line.split_once(':').ok_or(malformed.clone())?;
    // Folded lines and spaces before the colon are refused: RFC 9112 5.1, 5.2.
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(malformed);
    }
    Ok((name, value.trim_matches([' ', '\t'])))
}

/// `tchar` of RFC 9110 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn target(text: &str) -> Result<Option<String>, HeadError> {
        parse(text.as_bytes()).map(|head| head.map(|head| head.target.to_string()))
    }

    #[test]
    fn a_connect_gives_its_target_and_where_the_tunnel_starts() {
        let text = "CONNECT API.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\nUser-Agent: x\r\n\r\n\x16\x03";
        let head = parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!(head.target.to_string(), "api.example.com:443");
        assert_eq!(&text.as_bytes()[head.length..], b"\x16\x03");
        assert_eq!(target("CONNECT [fd12::7]:80 HTTP/1.0\r\n\r\n"), Ok(Some("[fd12::7]:80".into())));
    }

    #[test]
    fn another_method_is_named() {
        assert_eq!(target("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Err(HeadError::Method("GET".into())));
        assert_eq!(target("connect a:1 HTTP/1.1\r\n\r\n"), Err(HeadError::Method("connect".into())));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for text in [
            "\x16\x03\x01\x02\x00",
            "CONNECT a:1\r\n\r\n",
            "CONNECT  a:1 HTTP/1.1\r\n\r\n",
            "CONNECT a:1 HTTP/2.0\r\n\r\n",
            "CONNECT a HTTP/1.1\r\n\r\n",
            "CONNECT http://a:1/ HTTP/1.1\r\n\r\n",
            "CONNECT user@a:1 HTTP/1.1\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\nHost: a\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\nHost : a\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
            "CONNECT a:1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\nX: \0\r\n\r\n",
            "\r\n\r\n",
        ] {
            assert!(target(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_endless_head_is_cut_off() {
        let long = format!("CONNECT a:1 HTTP/1.1\r\nX: {}", "a".repeat(Defaults::HEAD_BYTES));
        assert_eq!(target(&long[..4000]), Ok(None));
        assert_eq!(target(&long), Err(HeadError::TooLong));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse(&bytes);
            let _ = parse(&[b"CONNECT ".as_slice(), &bytes, b"\r\n\r\n"].concat());
        }

        #[test]
        fn a_head_cut_anywhere_asks_for_more(host in "[a-z]{1,20}\\.example", port in 1_u16.., cut in 0_usize..200) {
            let text = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\nProxy-Connection: keep-alive\r\n\r\n");
            let cut = cut.min(text.len() - 1);
            prop_assert_eq!(parse(&text.as_bytes()[..cut]).unwrap(), None);
            prop_assert_eq!(target(&text).unwrap().unwrap(), format!("{host}:{port}"));
        }
    }
}
