//! The server side of one replica's `models.sock`.

use crate::base::open_connections::OpenConnections;
use crate::base::open_files;
use crate::base::serve::{self, Timeouts};
use crate::base::shutdown::Shutdown;
use crate::models::Defaults;
use crate::models::clients::Clients;
use crate::models::headers;
use crate::models::provider::Provider;
use crate::models::refusal::Refusal;
use crate::models::route::{Credential, Route, Way};
use crate::models::upstream::Upstream;
use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::{BodyDataStream, Limited};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a replica's connection may take. Clients keep theirs open between calls; models think for long, and so may
/// who reads their answer.
const TIMEOUTS: Timeouts = Timeouts { head: Duration::from_mins(2), write: Duration::from_mins(5) };

#[derive(Clone)]
struct Gateway {
    route: Arc<Route>,
    clients: Arc<Clients>,
}

/// One replica's socket.
struct Door {
    listener: UnixListener,
    app: Router,
    places: Arc<Semaphore>,
    open: OpenConnections,
    shutdown: Shutdown,
}

/// Serves one replica's socket until `shutdown` is cancelled (give it a [`Shutdown::child`] that ends with
/// the replica); then no request is taken any more, and those under way are answered to their end. Once another
/// server has taken over, each answer tells its client to close.
pub fn serve(
    listener: UnixListener,
    route: Arc<Route>,
    clients: Arc<Clients>,
    open: &OpenConnections,
    shutdown: &Shutdown,
) {
    let name = format!("model calls of {} of {}", route.replica, route.agent);
    let app = Router::new().fallback(answer).with_state(Gateway { route, clients });
    let door = Arc::new(Door {
        listener,
        app: serve::closing(app, open.leaving().clone()),
        places: Arc::new(Semaphore::new(open_files::of_one_replica(Defaults::CONNECTIONS))),
        open: open.clone(),
        shutdown: shutdown.clone(),
    });
    shutdown.supervise(name, move || accept(Arc::clone(&door)));
}

async fn accept(door: Arc<Door>) {
    loop {
        // One more than its share waits in the socket's queue.
        match next(&door.listener, &door.places).await {
            Ok((stream, place)) => {
                // All replicas together have as many as they may: the replica's client tries again.
                let Some(one_of_all) = open_files::replica_connection() else { continue };
                let end = door.shutdown.token().clone();
                let connection = serve::connection(stream, door.app.clone(), TIMEOUTS, end, |_| ());
                door.shutdown.spawn(door.open.track(async move {
                    connection.await;
                    drop((place, one_of_all));
                }));
            }
            Err(error) => {
                tracing::warn!(%error, "a model socket cannot accept");
                tokio::time::sleep(Defaults::ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn next(
    listener: &UnixListener,
    places: &Arc<Semaphore>,
) -> io::Result<(UnixStream, Option<OwnedSemaphorePermit>)> {
    let place = Arc::clone(places).acquire_owned().await.ok();
    listener.accept().await.map(|(stream, _)| (stream, place))
}

async fn answer(State(gateway): State<Gateway>, request: Request) -> Response<Body> {
    let Some((provider, rest)) = called(request.uri().path()) else {
        let message = "the model gateway serves /openai/v1/... and /anthropic/...";
        return Refusal::new(StatusCode::NOT_FOUND, "no_such_provider", message).problem();
    };
    let rest = rest.to_owned();
    match pass(&gateway, provider, &rest, request).await {
        Ok(response) => response,
        Err(refusal) => {
            if refusal.status.is_server_error() {
                let Route { agent, replica, .. } = &*gateway.route;
                tracing::warn!(agent, replica, %provider, reason = refusal.message, "model call failed");
            }
            refusal.response(provider)
        }
    }
}

/// The provider that a path names, and what stands after its prefix.
fn called(path: &str) -> Option<(Provider, &str)> {
    Provider::ALL.into_iter().find_map(|provider| {
        let rest = path.strip_prefix(provider.path())?;
        (rest.is_empty() || rest.starts_with('/')).then_some((provider, rest))
    })
}

async fn pass(gateway: &Gateway, provider: Provider, rest: &str, request: Request) -> Result<Response<Body>, Refusal> {
    let (upstream, credential) = match gateway.route.way(provider) {
        Way::Open { upstream, credential } => (upstream, credential),
        Way::Closed(hint) => return Err(Refusal::new(StatusCode::UNAUTHORIZED, "no_key", hint.as_str())),
    };
    if !gateway.route.admits(request.headers()) {
        let message = format!("not this replica's key: {} in the environment is the one to use", provider.key_name());
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message));
    }
    let outgoing = outgoing(upstream, credential, rest, request, &gateway.clients)?;
    match outgoing.send().await {
        Ok(response) => Ok(incoming(response)),
        Err(error) => Err(Refusal::upstream(&error, &upstream.host().to_string())),
    }
}

fn outgoing(
    upstream: &Upstream,
    credential: &Credential,
    rest: &str,
    request: Request,
    clients: &Clients,
) -> Result<reqwest::RequestBuilder, Refusal> {
    let (head, body) = request.into_parts();
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        let message = format!("{} is not passed on", head.method);
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message));
    }
    let Some(url) = upstream.join(rest, head.uri.query()) else {
        let message = "the path leaves the provider's base URL";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "bad_path", message));
    };
    if declared_bytes(&head.headers) > Defaults::BODY_BYTES {
        return Err(Refusal::too_large());
    }
    let internal = |message| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "gateway", message);
    let mut fields = headers::upstream(head.headers);
    if !credential.apply(&mut fields) {
        return Err(internal("the provider's key cannot stand in a header"));
    }
    let client = clients.client(upstream).map_err(|_| internal("no HTTP client can be made"))?;
    let outgoing = client.request(head.method, url).headers(fields);
    if body.is_end_stream() {
        return Ok(outgoing);
    }
    // The Content-Length among the headers frames it; a body without one goes out chunked.
    let limit = usize::try_from(Defaults::BODY_BYTES).unwrap_or(usize::MAX);
    Ok(outgoing.body(reqwest::Body::wrap_stream(BodyDataStream::new(Limited::new(body, limit)))))
}

fn declared_bytes(headers: &HeaderMap) -> u64 {
    let text = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The upstream's answer as it comes, piece by piece. Dropped by a client that goes away, it ends the upstream's
/// connection with it.
fn incoming(mut answer: reqwest::Response) -> Response<Body> {
    let status = answer.status();
    let mut fields = std::mem::take(answer.headers_mut());
    headers::remove_hop_by_hop(&mut fields);
    let mut response = Response::new(Body::from_stream(answer.bytes_stream()));
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    response
}
