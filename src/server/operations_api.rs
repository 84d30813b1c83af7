//! What operators ask of an agent from day to day: secrets, scale, logs, history.

use super::App;
use super::error::ApiError;
use super::extract::{Administrator, Body, Deployer, Reader};
use crate::api::control::{ScaleRequest, ScaleResponse, SecretView, SecretsRequest, SecretsResponse};
use crate::api::history::{ReleaseView, RolloutSummary, RunDetail, RunView, ThreadDetail, ThreadView};
use crate::api::images::{LayersAnswer, LayersRequest};
use crate::api::logs::{LogLine, LogQuery};
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use futures_util::stream;
use serde::Deserialize;
use std::time::Duration;
use tokio::sync::mpsc;
use uuid::Uuid;

/// How many entries a list has when nobody says.
const USUAL: u32 = 20;
/// A log that says nothing sends an empty line this often: a client that is gone is seen by it.
const HEARTBEAT: Duration = Duration::from_secs(15);

pub fn router() -> Router<App> {
    Router::new()
        .route("/v1/agents/{name}/secrets", get(list_secrets).patch(change_secrets))
        .route("/v1/agents/{name}/scale", put(scale))
        .route("/v1/agents/{name}/image", post(layers))
        .route("/v1/agents/{name}/logs", get(logs))
        .route("/v1/agents/{name}/releases", get(releases))
        .route("/v1/agents/{name}/rollouts", get(rollouts))
        .route("/v1/agents/{name}/runs", get(runs))
        .route("/v1/agents/{name}/threads", get(threads))
        .route("/v1/agents/{name}/threads/{thread}", get(thread))
        .route("/v1/runs/{id}", get(run))
}

async fn list_secrets(
    State(app): State<App>,
    _: Reader,
    Path(name): Path<String>,
) -> Result<Json<Vec<SecretView>>, ApiError> {
    Ok(Json(app.control.list_secrets(&name).await?))
}

async fn change_secrets(
    State(app): State<App>,
    _: Administrator,
    Path(name): Path<String>,
    Body(request, ..): Body<SecretsRequest>,
) -> Result<Json<SecretsResponse>, ApiError> {
    Ok(Json(app.control.change_secrets(&name, request).await?))
}

async fn layers(
    State(app): State<App>,
    _: Deployer,
    Path(name): Path<String>,
    Body(request, ..): Body<LayersRequest>,
) -> Result<Json<LayersAnswer>, ApiError> {
    Ok(Json(app.control.layers(&name, &request).await?))
}

async fn scale(
    State(app): State<App>,
    _: Administrator,
    Path(name): Path<String>,
    Body(request, ..): Body<ScaleRequest>,
) -> Result<Json<ScaleResponse>, ApiError> {
    Ok(Json(app.control.scale(&name, request).await?))
}

/// What narrows a list.
#[derive(Deserialize)]
struct Narrow {
    limit: Option<u32>,
    thread: Option<String>,
    status: Option<String>,
}

impl Narrow {
    fn limit(&self) -> u32 {
        self.limit.unwrap_or(USUAL)
    }
}

async fn releases(
    State(app): State<App>,
    _: Reader,
    Path(name): Path<String>,
    Query(narrow): Query<Narrow>,
) -> Result<Json<Vec<ReleaseView>>, ApiError> {
    Ok(Json(app.control.releases(&name, narrow.limit()).await?))
}

async fn rollouts(
    State(app): State<App>,
    _: Reader,
    Path(name): Path<String>,
    Query(narrow): Query<Narrow>,
) -> Result<Json<Vec<RolloutSummary>>, ApiError> {
    Ok(Json(app.control.rollouts(&name, narrow.limit()).await?))
}

async fn runs(
    State(app): State<App>,
    _: Reader,
    Path(name): Path<String>,
    Query(narrow): Query<Narrow>,
) -> Result<Json<Vec<RunView>>, ApiError> {
    let (thread, status) = (narrow.thread.as_deref(), narrow.status.as_deref());
    Ok(Json(app.control.runs(&name, thread, status, narrow.limit()).await?))
}

async fn run(State(app): State<App>, _: Reader, Path(id): Path<Uuid>) -> Result<Json<RunDetail>, ApiError> {
    Ok(Json(app.control.run(id).await?))
}

async fn threads(
    State(app): State<App>,
    _: Reader,
    Path(name): Path<String>,
    Query(narrow): Query<Narrow>,
) -> Result<Json<Vec<ThreadView>>, ApiError> {
    Ok(Json(app.control.threads(&name, narrow.limit()).await?))
}

async fn thread(
    State(app): State<App>,
    _: Reader,
    Path((name, thread)): Path<(String, String)>,
) -> Result<Json<ThreadDetail>, ApiError> {
    Ok(Json(app.control.thread(&name, &thread).await?))
}

async fn logs(
    State(app): State<App>,
    _: Reader,
    Path(name): Path<String>,
    Query(query): Query<LogQuery>,
) -> Result<Response, ApiError> {
    let lines = app.control.logs(&name, query).await?;
    let body = stream::unfold((lines, app.closing), async |(mut lines, closing)| {
        let next = tokio::select! {
            next = next_lines(&mut lines) => next?,
            // A server that stops waits for its answers to end.
            () = closing.cancelled() => return None,
        };
        Some((Ok::<_, std::convert::Infallible>(next), (lines, closing)))
    });
    let body = axum::body::Body::from_stream(body);
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")], body).into_response())
}

/// The next lines, as many as are there; an empty one when there is none for long. Nothing: it was the last.
async fn next_lines(lines: &mut mpsc::Receiver<LogLine>) -> Option<Vec<u8>> {
    const TOGETHER: usize = 128;
    let mut found = Vec::new();
    let Ok(count) = tokio::time::timeout(HEARTBEAT, lines.recv_many(&mut found, TOGETHER)).await else {
        return Some(b"\n".to_vec());
    };
    if count == 0 {
        return None;
    }
    let mut bytes = Vec::new();
    for line in &found {
        bytes.extend(serde_json::to_vec(line).unwrap_or_default());
        bytes.push(b'\n');
    }
    Some(bytes)
}
