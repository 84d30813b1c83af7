//! `NAME/manifests/REFERENCE`, `NAME/tags/list`, `NAME/referrers/DIGEST`, `_catalog`

use super::app::RegistryApp;
use super::auth::Visitor;
use super::error::Fault;
use super::wire::{CONTENT_DIGEST, empty, parameter, put_headers};
use crate::registry::RegistryError;
use crate::registry::manifest::{MAX_MANIFEST, OCI_INDEX};
use crate::registry::names::{Digest, Reference, Repository};
use axum::Json;
use axum::body::{Body, to_bytes};
use axum::http::request::Parts;
use axum::http::{HeaderName, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use std::time::Duration;

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");
/// How long a manifest may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn get(
    app: &RegistryApp,
    name: Repository,
    reference: Reference,
    method: &Method,
) -> Result<Response, Fault> {
    let wanted = reference.clone();
    let found = app.registry.on_disk(move |disk| disk.find_manifest(&name, &wanted)).await?;
    let found = found.ok_or_else(|| RegistryError::ManifestUnknown(shown(&reference)))?;
    let headers = [
        (header::CONTENT_TYPE, found.media_type),
        (header::CONTENT_LENGTH, found.content.len().to_string()),
        (CONTENT_DIGEST, found.digest.to_string()),
        (header::ETAG, format!("\"{}\"", found.digest)),
    ];
    if *method == Method::HEAD {
        return Ok(empty(StatusCode::OK, headers));
    }
    let mut response = found.content.into_response();
    put_headers(&mut response, headers);
    Ok(response)
}

pub async fn put(
    app: &RegistryApp,
    name: Repository,
    reference: Reference,
    head: &Parts,
    body: Body,
) -> Result<Response, Fault> {
    let too_large = || {
        let most = format!("a manifest may have {MAX_MANIFEST} bytes");
        Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", most)
    };
    let number = |name| head.headers.get(name).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if number(header::CONTENT_LENGTH).is_some_and(|length| length > MAX_MANIFEST) {
        return Err(too_large());
    }
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(str::to_owned);
    let content = match tokio::time::timeout(PATIENCE, to_bytes(body, MAX_MANIFEST)).await {
        Ok(Ok(content)) => content,
        Ok(Err(error)) if is_limit(&error) => return Err(too_large()),
        _ => return Err(Fault::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", "the manifest did not come whole")),
    };
    let (to, under) = (name.clone(), reference.clone());
    let put = app.registry.on_disk(move |disk| disk.put_manifest(&to, &under, kind.as_deref(), &content)).await?;
    let mut headers = vec![
        (header::LOCATION, format!("/v2/{name}/manifests/{}", put.digest)),
        (CONTENT_DIGEST, put.digest.to_string()),
    ];
    headers.extend(put.subject.map(|subject| (SUBJECT, subject.to_string())));
    Ok(empty(StatusCode::CREATED, headers))
}

fn is_limit(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// A manifest that a release names stays: the server may have to load it again.
pub async fn delete(app: &RegistryApp, name: Repository, reference: Reference) -> Result<Response, Fault> {
    if let Reference::Digest(digest) = &reference
        && let Some((agent, version)) = app.store.find_release_of_pushed(&digest.to_string()).await?
    {
        return Err(RegistryError::InUse(format!("v{version} of {agent} is made from this manifest")).into());
    }
    app.registry.on_disk(move |disk| disk.delete_manifest(&name, &reference)).await?;
    Ok(empty(StatusCode::ACCEPTED, []))
}

pub async fn tags(app: &RegistryApp, name: Repository, head: &Parts) -> Result<Response, Fault> {
    let (count, last) = page(head)?;
    let of = name.clone();
    let page = app.registry.on_disk(move |disk| disk.tags(&of, count, last.as_deref())).await?;
    let more = page.more.then(|| next(&format!("/v2/{name}/tags/list"), &page.names));
    Ok(list(json!({"name": name.as_str(), "tags": page.names}), more))
}

/// Only what the visitor may pull from.
pub async fn catalog(app: &RegistryApp, visitor: Visitor, head: &Parts) -> Result<Response, Fault> {
    let (count, last) = page(head)?;
    let shows = move |name: &Repository| visitor.reaches(name);
    let page = app.registry.on_disk(move |disk| disk.catalog(count, last.as_deref(), shows)).await?;
    let more = page.more.then(|| next("/v2/_catalog", &page.names));
    Ok(list(json!({"repositories": page.names}), more))
}

pub async fn referrers(app: &RegistryApp, name: Repository, subject: Digest, head: &Parts) -> Result<Response, Fault> {
    let kind = parameter(head, "artifactType").filter(|kind| !kind.is_empty());
    let filtered = kind.is_some();
    let index = app.registry.on_disk(move |disk| disk.referrers(&name, &subject, kind.as_deref())).await?;
    let mut response = Json(index).into_response();
    put_headers(&mut response, [(header::CONTENT_TYPE, OCI_INDEX.to_owned())]);
    if filtered {
        put_headers(&mut response, [(FILTERS, "artifactType".to_owned())]);
    }
    Ok(response)
}

fn page(head: &Parts) -> Result<(Option<usize>, Option<String>), Fault> {
    let count = match parameter(head, "n") {
        // The code is Docker's: the specification has none for it.
        Some(text) => Some(text.parse().map_err(|_| {
            Fault::new(StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID", "n is how many entries a page has")
        })?),
        None => None,
    };
    Ok((count, parameter(head, "last")))
}

fn next(path: &str, names: &[String]) -> String {
    // No character of these names means anything in a query.
    let last = names.last().map_or("", String::as_str);
    format!("<{path}?n={}&last={last}>; rel=\"next\"", names.len())
}

fn list(body: serde_json::Value, next: Option<String>) -> Response {
    let mut response = Json(body).into_response();
    put_headers(&mut response, next.map(|next| (header::LINK, next)));
    response
}

fn shown(reference: &Reference) -> String {
    match reference {
        Reference::Tag(tag) => tag.as_str().to_owned(),
        Reference::Digest(digest) => digest.to_string(),
    }
}
