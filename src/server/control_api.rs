//! 4120: the control API.

use super::error::ApiError;
use super::routes::{Call, Routes};
use super::{App, agents_api, builds_api, hosts, operations_api, registry_api, versions};
use crate::api::control::{
    AgentStatus, DeployPlan, DeployResponse, KeyCreated, KeyView, RollbackResponse, RolloutView, ServerHealth,
    ServerInfo, Whoami,
};
use crate::api::tokens::{TokenCreated, TokenView};
use crate::api::{openapi, routes};
use crate::base::telemetry;
use axum::{Router, middleware};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// The longest that a watch of a rollout waits for news.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

pub fn router(app: App) -> Router {
    let (registry, known) = (app.registry.clone(), Arc::clone(&app.hosts));
    Routes::new()
        .serve::<routes::GetHealth, _, _>(agents_api::health)
        .serve::<routes::GetOpenApi, _, _>(describe)
        .serve::<routes::GetWhoami, _, _>(whoami)
        .serve::<routes::GetServerHealth, _, _>(server_health)
        .serve::<routes::ListAgents, _, _>(list)
        .serve::<routes::GetAgent, _, _>(status)
        .serve::<routes::DestroyAgent, _, _>(destroy)
        .serve::<routes::DeployAgent, _, _>(deploy)
        .serve::<routes::PlanDeploy, _, _>(plan)
        .serve::<routes::RollBack, _, _>(roll_back)
        .serve::<routes::GetRollout, _, _>(rollout)
        .serve::<routes::CancelRollout, _, _>(cancel_rollout)
        .serve::<routes::ListKeys, _, _>(list_keys)
        .serve::<routes::CreateKey, _, _>(create_key)
        .serve::<routes::RevokeKey, _, _>(revoke_key)
        .serve::<routes::ListTokens, _, _>(list_tokens)
        .serve::<routes::CreateToken, _, _>(create_token)
        .serve::<routes::RevokeToken, _, _>(revoke_token)
        .serve::<routes::InvokeAgent, _, _>(agents_api::invoke)
        .merge(operations_api::routes())
        .merge(builds_api::routes())
        .into_router()
        .fallback(async || ApiError::no_route())
        .layer(middleware::from_fn(versions::check))
        .with_state(app)
        .merge(registry_api::router(registry))
        .layer(middleware::from_fn_with_state(known, hosts::check))
}

async fn describe(call: Call<routes::GetOpenApi>) -> Result<Value, ApiError> {
    Ok(openapi::document(call.app.control.agents_url()))
}

async fn whoami(call: Call<routes::GetWhoami>) -> Result<Whoami, ApiError> {
    let (control, owner) = (&call.app.control, call.caller.token()?);
    let engine = control.runtime().engine().await.ok();
    let server = ServerInfo {
        id: control.server(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        agents_url: control.agents_url().to_owned(),
        pid: std::process::id(),
        engine,
        builds: control.builds().is_on(),
    };
    Ok(Whoami {
        name: owner.name.clone(),
        role: owner.role.clone(),
        scope: owner.scope().cloned(),
        expires_at: owner.expires_at.clone(),
        server,
    })
}

async fn server_health(call: Call<routes::GetServerHealth>) -> Result<ServerHealth, ApiError> {
    let owner = call.caller.token()?;
    // Names of tasks hold names of agents.
    let failing_tasks = match owner.scope() {
        Some(scope) => call.app.control.failing_tasks_of(&scope.agents),
        None => call.app.control.failing_tasks(),
    };
    Ok(ServerHealth { dropped_log_lines: telemetry::dropped_lines(), failing_tasks })
}

async fn list(call: Call<routes::ListAgents>) -> Result<Vec<AgentStatus>, ApiError> {
    let mut agents = call.app.control.status(None).await?;
    agents.retain(|agent| call.caller.sees(&agent.name));
    Ok(agents)
}

async fn status(call: Call<routes::GetAgent>) -> Result<Vec<AgentStatus>, ApiError> {
    Ok(call.app.control.status(Some(&call.path)).await?)
}

async fn destroy(call: Call<routes::DestroyAgent>) -> Result<(), ApiError> {
    Ok(call.app.control.destroy(&call.path).await?)
}

async fn deploy(call: Call<routes::DeployAgent>) -> Result<DeployResponse, ApiError> {
    Ok(call.app.control.deploy(&call.path, call.body).await?)
}

async fn plan(call: Call<routes::PlanDeploy>) -> Result<DeployPlan, ApiError> {
    Ok(call.app.control.plan_deploy(&call.path, &call.body).await?)
}

async fn list_keys(call: Call<routes::ListKeys>) -> Result<Vec<KeyView>, ApiError> {
    Ok(call.app.control.list_keys(&call.path).await?)
}

async fn create_key(call: Call<routes::CreateKey>) -> Result<KeyCreated, ApiError> {
    Ok(call.app.control.create_key(&call.path, &call.body.name).await?)
}

async fn revoke_key(call: Call<routes::RevokeKey>) -> Result<(), ApiError> {
    let (name, id) = call.path;
    Ok(call.app.control.revoke_key(&name, id).await?)
}

async fn list_tokens(call: Call<routes::ListTokens>) -> Result<Vec<TokenView>, ApiError> {
    Ok(call.app.control.list_tokens(call.caller.token()?).await?)
}

async fn create_token(call: Call<routes::CreateToken>) -> Result<TokenCreated, ApiError> {
    Ok(call.app.control.create_token(call.caller.token()?, call.body).await?)
}

async fn revoke_token(call: Call<routes::RevokeToken>) -> Result<(), ApiError> {
    Ok(call.app.control.revoke_token(call.caller.token()?, call.path).await?)
}

async fn roll_back(call: Call<routes::RollBack>) -> Result<RollbackResponse, ApiError> {
    Ok(call.app.control.roll_back(&call.path, call.body).await?)
}

async fn cancel_rollout(call: Call<routes::CancelRollout>) -> Result<(), ApiError> {
    Ok(call.app.control.cancel_rollout(call.path).await?)
}

async fn rollout(call: Call<routes::GetRollout>) -> Result<RolloutView, ApiError> {
    let wait = Duration::from_secs(call.query.wait).min(LONGEST_WAIT);
    Ok(call.app.control.watch_rollout(call.path, call.query.after, wait).await?)
}
