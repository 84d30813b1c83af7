//! Errors in the specification's form: `{"errors":[{"code","message","detail"}]}`.

use super::wire::{put_headers, range};
use crate::gateway::committer::chain;
use crate::registry::RegistryError;
use crate::registry::path::NoTarget;
use crate::store::StoreError;
use axum::Json;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// An error on its way out.
#[derive(Debug)]
pub struct Fault(Box<Inner>);

#[derive(Debug)]
struct Inner {
    status: StatusCode,
    code: &'static str,
    message: String,
    detail: Value,
    headers: Vec<(HeaderName, String)>,
}

impl Fault {
    /// An error with one of the specification's codes.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { status, code, message: message.into(), detail: Value::Null, headers: Vec::new() }))
    }

    /// What it was this time, for programs.
    pub fn detail(mut self, detail: Value) -> Self {
        self.0.detail = detail;
        self
    }

    /// With a header.
    pub fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.0.headers.push((name, value.into()));
        self
    }

    /// A method that the address does not know.
    pub fn method(allowed: &'static str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "the method is not known here")
            .header(header::ALLOW, allowed)
    }

    /// A digest that is none, or of another algorithm.
    pub fn digest(given: &str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "DIGEST_INVALID",
            "a digest is `sha256:` and 64 lowercase hexadecimal digits",
        )
        .detail(json!({"digest": given}))
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let Inner { status, code, message, detail, headers } = *self.0;
        let mut error = json!({"code": code, "message": message});
        if !detail.is_null() {
            error["detail"] = detail;
        }
        let mut response = (status, Json(json!({"errors": [error]}))).into_response();
        put_headers(&mut response, headers);
        response
    }
}

impl From<NoTarget> for Fault {
    fn from(why: NoTarget) -> Self {
        match why {
            NoTarget::Route => Self::new(StatusCode::NOT_FOUND, "UNSUPPORTED", "there is nothing at this address"),
            NoTarget::Name => Self::new(
                StatusCode::BAD_REQUEST,
                "NAME_INVALID",
                "a repository's name is lowercase letters and digits, with `.`, `_`, `__`, `-` between and `/` behind them",
            ),
            NoTarget::Digest => Self::digest(""),
            NoTarget::Reference => Self::new(
                StatusCode::BAD_REQUEST,
                "MANIFEST_INVALID",
                "a tag is at most 128 letters, digits, `_`, `.` and `-`, and begins with none of the last two",
            ),
            NoTarget::Upload => {
                Self::new(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", RegistryError::UploadUnknown.to_string())
            }
        }
    }
}

impl From<RegistryError> for Fault {
    fn from(error: RegistryError) -> Self {
        let text = error.to_string();
        let said = |status, code| Self::new(status, code, text.clone());
        match error {
            RegistryError::NameUnknown(name) => {
                said(StatusCode::NOT_FOUND, "NAME_UNKNOWN").detail(json!({"name": name}))
            }
            RegistryError::BlobUnknown(digest) => {
                said(StatusCode::NOT_FOUND, "BLOB_UNKNOWN").detail(json!({"digest": digest.to_string()}))
            }
            RegistryError::ManifestUnknown(reference) => {
                said(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN").detail(json!({"reference": reference}))
            }
            RegistryError::ManifestInvalid(_) => said(StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
            RegistryError::ManifestBlobUnknown(digest) => {
                said(StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN").detail(json!({"digest": digest.to_string()}))
            }
            RegistryError::InUse(_) => said(StatusCode::FORBIDDEN, "DENIED"),
            RegistryError::UploadUnknown => said(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
            RegistryError::OutOfOrder { received, .. } => {
                said(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID").header(header::RANGE, range(received))
            }
            RegistryError::Size { said: wanted, came } => {
                said(StatusCode::BAD_REQUEST, "SIZE_INVALID").detail(json!({"said": wanted, "came": came}))
            }
            RegistryError::Digest { asked, found } => said(StatusCode::BAD_REQUEST, "DIGEST_INVALID")
                .detail(json!({"asked": asked.to_string(), "found": found.to_string()})),
            RegistryError::BrokeOff { received } => {
                said(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID").header(header::RANGE, range(received))
            }
            RegistryError::Busy => said(StatusCode::CONFLICT, "BLOB_UPLOAD_INVALID"),
            RegistryError::TooMany => {
                said(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS").header(header::RETRY_AFTER, "5")
            }
            // Not among the specification's codes; Docker's registry has it for what it cannot do now.
            RegistryError::Full => {
                tracing::error!("an upload was refused: the disk of the data folder is full");
                said(StatusCode::INSUFFICIENT_STORAGE, "UNAVAILABLE")
            }
            error @ RegistryError::Disk { .. } => internal("the registry's folder failed", &error),
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        internal("the database failed", &error)
    }
}

/// Logged with its causes, told without them.
fn internal(what: &'static str, error: &(dyn std::error::Error + 'static)) -> Fault {
    tracing::error!(error = %chain(error), "{what}");
    Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", format!("{what}; the server's log says more"))
}
