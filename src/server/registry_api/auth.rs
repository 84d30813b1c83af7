//! Who may: a token of the control API is the password of any user name, or the Bearer token itself. Docker's
//! login gets a short-lived token for it (docs.docker.com/reference/api/registry/auth).

use super::app::RegistryApp;
use super::error::Fault;
use super::wire::parameters;
use crate::api::access::Permission;
use crate::api::tokens::TokenState;
use crate::registry::RegistryError;
use crate::registry::names::Repository;
use crate::registry::path::Target;
use crate::registry::token::{self, Access, Claims, LIFETIME};
use crate::server::connections::{self, ConnectionGuard};
use crate::server::extract::bearer;
use crate::store::tokens::TokenOwner;
use axum::Json;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use std::sync::Arc;
use std::time::SystemTime;

/// Where passwords are changed for tokens.
pub const TOKEN_PATH: &str = "/v2/token";
const SERVICE: &str = "rapidclaw";
const LOG_IN: &str = "log in with any user name and a token of the control API as the password";
/// The kind of scopes that are about a repository.
const REPOSITORY: &str = "repository";
/// Of how much a token speaks at most.
const SCOPES: usize = 32;

/// Who asks, and what the login opens.
pub struct Visitor {
    owner: TokenOwner,
    /// Of a token that was made for some scopes; a password opens what its role does.
    access: Option<Vec<Access>>,
}

impl Visitor {
    /// Whether its owner's role allows it, and its token as well.
    fn may(&self, kind: &str, name: &str, action: &str) -> bool {
        self.owner.allows(permission(action))
            && self.access.as_ref().is_none_or(|access| access.iter().any(|one| one.allows(kind, name, action)))
    }

    /// Whether it may take what is in a repository.
    pub fn may_pull(&self, name: &Repository) -> bool {
        self.reaches(name) && self.may(REPOSITORY, name.as_str(), "pull")
    }

    /// Whether its owner's scope has the repository: that of one of its agents.
    pub fn reaches(&self, name: &Repository) -> bool {
        reaches(&self.owner, name)
    }
}

fn reaches(owner: &TokenOwner, name: &Repository) -> bool {
    let Some(grant) = &owner.grant else { return false };
    let Some(scope) = &grant.scope else { return true };
    scope.agents.iter().any(|agent| Repository::of_agent(agent).as_ref() == Some(name))
}

/// What a role has to allow for an action of a scope.
fn permission(action: &str) -> Permission {
    match action {
        "pull" => Permission::View,
        "push" => Permission::Deploy,
        _ => Permission::Admin,
    }
}

/// Sees that the request is allowed; else says where to log in, and for what. No byte of its body has been read.
pub async fn check(app: &RegistryApp, head: &Parts, target: Option<&Target>) -> Result<Visitor, Fault> {
    let known = match bearer(&head.headers) {
        Some(given) => match token::read(&app.key, given, SystemTime::now()) {
            Some(Claims { owner, access, .. }) => {
                app.tokens.find_by_id(owner).await?.map(|owner| Visitor { owner, access: Some(access) })
            }
            None => by_password(app, given).await?,
        },
        None => by_basic(app, &head.headers).await?,
    };
    let wanted = target.map(|target| wanted(target, &head.method));
    let challenge = || {
        let scope = wanted.map_or_else(String::new, |Wanted { kind, name, actions, .. }| {
            format!(",scope=\"{kind}:{name}:{actions}\"")
        });
        let realm = realm(app, &head.headers);
        format!("Bearer realm=\"{realm}\",service=\"{SERVICE}\"{scope}")
    };
    let Some(visitor) = known else { return Err(unauthorized(LOG_IN, challenge())) };
    works(&visitor.owner).map_err(|why| unauthorized(why, challenge()))?;
    if let Some(connection) = head.extensions.get::<Arc<ConnectionGuard>>() {
        let own = connection.belongs_to(&connections::Owner::Token(visitor.owner.name.clone()));
        own.map_err(|_| {
            let why = "there are too many connections at once";
            Fault::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", why).header(header::RETRY_AFTER, "5")
        })?;
    }
    let Some(Wanted { kind, name, actions, repository }) = wanted else { return Ok(visitor) };
    // Of `*` one is enough.
    let actions = if actions == "*" { "pull" } else { actions };
    let refused = actions.split(',').find(|action| !visitor.may(kind, name, action));
    if let Some(action) = refused.filter(|action| !visitor.owner.allows(permission(action))) {
        let needs = permission(action).as_str();
        let why = format!(
            "the token {:?} has the role {:?}, and this needs the permission {needs:?}",
            visitor.owner.name, visitor.owner.role
        );
        return Err(Fault::new(StatusCode::FORBIDDEN, "DENIED", why));
    }
    if let Some(repository) = repository.filter(|name| !visitor.reaches(name)) {
        // Of what its owner does not reach it learns no more than that it is not there.
        return Err(RegistryError::NameUnknown(repository.to_string()).into());
    }
    match refused {
        None => Ok(visitor),
        // Another token would do.
        Some(_) => Err(unauthorized(LOG_IN, format!("{},error=\"insufficient_scope\"", challenge()))),
    }
}

/// What a request wants of what, as scopes say it.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    kind: &'static str,
    name: &'a str,
    actions: &'static str,
    repository: Option<&'a Repository>,
}

fn wanted<'a>(target: &'a Target, method: &Method) -> Wanted<'a> {
    match target {
        Target::Catalog => Wanted { kind: "registry", name: "catalog", actions: "*", repository: None },
        Target::Tags(name)
        | Target::Manifest(name, _)
        | Target::Blob(name, _)
        | Target::Uploads(name)
        | Target::Upload(name, _)
        | Target::Referrers(name, _) => {
            Wanted { kind: REPOSITORY, name: name.as_str(), actions: actions(method), repository: Some(name) }
        }
    }
}

/// `GET /v2/token` with Basic: a token for the password, and for what was asked of what its role and scope allow.
pub async fn token(State(app): State<RegistryApp>, head: Parts) -> Result<Response, Fault> {
    if head.method != Method::GET {
        return Err(Fault::method("GET"));
    }
    let challenge = || format!("Basic realm=\"{SERVICE}\"");
    let Some(Visitor { owner, .. }) = by_basic(&app, &head.headers).await? else {
        return Err(unauthorized(LOG_IN, challenge()));
    };
    works(&owner).map_err(|why| unauthorized(why, challenge()))?;
    let now = SystemTime::now();
    let mut access: Vec<Access> = parameters(&head, "scope").iter().flat_map(|scopes| Access::parse(scopes)).collect();
    for one in &mut access {
        let every = one.actions.iter().any(|action| action == "*");
        let asked = if every { ["pull", "push", "delete"].map(str::to_owned).to_vec() } else { one.actions.clone() };
        let reached = one.kind != REPOSITORY || Repository::parse(&one.name).is_some_and(|name| reaches(&owner, &name));
        one.actions = asked.into_iter().filter(|action| reached && owner.allows(permission(action))).collect();
    }
    access.truncate(SCOPES);
    let token = token::issue(&app.key, owner.id, access, now);
    let issued_at = jiff::Timestamp::try_from(now).unwrap_or_default().to_string();
    let answer =
        json!({"token": token, "access_token": token, "expires_in": LIFETIME.as_secs(), "issued_at": issued_at});
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}

fn unauthorized(why: &str, challenge: String) -> Fault {
    Fault::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", why).header(header::WWW_AUTHENTICATE, challenge)
}

/// Whether the owner's token works; else why not.
fn works(owner: &TokenOwner) -> Result<(), &'static str> {
    match owner.state {
        TokenState::Active => Ok(()),
        TokenState::Expired => Err("the token has expired"),
        TokenState::Revoked => Err("the token was revoked"),
    }
}

async fn by_basic(app: &RegistryApp, headers: &HeaderMap) -> Result<Option<Visitor>, Fault> {
    match basic(headers) {
        Some(password) => by_password(app, &password).await,
        None => Ok(None),
    }
}

async fn by_password(app: &RegistryApp, password: &str) -> Result<Option<Visitor>, Fault> {
    let owner = app.tokens.find(password).await?;
    Ok(owner.map(|owner| Visitor { owner, access: None }))
}

/// The password of a Basic login.
fn basic(headers: &HeaderMap) -> Option<String> {
    let (scheme, text) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let text = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(text.trim()))?.ok()?;
    let (_, password) = std::str::from_utf8(&text).ok()?.split_once(':')?;
    Some(password.to_owned())
}

fn actions(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => "pull",
        Method::DELETE => "delete",
        _ => "pull,push",
    }
}

/// Where to log in, under the name by which the client has called. Names were checked before
/// (`server/hosts.rs`): what stands in `Host` is ours.
fn realm(app: &RegistryApp, headers: &HeaderMap) -> String {
    let called = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    // Behind a proxy with TLS the public name is the proxy's, and so is the scheme: a password goes nowhere in clear.
    if let Some(public) = app.public.as_ref().filter(|public| public.is_host(called)) {
        return format!("{}{TOKEN_PATH}", public.as_str());
    }
    let (_, own) = app.url.split_once("://").unwrap_or(("", &app.url));
    let own = own.trim_end_matches('/');
    if called.is_empty() || own.eq_ignore_ascii_case(called) {
        return format!("{}{TOKEN_PATH}", app.url.trim_end_matches('/'));
    }
    let scheme = if app.tls { "https" } else { "http" };
    format!("{scheme}://{called}{TOKEN_PATH}")
}
