//! Command lines of another version: each answer says which versions of the control API this server speaks,
//! and one that shares none with it is told so before anything is done.

use super::error::ApiError;
use crate::api::problem::Problem;
use crate::api::version::{HEADER, OURS, Spoken};
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

/// Who says nothing (curl) is taken to know what it does.
pub async fn check(request: Request, next: Next) -> Response {
    let theirs = request.headers().get(HEADER).map(|value| value.to_str().unwrap_or_default().parse::<Spoken>());
    let mut response = match theirs {
        Some(Err(_)) => ApiError::new(
            Problem::new(400, "api-version-invalid", "the version of the control API is not what is expected")
                .detail(format!("{HEADER} holds a range such as {OURS}")),
        )
        .into_response(),
        Some(Ok(theirs)) if OURS.common(theirs).is_none() => refusal(theirs).into_response(),
        _ => next.run(request).await,
    };
    if let Ok(value) = HeaderValue::from_str(&OURS.to_string()) {
        response.headers_mut().insert(HEADER, value);
    }
    response
}

fn refusal(theirs: Spoken) -> ApiError {
    let version = env!("CARGO_PKG_VERSION");
    let problem = Problem::new(400, "api-version", "server and command line are of versions too far apart")
        .detail(format!("this server (rapidclaw {version}) speaks control API {OURS}, the request {theirs}"));
    ApiError::new(if OURS.is_newer_than(theirs) {
        problem.hint(format!("install rapidclaw {version} where you call from"))
    } else {
        problem.hint("install the newer rapidclaw on the server's machine and run `rapidclaw server restart`")
    })
}
