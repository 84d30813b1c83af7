//! How a row of the table of routes (`api/routes.rs`) is served: who calls, whether that may, what the request holds,
//! the handler, the answer. Nothing else in `server/` mounts a route of the two APIs (tests/architecture.rs).

use super::App;
use super::bodies::Held;
use super::connections::Owner;
use super::error::ApiError;
use super::extract::{self, Caller};
use crate::api::payload::{Archive, Empty, Json, Lines, NDJSON, Payload, Reply};
use crate::api::problem::Problem;
use crate::api::routes::{Method, Route};
use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts as _, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, on};
use serde::Serialize;
use std::future::Future;

/// The largest body of a call to an agent, and of one to the control API.
const AGENT_BODY_BYTES: usize = 16 << 20;
const CONTROL_BODY_BYTES: usize = 8 << 20;

/// A request that is allowed.
pub struct Call<R: Route>
where
    R::Request: Received,
{
    /// What handlers share.
    pub app: App,
    /// Who calls.
    pub caller: Caller,
    /// The values of its path.
    pub path: R::Path,
    /// Its query.
    pub query: R::Query,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: <R::Request as Received>::Value,
    /// The body's place in memory, until the handler ends.
    _held: Option<Held>,
}

/// A router to which rows of the table are added.
pub struct Routes(Router<App>);

impl Routes {
    /// None yet.
    pub fn new() -> Self {
        Self(Router::new())
    }

    /// Serves a row of the table by this handler.
    #[must_use]
    pub fn serve<R, H, F>(self, handler: H) -> Self
    where
        R: Route,
        R::Request: Received,
        R::Response: Answer,
        H: Fn(Call<R>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<<R::Response as Answer>::Value, ApiError>> + Send,
    {
        let serve = move |State(app): State<App>, request: Request| {
            let handler = handler.clone();
            async move {
                match receive::<R>(app, request).await {
                    Ok(call) => match handler(call).await {
                        Ok(value) => <R::Response as Answer>::into_response(value),
                        Err(error) => error.into_response(),
                    },
                    Err(error) => error.into_response(),
                }
            }
        };
        Self(self.0.route(R::PATH, on(filter(R::METHOD), serve)))
    }

    /// All of another one's, too.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self(self.0.merge(other.0))
    }

    /// The router.
    pub fn into_router(self) -> Router<App> {
        self.0
    }
}

fn filter(method: Method) -> MethodFilter {
    match method {
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
        Method::Put => MethodFilter::PUT,
        Method::Patch => MethodFilter::PATCH,
        Method::Delete => MethodFilter::DELETE,
    }
}

/// Sees that a request is allowed, then reads it: no byte of its body before.
async fn receive<R: Route>(app: App, request: Request) -> Result<Call<R>, ApiError>
where
    R::Request: Received,
{
    let (mut parts, body) = request.into_parts();
    let caller = extract::authorize::<R>(&app, &mut parts).await?;
    let Path(path) = Path::<R::Path>::from_request_parts(&mut parts, &app).await.map_err(|error| {
        ApiError::new(Problem::new(400, "path-invalid", "the path is not what is expected").detail(error.body_text()))
    })?;
    let Query(query) = Query::<R::Query>::try_from_uri(&parts.uri).map_err(|error| {
        ApiError::new(Problem::new(422, "query-invalid", "the query is not what is expected").detail(error.body_text()))
    })?;
    let (body, held) = R::Request::receive(&app, &caller, &parts.headers, body).await?;
    Ok(Call { app, caller, path, query, headers: parts.headers, body, _held: held })
}

/// A body as its handler gets it.
pub trait Received {
    /// What the handler gets.
    type Value: Send;

    /// Reads it.
    fn receive(
        app: &App,
        caller: &Caller,
        headers: &HeaderMap,
        body: Body,
    ) -> impl Future<Output = Result<(Self::Value, Option<Held>), ApiError>> + Send;
}

impl Received for Empty {
    type Value = ();

    async fn receive(_: &App, _: &Caller, _: &HeaderMap, _: Body) -> Result<((), Option<Held>), ApiError> {
        Ok(((), None))
    }
}

/// The handler reads it.
impl Received for Archive {
    type Value = Body;

    async fn receive(_: &App, _: &Caller, _: &HeaderMap, body: Body) -> Result<(Body, Option<Held>), ApiError> {
        Ok((body, None))
    }
}

/// Whatever its content type says.
impl<T> Received for Json<T>
where
    Self: Payload<Value = T>,
    T: Send,
{
    type Value = T;

    async fn receive(
        app: &App,
        caller: &Caller,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<(T, Option<Held>), ApiError> {
        let owner = caller.owner().ok_or_else(|| ApiError::unauthorized("send a key"))?;
        let limit = match owner {
            Owner::Agent(_) => AGENT_BODY_BYTES,
            Owner::Token(_) => CONTROL_BODY_BYTES,
        };
        let (bytes, held) = app.bodies.read(&owner, headers, body, limit).await?;
        let value = Self::decode(&bytes).map_err(|error| {
            let status = if error.is_data() { 422 } else { 400 };
            ApiError::new(
                Problem::new(status, "body-invalid", "the body is not what is expected").detail(error.to_string()),
            )
        })?;
        Ok((value, Some(held)))
    }
}

/// An answer as its handler gives it.
pub trait Answer {
    /// What the handler gives.
    type Value;

    /// On its way out.
    fn into_response(value: Self::Value) -> Response;
}

impl Answer for Empty {
    type Value = ();

    fn into_response((): ()) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

impl<T: Serialize> Answer for Json<T> {
    type Value = T;

    fn into_response(value: T) -> Response {
        axum::Json(value).into_response()
    }
}

impl<T: Serialize> Answer for Reply<T> {
    type Value = (StatusCode, HeaderMap, T);

    fn into_response((status, headers, value): (StatusCode, HeaderMap, T)) -> Response {
        (status, headers, axum::Json(value)).into_response()
    }
}

impl<T> Answer for Lines<T> {
    type Value = Body;

    fn into_response(body: Body) -> Response {
        ([(header::CONTENT_TYPE, NDJSON), (header::CACHE_CONTROL, "no-store")], body).into_response()
    }
}
