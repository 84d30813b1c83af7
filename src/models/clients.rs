//! HTTP clients for upstreams, one per upstream, made when first needed and shared by all replicas.

use crate::base::http::install_crypto;
use crate::egress::{Host, ResolveError, Resolver, is_private};
use crate::models::Defaults;
use crate::models::upstream::{Trust, Upstream};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// What makes two upstreams one client: a client's resolver knows the port and the trust, which reqwest does not
/// hand to it.
type Key = (Host, u16, Trust, bool);

/// The server's clients; connections to an upstream are pooled across replicas.
pub struct Clients {
    resolver: Arc<Resolver>,
    made: Mutex<HashMap<Key, reqwest::Client>>,
}

impl Clients {
    /// Clients that resolve as the egress proxy does.
    pub fn new(resolver: Arc<Resolver>) -> Self {
        Self { resolver, made: Mutex::default() }
    }

    /// The client for `upstream`.
    pub(crate) fn client(&self, upstream: &Upstream) -> Result<reqwest::Client, reqwest::Error> {
        let key = (upstream.host().clone(), upstream.port(), upstream.trust(), upstream.is_plain());
        let mut made = self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(client) = made.get(&key) {
            return Ok(client.clone());
        }
        if made.len() >= Defaults::CLIENTS {
            // Requests under way keep their own handle; the others connect anew.
            made.clear();
        }
        let client = build(Guard::new(self.resolver.clone(), upstream), upstream.is_near())?;
        made.insert(key, client.clone());
        Ok(client)
    }
}

fn build(guard: Guard, near: bool) -> Result<reqwest::Client, reqwest::Error> {
    install_crypto();
    // A redirect would carry the key to wherever it points; a retry would pay twice.
    let builder = reqwest::Client::builder()
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .http1_only()
        .tcp_nodelay(true)
        .connect_timeout(Defaults::CONNECT_TIMEOUT)
        .read_timeout(Defaults::READ_TIMEOUT)
        .pool_idle_timeout(Defaults::POOL_IDLE_TIMEOUT)
        .dns_resolver(guard);
    if near { builder.no_proxy() } else { builder }.build()
}

/// Why an upstream's name gave no address to connect to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuardError {
    /// The egress rules.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// A key in clear over a public network.
    #[error("{0} has only public addresses and its URL is plain http; https is wanted")]
    PlainPublic(Host),
    /// reqwest asked for something that is no host.
    #[error("not a host name")]
    Host(#[from] crate::egress::HostError),
}

/// A resolver that gives the upstream's good addresses only.
struct Guard {
    resolver: Arc<Resolver>,
    upstream: Host,
    port: u16,
    trust: Trust,
    plain: bool,
}

impl Guard {
    fn new(resolver: Arc<Resolver>, upstream: &Upstream) -> Self {
        let (port, trust, plain) = (upstream.port(), upstream.trust(), upstream.is_plain());
        Self { resolver, upstream: upstream.host().clone(), port, trust, plain }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let Self { port, trust, plain, .. } = *self;
        let (resolver, upstream) = (self.resolver.clone(), self.upstream.clone());
        Box::pin(async move {
            let found = addresses(&resolver, name.as_str(), &upstream, port, trust, plain).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

async fn addresses(
    resolver: &Resolver,
    name: &str,
    upstream: &Host,
    port: u16,
    trust: Trust,
    plain: bool,
) -> Result<Vec<SocketAddr>, GuardError> {
    let host = Host::parse(name)?;
    if host != *upstream {
        // The system's proxy, which the administrator named; it may well be on this machine. Port 0: the URL's.
        return Ok(resolver.look_up(&host, 0).await?);
    }
    let mut found = match trust {
        Trust::Server => resolver.look_up(&host, port).await?,
        Trust::Agent => resolver.resolve(&host, port).await?,
    };
    if plain {
        found.retain(|at| is_private(at.ip()) || (trust == Trust::Server && at.ip().is_loopback()));
    }
    if found.is_empty() { Err(GuardError::PlainPublic(host)) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(name: &str, trust: Trust, plain: bool) -> Result<Vec<SocketAddr>, GuardError> {
        let overrides = ["public.example:443:8.8.8.8", "private.example:443:10.0.0.5,8.8.8.8"];
        let resolver = Resolver::new(overrides.iter().map(|text| text.parse().unwrap()).collect());
        addresses(&resolver, name, &Host::parse(name).unwrap(), 443, trust, plain).await
    }

    #[tokio::test]
    async fn an_agents_upstream_is_never_on_this_machine() {
        let error = ask("localhost", Trust::Agent, false).await.unwrap_err();
        assert!(matches!(error, GuardError::Resolve(ResolveError::Refused { .. })), "{error}");
        assert!(!ask("localhost", Trust::Server, true).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_key_goes_in_clear_to_private_addresses_only() {
        let error = ask("public.example", Trust::Agent, true).await.unwrap_err();
        assert!(matches!(error, GuardError::PlainPublic(_)));
        assert_eq!(ask("private.example", Trust::Agent, true).await.unwrap(), ["10.0.0.5:443".parse().unwrap()]);
        assert_eq!(ask("public.example", Trust::Agent, false).await.unwrap(), ["8.8.8.8:443".parse().unwrap()]);
    }
}
