//! Which header fields pass. Pure.

use crate::models::route::X_API_KEY;
use axum::http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use axum::http::{HeaderMap, HeaderName};

/// Fields of one connection only (RFC 9110 7.6.1, and `Keep-Alive`, `Proxy-Connection` of older days).
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Removes the fields of one connection, those that `Connection` names among them.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// What of a request's fields goes upstream: everything of the client's but its key, its `Host` and what
/// belongs to the connection. `Accept-Encoding` passes, so that the body comes as the client wants it.
pub(crate) fn upstream(mut headers: HeaderMap) -> HeaderMap {
    if headers.contains_key(TRANSFER_ENCODING) {
        // RFC 9112 6.3: a length beside it means nothing and goes no further.
        headers.remove(CONTENT_LENGTH);
    }
    remove_hop_by_hop(&mut headers);
    for name in [HOST, EXPECT, AUTHORIZATION, X_API_KEY] {
        headers.remove(name);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_connection_and_the_gateway_key_stay_behind() {
        let given = [
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("keep-alive", "5"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "x"),
            ("host", "127.0.0.1"),
            ("authorization", "Bearer k"),
            ("x-api-key", "k"),
            ("openai-organization", "org"),
            ("openai-project", "p"),
            ("anthropic-version", "2023-06-01"),
            ("accept-encoding", "gzip"),
            ("content-length", "3"),
        ];
        let headers = given.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let kept = upstream(headers);
        let mut names: Vec<_> = kept.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let smuggled = [(TRANSFER_ENCODING, "chunked".parse().unwrap()), (CONTENT_LENGTH, "3".parse().unwrap())];
        assert!(upstream(smuggled.into_iter().collect()).is_empty());
        let expected =
            ["accept-encoding", "anthropic-version", "content-length", "openai-organization", "openai-project"];
        assert_eq!(names, expected);
    }
}
