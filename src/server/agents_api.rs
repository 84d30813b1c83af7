//! 4121: what applications call. LangGraph's whole API takes its place here.

use super::error::ApiError;
use super::extract::{Body, authorized_route};
use super::{App, hosts};
use crate::api::chat::{ChatRequest, ChatResponse};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use serde_json::json;

/// The largest body of a call.
const BODY_BYTES: usize = 16 << 20;
/// Says which replica answered.
const REPLICA: HeaderName = HeaderName::from_static("rapidclaw-replica");

pub fn router(app: App) -> Router {
    Router::new()
        .route("/healthz", get(async || Json(json!({ "status": "ok" }))))
        .route("/agents/{name}/healthz", get(health))
        .route("/agents/{name}/v1/chat", post(chat))
        .fallback(async || ApiError::no_route())
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn_with_state(app.clone(), hosts::check))
        .with_state(app)
}

/// Whether runs can be given to the agent; it tells nothing else and wants no key.
async fn health(State(app): State<App>, Path(name): Path<String>) -> Response {
    let ready =
        app.control.gateway().route(&name).and_then(|route| route.serving()).is_some_and(|serving| serving.is_ready());
    if ready {
        return Json(json!({ "status": "ok" })).into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "unavailable" }))).into_response()
}

async fn chat(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Body<ChatRequest>, ApiError>,
) -> Result<Response, ApiError> {
    let route = authorized_route(&app, &name, &headers)?;
    let Body(request) = body?;
    let key = headers.get("idempotency-key").map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned());
    let turn = app.control.gateway().turn(route, request, key).await?;
    let replica = turn.answer.replica.and_then(|id| HeaderValue::from_str(&id.to_string()).ok());
    let answer = turn.answer;
    let mut response = Json(ChatResponse {
        thread_id: turn.thread_id,
        run_id: turn.run_id,
        result: answer.result,
        interrupts: answer.interrupts,
        messages: answer.messages,
        values: answer.values,
    })
    .into_response();
    if let Some(replica) = replica {
        response.headers_mut().insert(REPLICA, replica);
    }
    Ok(response)
}
