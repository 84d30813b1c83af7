//! What operators ask of an agent from day to day: secrets, scale, logs, history.

use super::error::ApiError;
use super::routes::{Call, Routes};
use crate::api::control::{ScaleResponse, SecretView, SecretsResponse};
use crate::api::history::{ReleaseView, RolloutSummary, RunDetail, RunView, ThreadDetail, ThreadView};
use crate::api::images::LayersAnswer;
use crate::api::logs::LogLine;
use crate::api::routes;
use axum::body::Body;
use futures_util::stream;
use std::time::Duration;
use tokio::sync::mpsc;

/// How many entries a list has when nobody says.
const USUAL: u32 = 20;
/// A log that says nothing sends an empty line this often: a client that is gone is seen by it.
const HEARTBEAT: Duration = Duration::from_secs(15);

pub fn routes() -> Routes {
    Routes::new()
        .serve::<routes::ListSecrets, _, _>(list_secrets)
        .serve::<routes::ChangeSecrets, _, _>(change_secrets)
        .serve::<routes::Scale, _, _>(scale)
        .serve::<routes::FindLayers, _, _>(layers)
        .serve::<routes::GetLogs, _, _>(logs)
        .serve::<routes::ListReleases, _, _>(releases)
        .serve::<routes::ListRollouts, _, _>(rollouts)
        .serve::<routes::ListRuns, _, _>(runs)
        .serve::<routes::GetRun, _, _>(run)
        .serve::<routes::ListThreads, _, _>(threads)
        .serve::<routes::GetThread, _, _>(thread)
}

async fn list_secrets(call: Call<routes::ListSecrets>) -> Result<Vec<SecretView>, ApiError> {
    Ok(call.app.control.list_secrets(&call.path).await?)
}

async fn change_secrets(call: Call<routes::ChangeSecrets>) -> Result<SecretsResponse, ApiError> {
    Ok(call.app.control.change_secrets(&call.path, call.body).await?)
}

async fn layers(call: Call<routes::FindLayers>) -> Result<LayersAnswer, ApiError> {
    let scope = call.caller.token()?.scope();
    Ok(call.app.control.layers(&call.path, &call.body, scope).await?)
}

async fn scale(call: Call<routes::Scale>) -> Result<ScaleResponse, ApiError> {
    Ok(call.app.control.scale(&call.path, call.body).await?)
}

async fn releases(call: Call<routes::ListReleases>) -> Result<Vec<ReleaseView>, ApiError> {
    Ok(call.app.control.releases(&call.path, call.query.limit.unwrap_or(USUAL)).await?)
}

async fn rollouts(call: Call<routes::ListRollouts>) -> Result<Vec<RolloutSummary>, ApiError> {
    Ok(call.app.control.rollouts(&call.path, call.query.limit.unwrap_or(USUAL)).await?)
}

async fn runs(call: Call<routes::ListRuns>) -> Result<Vec<RunView>, ApiError> {
    let query = &call.query;
    let (thread, status) = (query.thread.as_deref(), query.status.as_deref());
    Ok(call.app.control.runs(&call.path, thread, status, query.limit.unwrap_or(USUAL)).await?)
}

async fn run(call: Call<routes::GetRun>) -> Result<RunDetail, ApiError> {
    Ok(call.app.control.run(call.path).await?)
}

async fn threads(call: Call<routes::ListThreads>) -> Result<Vec<ThreadView>, ApiError> {
    Ok(call.app.control.threads(&call.path, call.query.limit.unwrap_or(USUAL)).await?)
}

async fn thread(call: Call<routes::GetThread>) -> Result<ThreadDetail, ApiError> {
    let (name, thread) = &call.path;
    Ok(call.app.control.thread(name, thread).await?)
}

async fn logs(call: Call<routes::GetLogs>) -> Result<Body, ApiError> {
    let lines = call.app.control.logs(&call.path, call.query).await?;
    let body = stream::unfold((lines, call.app.closing), async |(mut lines, closing)| {
        let next = tokio::select! {
            next = next_lines(&mut lines) => next?,
            // A server that stops waits for its answers to end.
            () = closing.cancelled() => return None,
        };
        Some((Ok::<_, std::convert::Infallible>(next), (lines, closing)))
    });
    Ok(Body::from_stream(body))
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
