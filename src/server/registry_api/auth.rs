//! Who may: a token of the control API is the password of any user name, or the Bearer token itself. Docker's
//! login gets a short-lived token for it (docs.docker.com/reference/api/registry/auth).

use super::RegistryApp;
use super::error::Fault;
use crate::base::secret::token_hash;
use crate::registry::path::Target;
use crate::registry::token::{self, LIFETIME, Owner};
use crate::server::extract::bearer;
use axum::Json;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use std::time::SystemTime;

/// Where passwords are changed for tokens.
pub const TOKEN_PATH: &str = "/v2/token";
const SERVICE: &str = "rapidclaw";

/// Sees that the request is allowed; else says where to log in, and for what.
pub async fn check(app: &RegistryApp, head: &Parts, target: Option<&Target>) -> Result<Owner, Fault> {
    let owner = match bearer(&head.headers) {
        Some(given) => match token::read(&app.key, given, SystemTime::now()) {
            Some(owner) => Some(owner),
            None => by_password(app, given).await?,
        },
        None => by_basic(app, &head.headers).await?,
    };
    owner.ok_or_else(|| {
        let scope = match target {
            Some(Target::Catalog) => ",scope=\"registry:catalog:*\"".to_owned(),
            Some(
                Target::Tags(name)
                | Target::Manifest(name, _)
                | Target::Blob(name, _)
                | Target::Uploads(name)
                | Target::Upload(name, _)
                | Target::Referrers(name, _),
            ) => format!(",scope=\"repository:{name}:{}\"", actions(&head.method)),
            None => String::new(),
        };
        let realm = realm(app, &head.headers);
        unauthorized(format!("Bearer realm=\"{realm}\",service=\"{SERVICE}\"{scope}"))
    })
}

/// `GET /v2/token` with Basic: a token for the password.
pub async fn token(State(app): State<RegistryApp>, head: Parts) -> Result<Response, Fault> {
    if head.method != Method::GET {
        return Err(Fault::method("GET"));
    }
    let Some(owner) = by_basic(&app, &head.headers).await? else {
        return Err(unauthorized(format!("Basic realm=\"{SERVICE}\"")));
    };
    let now = SystemTime::now();
    let token = token::issue(&app.key, owner, now);
    let issued_at = jiff::Timestamp::try_from(now).unwrap_or_default().to_string();
    let answer =
        json!({"token": token, "access_token": token, "expires_in": LIFETIME.as_secs(), "issued_at": issued_at});
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}

fn unauthorized(challenge: String) -> Fault {
    let how = "log in with any user name and a token of the control API as the password";
    Fault::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", how).header(header::WWW_AUTHENTICATE, challenge)
}

async fn by_basic(app: &RegistryApp, headers: &HeaderMap) -> Result<Option<Owner>, Fault> {
    match basic(headers) {
        Some(password) => by_password(app, &password).await,
        None => Ok(None),
    }
}

async fn by_password(app: &RegistryApp, password: &str) -> Result<Option<Owner>, Fault> {
    let owner = app.store.find_token(&token_hash(password)).await?;
    Ok(owner.map(|owner| Owner { name: owner.name, role: owner.role }))
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
    let (_, own) = app.url.split_once("://").unwrap_or(("", &app.url));
    let own = own.trim_end_matches('/');
    // Behind a proxy with TLS the public name is the proxy's.
    if called.is_empty() || own.eq_ignore_ascii_case(called) {
        return format!("{}{TOKEN_PATH}", app.url.trim_end_matches('/'));
    }
    let scheme = if app.tls { "https" } else { "http" };
    format!("{scheme}://{called}{TOKEN_PATH}")
}
