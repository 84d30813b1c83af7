//! `NAME/blobs/uploads/`: whole, in chunks, and on from where it broke off.

use super::app::RegistryApp;
use super::auth::Visitor;
use super::error::Fault;
use super::wire::{CONTENT_DIGEST, empty, parameter, range};
use crate::registry::names::{Digest, Repository};
use crate::registry::{Chunk, ChunkRange};
use axum::body::{Body, BodyDataStream};
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::Response;
use uuid::Uuid;

const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
const MIN_CHUNK: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// An upload; one that is whole at once, and one of content that another repository has.
pub async fn begin(
    app: &RegistryApp,
    visitor: &Visitor,
    name: Repository,
    head: &Parts,
    body: Body,
) -> Result<Response, Fault> {
    if let Some(text) = parameter(head, "mount") {
        let digest = Digest::parse(&text).ok_or_else(|| Fault::digest(&text))?;
        // Without `from` a registry may look by itself (end-11); ours need not.
        let from = parameter(head, "from").and_then(|from| Repository::parse(&from));
        // One that the login does not open is none.
        if let Some(from) = from.filter(|from| visitor.may_pull(from)) {
            let (to, wanted) = (name.clone(), digest.clone());
            if app.registry.on_disk(move |disk| disk.mount(&to, &from, &wanted)).await? {
                return Ok(created(&name, &digest));
            }
        }
        return accepted(app, &name).await;
    }
    match parameter(head, "digest") {
        Some(text) => {
            let digest = Digest::parse(&text).ok_or_else(|| Fault::digest(&text))?;
            let id = app.registry.begin_upload(&name).await?;
            let chunk = chunk(head, body)?;
            match app.registry.finish_upload(&name, id, chunk, &digest).await {
                Ok(()) => Ok(created(&name, &digest)),
                Err(error) => {
                    // The client does not know its id: nobody goes on with it.
                    let _ = app.registry.cancel_upload(&name, id).await;
                    Err(error.into())
                }
            }
        }
        None => accepted(app, &name).await,
    }
}

async fn accepted(app: &RegistryApp, name: &Repository) -> Result<Response, Fault> {
    let id = app.registry.begin_upload(name).await?;
    let mut headers = place(name, id, 0);
    headers.push((MIN_CHUNK, "1".to_owned()));
    Ok(empty(StatusCode::ACCEPTED, headers))
}

/// How far it is.
pub async fn progress(app: &RegistryApp, name: &Repository, id: Uuid) -> Result<Response, Fault> {
    let received = app.registry.received(name, id).await?;
    Ok(empty(StatusCode::NO_CONTENT, place(name, id, received)))
}

/// One more chunk.
pub async fn append(
    app: &RegistryApp,
    name: &Repository,
    id: Uuid,
    head: &Parts,
    body: Body,
) -> Result<Response, Fault> {
    let chunk = chunk(head, body)?;
    let received = app.registry.append(name, id, chunk).await.map_err(|error| at_place(error, name, id))?;
    Ok(empty(StatusCode::ACCEPTED, place(name, id, received)))
}

/// The last chunk, or nothing but the digest.
pub async fn finish(
    app: &RegistryApp,
    name: &Repository,
    id: Uuid,
    head: &Parts,
    body: Body,
) -> Result<Response, Fault> {
    let text = parameter(head, "digest").unwrap_or_default();
    let digest = Digest::parse(&text).ok_or_else(|| Fault::digest(&text))?;
    let chunk = chunk(head, body)?;
    app.registry.finish_upload(name, id, chunk, &digest).await.map_err(|error| at_place(error, name, id))?;
    Ok(created(name, &digest))
}

/// It is given up.
pub async fn cancel(app: &RegistryApp, name: &Repository, id: Uuid) -> Result<Response, Fault> {
    app.registry.cancel_upload(name, id).await?;
    Ok(empty(StatusCode::NO_CONTENT, []))
}

fn created(name: &Repository, digest: &Digest) -> Response {
    let location = format!("/v2/{name}/blobs/{digest}");
    empty(StatusCode::CREATED, [(header::LOCATION, location), (CONTENT_DIGEST, digest.to_string())])
}

fn location(name: &Repository, id: Uuid) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

fn place(name: &Repository, id: Uuid, received: u64) -> Vec<(HeaderName, String)> {
    vec![(header::LOCATION, location(name, id)), (header::RANGE, range(received)), (UPLOAD_UUID, id.to_string())]
}

/// A client that sent the wrong chunk learns where to go on.
fn at_place(error: crate::registry::RegistryError, name: &Repository, id: Uuid) -> Fault {
    Fault::from(error).header(header::LOCATION, location(name, id)).header(UPLOAD_UUID, id.to_string())
}

fn chunk(head: &Parts, body: Body) -> Result<Chunk<BodyDataStream>, Fault> {
    let text = |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
    let range = match text(header::CONTENT_RANGE) {
        Some(given) => Some(ChunkRange::parse(given).ok_or_else(|| {
            Fault::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", "Content-Range is FIRST-LAST, in bytes")
        })?),
        None => None,
    };
    let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    Ok(Chunk { range, length, body: body.into_data_stream() })
}
