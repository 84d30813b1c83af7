//! 4121: what applications call. LangGraph's whole API takes its place here.

use super::error::ApiError;
use super::extract::Caller;
use super::routes::{Call, Routes};
use super::{App, hosts, names};
use crate::api::chat::{ChatRequest, ChatResponse};
use crate::api::control::Health;
use crate::api::routes;
use crate::control::ControlError;
use crate::gateway::route::Route;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::{Router, middleware};
use std::sync::Arc;

/// Says which replica answered.
const REPLICA: HeaderName = HeaderName::from_static("rapidclaw-replica");

type Turn = (StatusCode, HeaderMap, ChatResponse);

pub fn router(app: App) -> Router {
    Routes::new()
        .serve::<routes::GetHealth, _, _>(health)
        .serve::<routes::GetAgentHealth, _, _>(agent_health)
        .serve::<routes::Chat, _, _>(chat)
        .into_router()
        .fallback(async || ApiError::no_route())
        .layer(middleware::from_fn_with_state(Arc::clone(&app.hosts), hosts::check))
        .with_state(app)
}

pub async fn health(_: Call<routes::GetHealth>) -> Result<Health, ApiError> {
    Ok(Health::ok())
}

/// Whether runs can be given to the agent; it tells nothing else and wants no key.
async fn agent_health(call: Call<routes::GetAgentHealth>) -> Result<(StatusCode, HeaderMap, Health), ApiError> {
    let route = call.app.control.gateway().route(&call.path);
    let ready = route.and_then(|route| route.serving()).is_some_and(|serving| serving.is_ready());
    let (status, health) =
        if ready { (StatusCode::OK, Health::ok()) } else { (StatusCode::SERVICE_UNAVAILABLE, Health::unavailable()) };
    Ok((status, HeaderMap::new(), health))
}

async fn chat(call: Call<routes::Chat>) -> Result<Turn, ApiError> {
    let Caller::Agent(route) = call.caller else { return Err(ApiError::no_route()) };
    turn(&call.app, route, &call.headers, call.body).await
}

/// The same over the control API, for the owner of a token.
pub async fn invoke(call: Call<routes::InvokeAgent>) -> Result<Turn, ApiError> {
    let route = call.app.control.gateway().route(&call.path);
    let route = route.ok_or_else(|| ControlError::NoSuchAgent(call.path.clone()))?;
    turn(&call.app, route, &call.headers, call.body).await
}

async fn turn(app: &App, route: Arc<Route>, headers: &HeaderMap, request: ChatRequest) -> Result<Turn, ApiError> {
    let key = headers.get("idempotency-key").map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned());
    names::check(&request, key.as_deref())?;
    let turn = app.control.gateway().turn(route, request, key).await?;
    let mut headers = HeaderMap::new();
    if let Some(replica) = turn.answer.replica.and_then(|id| HeaderValue::from_str(&id.to_string()).ok()) {
        headers.insert(REPLICA, replica);
    }
    let answer = turn.answer;
    let response = ChatResponse {
        thread_id: turn.thread_id,
        run_id: turn.run_id,
        result: answer.result,
        interrupts: answer.interrupts,
        messages: answer.messages,
        values: answer.values,
    };
    Ok((StatusCode::OK, headers, response))
}
