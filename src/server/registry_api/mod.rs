//! `/v2/` on 4120: the distribution specification 1.1 (opencontainers/distribution-spec, spec.md) over the
//! registry, with Docker's token login before it.

mod auth;
mod blobs;
mod error;
mod manifests;
mod uploads;

use crate::base::secret::MasterKey;
use crate::control::access::Tokens;
use crate::registry::Registry;
use crate::registry::path::Target;
use crate::server::PublicUrl;
use crate::store::Store;
use axum::extract::{Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use axum::{Json, Router};
use error::Fault;
use serde_json::json;
use tower_http::set_header::SetResponseHeaderLayer;

/// Docker's own names.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// What the registry's routes share.
#[derive(Clone)]
pub struct RegistryApp {
    /// The content.
    pub registry: Registry,
    /// What releases name.
    pub store: Store,
    /// Whose tokens there are.
    pub tokens: Tokens,
    /// Seals the tokens of logins.
    pub key: MasterKey,
    /// How the server is called from elsewhere.
    pub url: String,
    /// The name that it has for others, where it was given one: a proxy with TLS may stand there.
    pub public: Option<PublicUrl>,
    /// Whether this listener speaks TLS.
    pub tls: bool,
}

/// All routes below `/v2/`.
pub fn router(app: RegistryApp) -> Router {
    Router::new()
        .route("/v2", any(base))
        .route("/v2/", any(base))
        .route(auth::TOKEN_PATH, any(auth::token))
        .route("/v2/{*path}", any(target))
        .layer(SetResponseHeaderLayer::overriding(API_VERSION, HeaderValue::from_static("registry/2.0")))
        .with_state(app)
}

/// Whether somebody is there, and whether the login holds.
async fn base(State(app): State<RegistryApp>, head: Parts) -> Result<Response, Fault> {
    auth::check(&app, &head, None).await?;
    match head.method {
        Method::GET | Method::HEAD => Ok(Json(json!({})).into_response()),
        _ => Err(Fault::method("GET, HEAD")),
    }
}

async fn target(State(app): State<RegistryApp>, Path(path): Path<String>, request: Request) -> Result<Response, Fault> {
    let target = Target::parse(&path);
    let (head, body) = request.into_parts();
    let visitor = auth::check(&app, &head, target.as_ref().ok()).await?;
    match (target?, head.method.clone()) {
        (Target::Catalog, Method::GET) => manifests::catalog(&app, visitor, &head).await,
        (Target::Tags(name), Method::GET) => manifests::tags(&app, name, &head).await,
        (Target::Manifest(name, reference), Method::GET | Method::HEAD) => {
            manifests::get(&app, name, reference, &head.method).await
        }
        (Target::Manifest(name, reference), Method::PUT) => manifests::put(&app, name, reference, &head, body).await,
        (Target::Manifest(name, reference), Method::DELETE) => manifests::delete(&app, name, reference).await,
        (Target::Blob(name, digest), Method::GET | Method::HEAD) => blobs::get(&app, name, digest, &head).await,
        (Target::Blob(name, digest), Method::DELETE) => blobs::delete(&app, name, digest).await,
        (Target::Uploads(name), Method::POST) => uploads::begin(&app, &visitor, name, &head, body).await,
        (Target::Upload(name, id), Method::GET) => uploads::progress(&app, &name, id).await,
        (Target::Upload(name, id), Method::PATCH) => uploads::append(&app, &name, id, &head, body).await,
        (Target::Upload(name, id), Method::PUT) => uploads::finish(&app, &name, id, &head, body).await,
        (Target::Upload(name, id), Method::DELETE) => uploads::cancel(&app, &name, id).await,
        (Target::Referrers(name, digest), Method::GET) => manifests::referrers(&app, name, digest, &head).await,
        (Target::Catalog | Target::Tags(_) | Target::Referrers(..), _) => Err(Fault::method("GET")),
        (Target::Manifest(..), _) => Err(Fault::method("GET, HEAD, PUT, DELETE")),
        (Target::Blob(..), _) => Err(Fault::method("GET, HEAD, DELETE")),
        (Target::Uploads(_), _) => Err(Fault::method("POST")),
        (Target::Upload(..), _) => Err(Fault::method("GET, PATCH, PUT, DELETE")),
    }
}

/// A parameter of the query.
fn parameter(head: &Parts, name: &str) -> Option<String> {
    parameters(head, name).into_iter().next()
}

/// All of that name.
fn parameters(head: &Parts, name: &str) -> Vec<String> {
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(&head.uri).map(|Query(pairs)| pairs).unwrap_or_default();
    pairs.into_iter().filter(|(found, _)| found == name).map(|(_, value)| value).collect()
}

/// An answer without a body.
fn empty(status: StatusCode, headers: impl IntoIterator<Item = (HeaderName, String)>) -> Response {
    let mut response = status.into_response();
    put_headers(&mut response, headers);
    if status != StatusCode::NO_CONTENT {
        response.headers_mut().entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
    }
    response
}

fn put_headers(response: &mut Response, headers: impl IntoIterator<Item = (HeaderName, String)>) {
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
}
