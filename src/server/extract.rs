//! What handlers take out of requests.

use super::App;
use super::error::ApiError;
use crate::api::problem::Problem;
use crate::gateway::KeyOwner;
use crate::gateway::route::Route;
use crate::store::keys::TokenOwner;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// The owner of the control API's token.
pub struct Operator(pub TokenOwner);

impl FromRequestParts<App> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let missing = || ApiError::unauthorized("send a token of the control API as a Bearer token");
        let token = bearer(&parts.headers).ok_or_else(missing)?;
        app.control.authenticate(token).await?.map(Self).ok_or_else(missing)
    }
}

/// The bearer token of a request.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get("authorization")?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// The way to the agent that a caller's key opens.
pub fn authorized_route(app: &App, name: &str, headers: &HeaderMap) -> Result<Arc<Route>, ApiError> {
    let key = headers.get("x-api-key").and_then(|key| key.to_str().ok()).or_else(|| bearer(headers));
    let key = key.ok_or_else(|| ApiError::unauthorized("send a key of the agent as x-api-key"))?;
    let gateway = app.control.gateway();
    let route = gateway.route(name);
    match gateway.key_owner(route.as_ref().map_or(uuid::Uuid::nil(), |route| route.agent), key) {
        KeyOwner::Unknown => Err(ApiError::unauthorized("the key opens nothing")),
        KeyOwner::This => route.ok_or_else(ApiError::no_route),
        KeyOwner::Another if route.is_none() => {
            Err(ApiError::new(Problem::new(404, "no-such-agent", "there is no such agent")))
        }
        KeyOwner::Another => Err(ApiError::new(Problem::new(403, "wrong-agent", "the key belongs to another agent"))),
    }
}

/// A JSON body, whatever its content type says.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, app).await.map_err(|error| {
            let status = error.status().as_u16();
            let (code, title) = match status {
                413 => ("body-too-large", "the body is too large"),
                _ => ("body-unreadable", "the body could not be read"),
            };
            ApiError::new(Problem::new(status, code, title))
        })?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            let status = if error.is_data() { 422 } else { 400 };
            ApiError::new(
                Problem::new(status, "body-invalid", "the body is not what is expected").detail(error.to_string()),
            )
        })
    }
}
