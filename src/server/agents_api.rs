//! 4121: what applications call. LangGraph's whole API takes its place here.

use super::error::ApiError;
use super::extract::{Body, Caller};
use super::{App, hosts, names};
use crate::api::chat::{ChatRequest, ChatResponse};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use serde_json::json;

/// Says which replica answered.
const REPLICA: HeaderName = HeaderName::from_static("rapidclaw-replica");

pub fn router(app: App) -> Router {
    Router::new()
        .route("/healthz", get(async || Json(json!({ "status": "ok" }))))
        .route("/agents/{name}/healthz", get(health))
        .route("/agents/{name}/v1/chat", post(chat))
        .fallback(async || ApiError::no_route())
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
    Caller(route): Caller,
    headers: HeaderMap,
    Body(request, ..): Body<ChatRequest>,
) -> Result<Response, ApiError> {
    let key = headers.get("idempotency-key").map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned());
    names::check(&request, key.as_deref())?;
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
