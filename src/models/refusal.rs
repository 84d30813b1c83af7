//! Answers that the gateway gives itself, in the provider's own shape.

use crate::models::clients::GuardError;
use crate::models::provider::Provider;
use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response, StatusCode};
use std::error::Error;

/// An answer of the gateway's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// As `provider`'s SDKs read it.
    pub(crate) fn response(&self, provider: Provider) -> Response<Body> {
        let body = provider.error(self.status, self.code, &self.message);
        json(self.status, "application/json", &body)
    }

    /// RFC 9457, where no provider is meant.
    pub(crate) fn problem(&self) -> Response<Body> {
        let body = serde_json::json!({
            "type": format!("urn:rapidclaw:problem:{}", self.code),
            "title": self.status.canonical_reason(), "status": self.status.as_u16(), "code": self.code,
            "detail": self.message,
        });
        json(self.status, "application/problem+json", &body)
    }

    /// What became of a request upstream. Says the host and what kind of failure, nothing of the request.
    pub(crate) fn upstream(error: &reqwest::Error, host: &str) -> Self {
        if find::<http_body_util::LengthLimitError>(error).is_some() {
            return Self::too_large();
        }
        if let Some(guard) = find::<GuardError>(error) {
            let message = format!("the upstream {host} cannot be called: {guard}");
            return Self::new(StatusCode::BAD_GATEWAY, "upstream_address", message);
        }
        if error.is_connect() {
            let why = if error.is_timeout() { "no answer in time".to_owned() } else { root(error) };
            let message = format!("the upstream {host} cannot be reached: {why}");
            return Self::new(StatusCode::BAD_GATEWAY, "upstream_unreachable", message);
        }
        if error.is_timeout() {
            let message = format!("the upstream {host} did not answer in time");
            return Self::new(StatusCode::GATEWAY_TIMEOUT, "upstream_timeout", message);
        }
        Self::new(StatusCode::BAD_GATEWAY, "upstream_broke", format!("the upstream {host} broke off: {}", root(error)))
    }

    pub(crate) fn too_large() -> Self {
        let message = format!("the request's body is larger than {} MiB", crate::models::Defaults::BODY_BYTES >> 20);
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
    }
}

fn json(status: StatusCode, kind: &'static str, body: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

fn find<E: Error + 'static>(error: &reqwest::Error) -> Option<&E> {
    chain(error).find_map(|cause| cause.downcast_ref())
}

/// The innermost cause: what the system or TLS said.
fn root(error: &reqwest::Error) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}
