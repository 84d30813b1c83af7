//! Errors on the wire: problem JSON, logged once, here, and without anything internal in a 5xx.

use crate::api::problem::{DATABASE_AWAY, ENGINE_AWAY, MEDIA_TYPE, Problem};
use crate::base::{disk, ids};
use crate::control::tokens::TokenError;
use crate::control::{ControlError, SettingsError};
use crate::gateway::committer::chain;
use crate::gateway::outcome::Outcome;
use crate::gateway::route::ChatGraphError;
use crate::gateway::state_size::StateSize;
use crate::gateway::turn::TurnError;
use crate::registry::RegistryError;
use crate::runtime::RuntimeError;
use crate::store::StoreError;
use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;

/// A problem on its way out.
#[derive(Debug)]
pub struct ApiError(pub Box<Problem>);

impl ApiError {
    /// A problem.
    pub fn new(problem: Problem) -> Self {
        Self(Box::new(problem))
    }

    /// No key or token, or one that opens nothing.
    pub fn unauthorized(what: &str) -> Self {
        Self::new(Problem::new(401, "not-authenticated", "a valid key is needed").detail(what))
    }

    /// No such route.
    pub fn no_route() -> Self {
        Self::new(Problem::new(404, "no-such-route", "there is nothing at this address"))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        let mut problem = *self.0;
        if problem.status >= 500 {
            problem.request_id.get_or_insert_with(ids::new_id);
        }
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // Whoever is over its share tries again on a connection that there is room for.
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

/// Something that the server needs is away for a moment: logged, and told as what may be tried again.
fn away(code: &str, title: &str, error: &(dyn std::error::Error + 'static)) -> Problem {
    tracing::warn!(error = %chain(error), "{title}");
    Problem::new(503, code, title).hint("try again in a few seconds; the server's log says more")
}

fn database_away(error: &StoreError) -> Problem {
    if error.is_disk_full() {
        tracing::error!(error = %chain(error), "the disk of the server's database is full");
        return disk_full("the disk of the server's database is full");
    }
    away(DATABASE_AWAY, "the server's database is away for a moment", error)
}

fn disk_full(title: &str) -> Problem {
    Problem::new(507, "disk-full", title).hint("make room on that disk (`df -h` on the server), then try again")
}

/// A failure of ours: logged with its causes, told without them.
pub(super) fn internal(code: &str, title: &str, error: &(dyn std::error::Error + 'static)) -> Problem {
    let request_id = ids::new_id();
    tracing::error!(%request_id, error = %chain(error), "{title}");
    let mut problem = Problem::new(500, code, title).hint("the server's log says more under this request_id");
    problem.request_id = Some(request_id);
    problem
}

/// The problem of a control plane whose store did not do what it was asked for.
fn of_store(cause: &StoreError, error: &ControlError) -> Problem {
    match cause {
        StoreError::RolloutUnderWay => Problem::new(409, "rollout-under-way", "a rollout of this agent is under way")
            .hint("wait until it has ended, then deploy again"),
        StoreError::SecretsChanged => {
            Problem::new(409, "secrets-changed", "the agent's secrets are being changed by others at the same time")
                .hint("try again")
        }
        StoreError::BeingDestroyed => Problem::new(409, "being-destroyed", "an agent of this name is being destroyed")
            .hint("wait until its replicas have ended, then deploy again"),
        cause if cause.is_passing() => database_away(cause),
        _ => internal("database", "the database failed", error),
    }
}

/// The problem of a control plane whose Docker Engine did not do what it was asked for.
fn of_runtime(cause: &RuntimeError, error: &ControlError) -> Problem {
    match cause {
        RuntimeError::Unreachable(_) => away(ENGINE_AWAY, "the server's Docker Engine cannot be reached", cause),
        RuntimeError::Refused { source, .. } if disk::says_full(&source.to_string()) => {
            tracing::error!(error = %chain(error), "the disk of the server's Docker Engine is full");
            disk_full("the disk of the server's Docker Engine is full").hint(
                "`docker system df` on the server shows what takes the room, `docker image prune` takes away unused images",
            )
        }
        _ => internal("runtime", "the server's Docker Engine failed", error),
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        let text = error.to_string();
        Self::new(match &error {
            ControlError::NoSuchAgent(_) => Problem::new(404, "no-such-agent", "there is no such agent")
                .detail(text)
                .hint("`rapidclaw status` lists the agents"),
            ControlError::NoSuchRollout(_) => {
                Problem::new(404, "no-such-rollout", "there is no such rollout").detail(text)
            }
            ControlError::NoSuchRelease { .. } => {
                Problem::new(404, "no-such-release", "there is nothing to go back to")
                    .detail(text)
                    .hint("`rapidclaw releases` lists the releases")
            }
            ControlError::Serves { .. } => Problem::new(409, "release-serves", "that release serves").detail(text),
            ControlError::ImageGone { .. } => Problem::new(409, "image-gone", "the release cannot be started again")
                .detail(text)
                .hint("check its source revision out and deploy it"),
            ControlError::RolloutEnded(_) => Problem::new(409, "rollout-ended", "the rollout has ended").detail(text),
            ControlError::NoSuchKey { .. } => Problem::new(404, "no-such-key", "there is no such key").detail(text),
            ControlError::Token(error) => token_problem(error).detail(text),
            ControlError::NoSuchRun(_) => Problem::new(404, "no-such-run", "there is no such run").detail(text),
            ControlError::NoSuchThread { agent, .. } => Problem::new(404, "no-such-thread", "there is no such thread")
                .detail(text)
                .hint(format!("`rapidclaw threads {agent}` lists those that ran last")),
            ControlError::NoSuchStatus(_) | ControlError::Time(_) | ControlError::Query(_) => {
                Problem::new(422, "query-invalid", "the query is not what is expected").detail(text)
            }
            ControlError::NothingServes(agent) => Problem::new(409, "nothing-serves", "nothing of the agent serves")
                .detail(text)
                .hint(format!("`rapidclaw status {agent}` says why; deploy it first")),
            ControlError::ScaleTooLarge { .. } => {
                Problem::new(422, "scale-too-large", "the manifest does not allow so many replicas")
                    .detail(text)
                    .hint("raise rapidclaw.max_replicas in the manifest and deploy it, then scale again")
            }
            ControlError::NoSuchSecret { agent, .. } => Problem::new(404, "no-such-secret", "there is no such secret")
                .detail(text)
                .hint(format!("`rapidclaw secrets list {agent}` lists them; `secrets set` adds one")),
            ControlError::Stopped => Problem::new(503, "server-stopped", "the server stopped before it was done")
                .hint("try again when the server is back"),
            ControlError::SecretName(_) | ControlError::SecretValue(_) => {
                Problem::new(422, "secret-invalid", "an environment variable cannot hold the secret").detail(text)
            }
            ControlError::Settings(SettingsError::Models(cause)) => {
                Problem::new(422, "secrets-and-egress", "the agent's secrets do not fit its egress rules")
                    .detail(chain(cause))
            }
            ControlError::Settings(cause) => {
                Problem::new(422, "manifest-invalid", "the server does not accept this manifest").detail(chain(cause))
            }
            ControlError::NotPushed { .. } => {
                Problem::new(422, "not-pushed", "the image has not come whole").detail(text).hint("deploy again")
            }
            ControlError::Registry(RegistryError::Full) => Problem::new(507, "disk-full", "the server's disk is full")
                .hint("make room on the disk of the server's data folder, then try again"),
            ControlError::Logs(_) => internal("logs", "the kept logs cannot be read", &error),
            ControlError::Registry(_) => internal("registry", "the registry failed", &error),
            ControlError::Build(error) => super::builds_api::problem(error),
            ControlError::NoImage(_) => {
                Problem::new(422, "no-such-image", "the image is not in the server's Docker Engine")
                    .detail(text)
                    .hint("deploy with a rapidclaw of the server's version: it moves the image")
            }
            ControlError::Architecture { .. } => {
                Problem::new(422, "image-architecture", "the image is for another processor").detail(text).hint(
                    "build it on a base image for the engine's processor: --base-image, or base_image in the manifest",
                )
            }
            ControlError::TakesLonger(_) => Problem::new(504, "takes-longer", "it takes longer").detail(text),
            ControlError::Store(cause) => of_store(cause, &error),
            ControlError::Database(cause) if cause.is_passing() => database_away(cause),
            ControlError::Database(_) => {
                internal("agent-database", "the agent's own database could not be made", &error).hint(
                    "in a Postgres of yours the server's role needs CREATEDB and CREATEROLE; the server's log has more",
                )
            }
            ControlError::Runtime(cause) => of_runtime(cause, &error),
            ControlError::Secret(_) => internal("secrets", "the agent's secrets could not be used", &error),
        })
    }
}

/// Why no token is created or revoked.
fn token_problem(error: &TokenError) -> Problem {
    match error {
        TokenError::Name(_) | TokenError::AdminName | TokenError::Scope(_) | TokenError::Expiry => {
            Problem::new(422, "token-invalid", "the token cannot be created")
        }
        TokenError::NameTaken(_) => Problem::new(409, "token-exists", "there is a token of this name")
            .hint("revoke it first (`rapidclaw tokens revoke NAME`), or take another name"),
        TokenError::MoreThanOwn(_) => Problem::new(403, "not-allowed", "the token does not allow this")
            .hint("give the new token no other agents and no later end than your own (`rapidclaw whoami`)"),
        TokenError::NotFound(_) => {
            Problem::new(404, "no-such-token", "there is no such token").hint("`rapidclaw tokens list` lists them")
        }
        TokenError::Administrator => {
            Problem::new(409, "administrator-token", "the administrator's token is not revoked like others").hint(
                "to replace it, remove admin-token in the server's data folder and run `rapidclaw server restart`",
            )
        }
    }
}

/// The problem of a run that failed; `code` where its request did not fit the thread.
fn failed(code: Option<&str>) -> Problem {
    match code {
        Some(code @ "several-interrupts") => Problem::new(409, code, "the thread waits for several answers")
            .hint("answer with `resume`: a map by interrupt id"),
        Some(code @ "no-such-interrupt") => Problem::new(409, code, "no such interrupt is open on the thread"),
        Some(code @ "nothing-to-resume") => {
            Problem::new(409, code, "the thread waits for no answer").hint("begin a turn with `message` or `input`")
        }
        Some(code @ "graph-not-chat") => Problem::new(422, code, "the graph cannot be talked to"),
        _ => Problem::new(500, "run-failed", "the run failed"),
    }
}

impl From<TurnError> for ApiError {
    fn from(error: TurnError) -> Self {
        let text = error.to_string();
        Self::new(match error {
            TurnError::Field(_) => Problem::new(422, "field-invalid", "the body is not a chat request").detail(text),
            TurnError::Graph(ChatGraphError::Choice(_)) => {
                Problem::new(422, "graph-not-named", "name one of the agent's graphs in `graph`").detail(text)
            }
            TurnError::Graph(_) => Problem::new(422, "graph-not-chat", "the graph cannot be talked to").detail(text),
            TurnError::NotReady => Problem::new(503, "not-ready", "no replica of the agent is ready"),
            TurnError::InDoubt { run_id } => {
                tracing::warn!(%run_id, "{text}");
                let mut problem =
                    Problem::new(503, "acceptance-unknown", "it is not known whether the run was accepted")
                        .detail(text)
                        .hint("repeat the request with the same Idempotency-Key; without one, it may be made twice");
                problem.run_id = Some(run_id);
                problem
            }
            TurnError::ServerStopped { run_id } => {
                let mut problem =
                    Problem::new(503, "server-stopped", "the server stops; the run goes on when it is back")
                        .hint("repeat the request with the same Idempotency-Key to get the run's answer");
                problem.run_id = Some(run_id);
                problem
            }
            TurnError::KeyReused => {
                Problem::new(422, "idempotency-key-reused", "the key belongs to another request").detail(text)
            }
            TurnError::Store(StoreError::QueueFull(limit)) => {
                Problem::new(429, "queue-full", "too many runs of the agent wait")
                    .detail(format!("{limit} runs wait for a replica, as many as `limits.queue` allows"))
                    .hint("try again when some have ended; or raise limits.queue, min_replicas or runs_per_replica")
            }
            TurnError::Store(cause) if cause.is_passing() => database_away(&cause),
            TurnError::Store(_) => internal("database", "the run could not be accepted", &error),
            TurnError::Failed { thread_id, run_id, outcome } => {
                let mut problem = match outcome.as_ref() {
                    Outcome::TimedOut => Problem::new(504, "run-timeout", "the run took longer than its run_timeout"),
                    Outcome::Fault(fault) => {
                        let mut problem = if fault.kind == StateSize::FAULT {
                            Problem::new(422, "state-too-large", "the thread's state is larger than the agent may keep")
                                .hint("keep less in the graph's state; or raise limits.state_bytes")
                        } else {
                            failed(fault.code.as_deref())
                        };
                        problem.detail = fault.message.clone().unwrap_or_default();
                        problem.error = Some(fault.clone());
                        problem
                    }
                    Outcome::Answer(_) => Problem::new(500, "run-failed", "the run failed"),
                };
                problem.thread_id = Some(thread_id);
                problem.run_id = Some(run_id);
                problem
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_says_when_to_come_again() {
        let response = ApiError::from(TurnError::Store(StoreError::QueueFull(1000))).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "5");
    }
}
