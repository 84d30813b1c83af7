//! Unknown `Host` headers are refused: a page that rebinds its name to this machine reaches nothing.

use super::error::ApiError;
use crate::api::problem::Problem;
use axum::extract::{Request, State};
use axum::http::{Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

/// The names under which the server is called.
#[derive(Debug, Clone, Default)]
pub struct KnownHosts(HashSet<String>);

impl KnownHosts {
    /// Loopback's names, the addresses listened on, and the hosts of public URLs.
    pub fn new<'a>(listens: impl IntoIterator<Item = IpAddr>, public: impl IntoIterator<Item = &'a str>) -> Self {
        let mut names: HashSet<String> = ["localhost", "127.0.0.1", "[::1]"].into_iter().map(str::to_owned).collect();
        names.extend(listens.into_iter().map(|ip| match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        }));
        names.extend(public.into_iter().map(|name| without_port(name).to_ascii_lowercase()));
        Self(names)
    }

    /// Whether a `Host` header names this server; the port is not looked at.
    pub fn knows(&self, host: &str) -> bool {
        self.0.contains(&without_port(host).trim_end_matches('.').to_ascii_lowercase())
    }
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if host[colon + 1..].bytes().all(|byte| byte.is_ascii_digit()) && !host[..colon].ends_with(':') => {
            &host[..colon]
        }
        _ => host,
    }
}

/// Refuses requests to other names, and those that name none or several (RFC 9112, 3.2).
pub async fn check(State(hosts): State<Arc<KnownHosts>>, request: Request, next: Next) -> Response {
    let named = request.headers().get_all(header::HOST).iter().count();
    if named > 1 || (named == 0 && request.version() == Version::HTTP_11) {
        let detail = format!("the request has {named} Host headers");
        let problem = Problem::new(400, "host-invalid", "a request has one Host header").detail(detail);
        return ApiError::new(problem).into_response();
    }
    let host = request.uri().host().or_else(|| request.headers().get("host").and_then(|host| host.to_str().ok()));
    if host.is_some_and(|host| hosts.knows(host)) {
        return next.run(request).await;
    }
    let problem = Problem::new(421, "unknown-host", "this server is not called by that name")
        .hint("start it with --public-url https://NAME, or call it by the address that it listens on");
    ApiError::new(problem).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_public_names_are_known_and_others_are_not() {
        let hosts = KnownHosts::new(["10.0.0.7".parse().unwrap()], ["agents.example.com:443"]);
        for known in ["localhost:4120", "127.0.0.1", "[::1]:4121", "10.0.0.7:1", "Agents.example.com", "localhost."] {
            assert!(hosts.knows(known), "{known}");
        }
        for unknown in ["evil.example", "localhost.evil.example", "", "127.0.0.2:4120", "::1"] {
            assert!(!hosts.knows(unknown), "{unknown}");
        }
    }
}
