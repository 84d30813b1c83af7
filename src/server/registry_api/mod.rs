//! `/v2/` on 4120: the distribution specification 1.1 (opencontainers/distribution-spec, spec.md) over the
//! registry, with Docker's token login before it.

mod app;
mod auth;
mod blobs;
mod error;
mod manifests;
mod uploads;
mod wire;

pub use app::RegistryApp;

use crate::registry::path::Target;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use axum::{Json, Router};
use error::Fault;
use serde_json::json;
use tower_http::set_header::SetResponseHeaderLayer;

/// Docker's own names.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

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
