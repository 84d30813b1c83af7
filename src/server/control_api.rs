//! 4120: the control API.

use super::error::ApiError;
use super::extract::{Administrator, Body, Deployer, Operator, Reader};
use super::{App, builds_api, hosts, operations_api, registry_api, versions};
use crate::api::control::{
    AgentStatus, DeployPlan, DeployRequest, DeployResponse, KeyCreated, KeyRequest, KeyView, RollbackRequest,
    RollbackResponse, RolloutView, ServerHealth, ServerInfo, Whoami,
};
use crate::base::telemetry;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router, middleware};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

/// The longest that a watch of a rollout waits for news.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

pub fn router(app: App) -> Router {
    Router::new()
        .route("/healthz", get(async || Json(json!({ "status": "ok" }))))
        .route("/v1/whoami", get(whoami))
        .route("/v1/server/health", get(server_health))
        .route("/v1/agents", get(list))
        .route("/v1/agents/{name}", get(status).delete(destroy))
        .route("/v1/agents/{name}/deploys", post(deploy))
        .route("/v1/agents/{name}/deploys/plan", post(plan))
        .route("/v1/agents/{name}/keys", get(list_keys).post(create_key))
        .route("/v1/agents/{name}/keys/{id}", delete(revoke_key))
        .route("/v1/agents/{name}/rollbacks", post(roll_back))
        .route("/v1/rollouts/{id}", get(rollout))
        .route("/v1/rollouts/{id}/cancel", post(cancel_rollout))
        .merge(operations_api::router())
        .merge(builds_api::router())
        .fallback(async || ApiError::no_route())
        .layer(middleware::from_fn(versions::check))
        .with_state(app.clone())
        .merge(registry_api::router(app.registry.clone()))
        .layer(middleware::from_fn_with_state(app, hosts::check))
}

async fn whoami(State(app): State<App>, Operator(owner): Operator) -> Result<Json<Whoami>, ApiError> {
    let engine = app.control.runtime().engine().await.ok();
    let server = ServerInfo {
        id: app.control.server(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        agents_url: app.control.agents_url().to_owned(),
        pid: std::process::id(),
        engine,
        builds: app.control.builds().is_on(),
    };
    Ok(Json(Whoami { name: owner.name, role: owner.role, server }))
}

async fn server_health(State(app): State<App>, _: Operator) -> Json<ServerHealth> {
    let failing_tasks = app.control.failing_tasks();
    Json(ServerHealth { dropped_log_lines: telemetry::dropped_lines(), failing_tasks })
}

async fn list(State(app): State<App>, _: Reader) -> Result<Json<Vec<AgentStatus>>, ApiError> {
    Ok(Json(app.control.status(None).await?))
}

async fn status(
    State(app): State<App>,
    _: Reader,
    Path(name): Path<String>,
) -> Result<Json<Vec<AgentStatus>>, ApiError> {
    Ok(Json(app.control.status(Some(&name)).await?))
}

async fn destroy(State(app): State<App>, _: Administrator, Path(name): Path<String>) -> Result<StatusCode, ApiError> {
    app.control.destroy(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn deploy(
    State(app): State<App>,
    _: Deployer,
    Path(name): Path<String>,
    Body(request, ..): Body<DeployRequest>,
) -> Result<Json<DeployResponse>, ApiError> {
    Ok(Json(app.control.deploy(&name, request).await?))
}

async fn plan(
    State(app): State<App>,
    _: Deployer,
    Path(name): Path<String>,
    Body(request, ..): Body<DeployRequest>,
) -> Result<Json<DeployPlan>, ApiError> {
    Ok(Json(app.control.plan_deploy(&name, &request).await?))
}

async fn list_keys(
    State(app): State<App>,
    _: Reader,
    Path(name): Path<String>,
) -> Result<Json<Vec<KeyView>>, ApiError> {
    Ok(Json(app.control.list_keys(&name).await?))
}

async fn create_key(
    State(app): State<App>,
    _: Administrator,
    Path(name): Path<String>,
    Body(request, ..): Body<KeyRequest>,
) -> Result<Json<KeyCreated>, ApiError> {
    Ok(Json(app.control.create_key(&name, &request.name).await?))
}

async fn revoke_key(
    State(app): State<App>,
    _: Administrator,
    Path((name, id)): Path<(String, Uuid)>,
) -> Result<StatusCode, ApiError> {
    app.control.revoke_key(&name, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn roll_back(
    State(app): State<App>,
    _: Deployer,
    Path(name): Path<String>,
    Body(request, ..): Body<RollbackRequest>,
) -> Result<Json<RollbackResponse>, ApiError> {
    Ok(Json(app.control.roll_back(&name, request).await?))
}

async fn cancel_rollout(State(app): State<App>, _: Deployer, Path(id): Path<Uuid>) -> Result<StatusCode, ApiError> {
    app.control.cancel_rollout(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Watch {
    #[serde(default)]
    after: i32,
    #[serde(default)]
    wait: u64,
}

async fn rollout(
    State(app): State<App>,
    _: Reader,
    Path(id): Path<Uuid>,
    Query(watch): Query<Watch>,
) -> Result<Json<RolloutView>, ApiError> {
    let wait = Duration::from_secs(watch.wait).min(LONGEST_WAIT);
    Ok(Json(app.control.watch_rollout(id, watch.after, wait).await?))
}
