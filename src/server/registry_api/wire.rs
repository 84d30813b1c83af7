//! Parameters and headers of the registry's requests and answers.

use axum::extract::Query;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A parameter of the query.
pub fn parameter(head: &Parts, name: &str) -> Option<String> {
    parameters(head, name).into_iter().next()
}

/// All of that name.
pub fn parameters(head: &Parts, name: &str) -> Vec<String> {
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(&head.uri).map(|Query(pairs)| pairs).unwrap_or_default();
    pairs.into_iter().filter(|(found, _)| found == name).map(|(_, value)| value).collect()
}

/// An answer without a body.
pub fn empty(status: StatusCode, headers: impl IntoIterator<Item = (HeaderName, String)>) -> Response {
    let mut response = status.into_response();
    put_headers(&mut response, headers);
    if status != StatusCode::NO_CONTENT {
        response.headers_mut().entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
    }
    response
}

pub fn put_headers(response: &mut Response, headers: impl IntoIterator<Item = (HeaderName, String)>) {
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
}

/// `0-N`, N being the last byte that has come. The form knows no way to say that none has.
pub fn range(received: u64) -> String {
    format!("0-{}", received.saturating_sub(1))
}
