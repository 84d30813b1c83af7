//! Who calls, and whether that may: decided before a byte of a body is read.

use super::App;
use super::connections::{ConnectionGuard, Owner};
use super::error::ApiError;
use crate::api::access::Permission;
use crate::api::problem::Problem;
use crate::api::routes::{self, Subject};
use crate::api::tokens::TokenState;
use crate::control::ControlError;
use crate::gateway::KeyOwner;
use crate::gateway::route::Route;
use crate::store::tokens::TokenOwner;
use axum::extract::{FromRequestParts as _, RawPathParams};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use std::sync::Arc;
use uuid::Uuid;

/// Who calls.
pub enum Caller {
    /// Nobody has been asked.
    Anybody,
    /// The owner of a token of the control API.
    Token(TokenOwner),
    /// An application with a key of the agent, and the way there.
    Agent(Arc<Route>),
}

impl Caller {
    /// Whose share of connections and memory the request takes.
    pub fn owner(&self) -> Option<Owner> {
        match self {
            Self::Anybody => None,
            Self::Token(owner) => Some(Owner::Token(owner.name.clone())),
            Self::Agent(route) => Some(Owner::Agent(route.agent)),
        }
    }

    /// The token's owner.
    pub fn token(&self) -> Result<&TokenOwner, ApiError> {
        match self {
            Self::Token(owner) => Ok(owner),
            Self::Anybody | Self::Agent(_) => Err(missing()),
        }
    }

    /// Whether it sees the agent.
    pub fn sees(&self, agent: &str) -> bool {
        matches!(self, Self::Token(owner) if owner.reaches(agent))
    }
}

/// Sees that a request may have what the route's row asks for.
pub async fn authorize<R: routes::Route>(app: &App, head: &mut Parts) -> Result<Caller, ApiError> {
    let caller = match R::PERMISSION {
        Permission::Public => return Ok(Caller::Anybody),
        Permission::AgentKey => Caller::Agent(agent_of_key(app, &subject(head, app).await, &head.headers)?),
        Permission::Token | Permission::View | Permission::Invoke | Permission::Deploy | Permission::Admin => {
            let owner = owner_of_token(app, &head.headers).await?;
            if !owner.allows(R::PERMISSION) {
                return Err(not_allowed(&owner, R::PERMISSION));
            }
            Caller::Token(owner)
        }
    };
    if let (Some(connection), Some(owner)) = (head.extensions.get::<Arc<ConnectionGuard>>(), caller.owner()) {
        connection.belongs_to(&owner).map_err(|_| {
            let problem = Problem::new(429, "too-many-connections", "there are too many connections at once");
            ApiError::new(problem.hint("use fewer connections, or keep them open for several requests"))
        })?;
    }
    if let Caller::Token(owner) = &caller
        && owner.scope().is_some()
    {
        in_scope(app, owner, R::SUBJECT, &subject(head, app).await).await?;
    }
    Ok(caller)
}

/// Of what a token does not reach it learns no more than that it is not there.
async fn in_scope(app: &App, owner: &TokenOwner, subject: Subject, named: &str) -> Result<(), ApiError> {
    // What cannot be an id is refused where the path is read.
    let id = Uuid::try_parse(named).unwrap_or_default();
    let (agent, missing) = match subject {
        Subject::Server => return Ok(()),
        Subject::Agent => (Some(named.to_owned()), ControlError::NoSuchAgent(named.to_owned())),
        Subject::Rollout => (app.control.agent_of_rollout(id).await?, ControlError::NoSuchRollout(id)),
        Subject::Run => (app.control.agent_of_run(id).await?, ControlError::NoSuchRun(id)),
    };
    if agent.is_some_and(|agent| owner.reaches(&agent)) { Ok(()) } else { Err(missing.into()) }
}

/// The first value of the path, which names what the route is about.
async fn subject(head: &mut Parts, app: &App) -> String {
    let values = RawPathParams::from_request_parts(head, app).await;
    values.ok().and_then(|values| values.iter().next().map(|(_, value)| value.to_owned())).unwrap_or_default()
}

fn missing() -> ApiError {
    ApiError::unauthorized("send a token of the control API as a Bearer token")
}

async fn owner_of_token(app: &App, headers: &HeaderMap) -> Result<TokenOwner, ApiError> {
    let token = bearer(headers).ok_or_else(missing)?;
    let owner = app.control.tokens().find(token).await.map_err(ControlError::from)?.ok_or_else(missing)?;
    match owner.state {
        TokenState::Active => Ok(owner),
        // Only who has the token learns what became of it.
        TokenState::Expired => Err(ApiError::new(
            Problem::new(401, "token-expired", "the token has expired")
                .detail(format!("the token {:?} expired at {}", owner.name, owner.expires_at.unwrap_or_default()))
                .hint("an administrator makes another one: `rapidclaw tokens create`"),
        )),
        TokenState::Revoked => Err(ApiError::new(
            Problem::new(401, "token-revoked", "the token was revoked")
                .detail(format!("its name is {:?}", owner.name))
                .hint("an administrator makes another one: `rapidclaw tokens create`"),
        )),
    }
}

fn not_allowed(owner: &TokenOwner, permission: Permission) -> ApiError {
    let detail = format!(
        "the token {:?} has the role {:?}, and this needs the permission {:?}",
        owner.name,
        owner.role,
        permission.as_str()
    );
    ApiError::new(
        Problem::new(403, "not-allowed", "the token does not allow this")
            .detail(detail)
            .hint("use a token whose role allows it"),
    )
}

/// The bearer token of a request.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get("authorization")?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn agent_of_key(app: &App, name: &str, headers: &HeaderMap) -> Result<Arc<Route>, ApiError> {
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
