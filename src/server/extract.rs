//! What handlers take out of requests. Who is asking comes first: no byte of a body is read before that is known.

use super::App;
use super::bodies::Held;
use super::connections::{ConnectionGuard, Owner};
use super::error::ApiError;
use crate::api::problem::Problem;
use crate::control::rights::{Right, allows};
use crate::gateway::KeyOwner;
use crate::gateway::route::Route;
use crate::store::keys::TokenOwner;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::Arc;

/// The largest body of a call to an agent, and of one to the control API.
const AGENT_BODY_BYTES: usize = 16 << 20;
const CONTROL_BODY_BYTES: usize = 8 << 20;

/// The owner of a token of the control API, whatever it allows.
pub struct Operator(pub TokenOwner);

/// The same of a token that allows to look.
pub struct Reader;

/// The same of a token that allows to deploy.
pub struct Deployer;

/// The same of a token that allows everything.
pub struct Administrator;

impl FromRequestParts<App> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let missing = || ApiError::unauthorized("send a token of the control API as a Bearer token");
        let token = bearer(&parts.headers).ok_or_else(missing)?;
        let owner = app.control.authenticate(token).await?.ok_or_else(missing)?;
        own(parts, Owner::Token(owner.name.clone()))?;
        Ok(Self(owner))
    }
}

macro_rules! with_right {
    ($name:ident, $right:expr) => {
        impl FromRequestParts<App> for $name {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
                let Operator(owner) = Operator::from_request_parts(parts, app).await?;
                if allows(&owner.role, $right) { Ok(Self) } else { Err(not_allowed(&owner)) }
            }
        }
    };
}

with_right!(Reader, Right::Read);
with_right!(Deployer, Right::Deploy);
with_right!(Administrator, Right::Administer);

fn not_allowed(owner: &TokenOwner) -> ApiError {
    ApiError::new(
        Problem::new(403, "not-allowed", "the token does not allow this")
            .detail(format!("the token {:?} has the role {:?}", owner.name, owner.role))
            .hint("use a token whose role allows it"),
    )
}

/// The connection is this owner's from now on, and so is the request's body.
fn own(parts: &mut Parts, owner: Owner) -> Result<(), ApiError> {
    if let Some(connection) = parts.extensions.get::<Arc<ConnectionGuard>>() {
        connection.belongs_to(&owner).map_err(|_| {
            let problem = Problem::new(429, "too-many-connections", "there are too many connections at once");
            ApiError::new(problem.hint("use fewer connections, or keep them open for several requests"))
        })?;
    }
    parts.extensions.insert(owner);
    Ok(())
}

/// The bearer token of a request.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get("authorization")?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// The way to the agent that a caller's key opens.
pub struct Caller(pub Arc<Route>);

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let named = Path::<HashMap<String, String>>::from_request_parts(parts, app).await;
        let Path(named) = named.map_err(|_| ApiError::no_route())?;
        let route = authorized_route(app, named.get("name").map_or("", String::as_str), &parts.headers)?;
        own(parts, Owner::Agent(route.agent))?;
        Ok(Self(route))
    }
}

fn authorized_route(app: &App, name: &str, headers: &HeaderMap) -> Result<Arc<Route>, ApiError> {
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

/// A JSON body, whatever its content type says, and its bytes' place in memory. It is read for a known owner alone:
/// an extractor before it has to say who that is.
pub struct Body<T>(pub T, #[expect(dead_code, reason = "held until the handler ends")] pub Held);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let (head, body) = request.into_parts();
        let owner = head.extensions.get::<Owner>().ok_or_else(|| ApiError::unauthorized("send a key"))?;
        let limit = match owner {
            Owner::Agent(_) => AGENT_BODY_BYTES,
            Owner::Token(_) => CONTROL_BODY_BYTES,
        };
        let (bytes, place) = app.bodies.read(owner, &head.headers, body, limit).await?;
        let value = serde_json::from_slice(&bytes).map_err(|error| {
            let status = if error.is_data() { 422 } else { 400 };
            ApiError::new(
                Problem::new(status, "body-invalid", "the body is not what is expected").detail(error.to_string()),
            )
        })?;
        Ok(Self(value, place))
    }
}
