//! Builds on the server: what there is already, and a build whose answer is what it says as it goes on.

use super::error::ApiError;
use super::routes::{Call, Routes};
use crate::api::builds::{BuildCheck, BuildEvent};
use crate::api::problem::Problem;
use crate::api::routes;
use crate::control::builds::{Building, BuildsError};
use crate::gateway::committer::chain;
use crate::image::sent::SentError;
use axum::body::Body;
use futures_util::{StreamExt as _, stream};
use std::convert::Infallible;
use std::io;

pub fn routes() -> Routes {
    Routes::new().serve::<routes::CheckBuild, _, _>(check).serve::<routes::BuildImage, _, _>(build)
}

async fn check(call: Call<routes::CheckBuild>) -> Result<BuildCheck, ApiError> {
    Ok(call.app.control.check_build(&call.path, call.body).await?)
}

async fn build(call: Call<routes::BuildImage>) -> Result<Body, ApiError> {
    let body = call.body.into_data_stream().map(|piece| piece.map_err(io::Error::other));
    let received = call.app.control.receive_build(&call.path, body).await?;
    let building = call.app.control.build(&call.path, received);
    let body = stream::unfold(building, async |mut building: Building| {
        let events = building.next().await?;
        Some((Ok::<_, Infallible>(lines(&events)), building))
    });
    Ok(Body::from_stream(body))
}

/// A line for each, or an empty one.
fn lines(events: &[BuildEvent]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for event in events {
        bytes.extend(serde_json::to_vec(event).unwrap_or_default());
        bytes.push(b'\n');
    }
    if bytes.is_empty() { b"\n".to_vec() } else { bytes }
}

/// Why nothing is built, as it is told.
pub fn problem(error: &BuildsError) -> Problem {
    let text = chain(error);
    match error {
        BuildsError::Off => Problem::new(409, "no-builds", "this server builds no images")
            .hint("build with --build local; or start the server without --build-jobs 0"),
        BuildsError::Busy(_) => Problem::new(429, "too-many-builds", "too many builds wait already")
            .detail(text)
            .hint("try again when some have ended"),
        BuildsError::TooLarge(_) | BuildsError::TooMuch(_) => {
            Problem::new(413, "build-too-large", "the project is larger than what the server builds")
                .detail(text)
                .hint("leave out what the image does not need, by .dockerignore; or build with --build local")
        }
        BuildsError::DiskFull { .. } => disk_full().detail(text),
        BuildsError::Folder(source) | BuildsError::Sent(SentError::Disk(source)) if is_full(source) => disk_full(),
        BuildsError::Folder(_) | BuildsError::Sent(SentError::Disk(_)) => {
            super::error::internal("builds", "the server could not keep what was sent", error)
        }
        BuildsError::Silent => Problem::new(408, "body-timeout", "what is sent did not come in time").detail(text),
        BuildsError::Manifest(_) => {
            Problem::new(422, "manifest-invalid", "the server does not accept this manifest").detail(text)
        }
        BuildsError::Sent(_) => Problem::new(422, "build-invalid", "what was sent cannot be built from")
            .detail(text)
            .hint("deploy again; with a rapidclaw of the server's version"),
        BuildsError::Build(error) => {
            let fault = crate::api::builds::BuildFault::from(error);
            let status = if fault.code == "engine-away" { 503 } else { 422 };
            tracing::warn!(error = %chain(error), "what is there of a build could not be looked for");
            let mut problem = Problem::new(status, &fault.code, &fault.message).detail(fault.causes.join(": "));
            problem.hints = fault.hints;
            problem
        }
    }
}

fn disk_full() -> Problem {
    Problem::new(507, "disk-full", "the disk of the server's data folder is full")
        .hint("make room on that disk (`df -h` on the server), then deploy again")
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
