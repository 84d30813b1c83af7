//! Where a server listens, how it is called from elsewhere, and what of that is refused.

use super::hosts::KnownHosts;
use super::public_url::PublicUrl;
use super::settings::{ServerError, ServerSettings};
use std::net::SocketAddr;

/// What would let others listen in is refused, unless it is asked for.
pub fn check(settings: &ServerSettings) -> Result<(), ServerError> {
    if settings.insecure {
        return Ok(());
    }
    for address in [settings.listen, settings.agents_listen] {
        if settings.tls.is_none() && !address.ip().is_loopback() {
            return Err(ServerError::Insecure(address));
        }
    }
    let open = [&settings.public_url, &settings.agents_public_url].into_iter().flatten().find(|url| url.is_open());
    open.map_or(Ok(()), |url| Err(ServerError::InsecureUrl(url.as_str().to_owned())))
}

/// How a server is called.
#[derive(Debug)]
pub struct Called {
    /// The control API, from this machine. With TLS by its public name: that is what its certificate holds.
    pub url: String,
    /// The agents' API, from wherever its callers are.
    pub agents_url: String,
    /// Every name of both.
    pub hosts: KnownHosts,
}

/// From what was asked for, and from the ports that were had.
pub fn called(settings: &ServerSettings, bound: SocketAddr, agents_bound: SocketAddr) -> Called {
    let public = settings.public_url.as_ref();
    let agents_public =
        settings.agents_public_url.clone().or_else(|| public.map(|url| url.with_port(agents_bound.port())));
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    let here = |mut address: SocketAddr| {
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        format!("{scheme}://{address}")
    };
    let url = public.filter(|_| settings.tls.is_some());
    Called {
        url: url.map_or_else(|| here(bound), |url| url.as_str().to_owned()),
        agents_url: agents_public.as_ref().map_or_else(|| here(agents_bound), |url| url.as_str().to_owned()),
        hosts: KnownHosts::new(
            [settings.listen.ip(), settings.agents_listen.ip()],
            [public, agents_public.as_ref()].into_iter().flatten().map(PublicUrl::host),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tls::TlsFiles;

    fn settings(listen: &str, public: Option<&str>, tls: bool) -> ServerSettings {
        let tls = tls.then(|| TlsFiles { cert: "c".into(), key: "k".into() });
        let public_url = public.map(|url| url.parse().unwrap());
        ServerSettings {
            public_url,
            tls,
            ..ServerSettings::plain("d".into(), listen.parse().unwrap(), listen.parse().unwrap())
        }
    }

    fn of(settings: &ServerSettings) -> (String, String) {
        let called = called(settings, "0.0.0.0:4120".parse().unwrap(), "0.0.0.0:4121".parse().unwrap());
        (called.url, called.agents_url)
    }

    #[test]
    fn who_could_listen_in_wants_to_be_asked_for() {
        let refused = |one: ServerSettings| check(&one).is_err();
        assert!(!refused(settings("127.0.0.1:0", None, false)));
        assert!(refused(settings("0.0.0.0:0", None, false)));
        assert!(!refused(settings("0.0.0.0:0", None, true)));
        assert!(!refused(settings("127.0.0.1:0", Some("https://a.example"), false)), "a proxy with TLS before it");
        assert!(refused(settings("127.0.0.1:0", Some("http://a.example"), false)));
        assert!(!refused(settings("127.0.0.1:0", Some("http://[::1]:4120"), false)));
        let open = ServerSettings { insecure: true, ..settings("0.0.0.0:0", Some("http://a.example"), false) };
        assert!(!refused(open));
    }

    #[test]
    fn with_tls_a_server_is_called_by_its_public_name() {
        let plain = of(&settings("0.0.0.0:0", None, false));
        assert_eq!(plain, ("http://127.0.0.1:4120".into(), "http://127.0.0.1:4121".into()));
        let tls = of(&settings("0.0.0.0:0", Some("https://a.example:4120/"), true));
        assert_eq!(tls, ("https://a.example:4120".into(), "https://a.example:4121".into()));
        let proxied = of(&settings("127.0.0.1:0", Some("https://a.example"), false));
        assert_eq!(proxied, ("http://127.0.0.1:4120".into(), "https://a.example:4121".into()));
        let public = settings("127.0.0.1:0", Some("https://a.example"), false);
        let both = ServerSettings { agents_public_url: Some("https://agents.example".parse().unwrap()), ..public };
        assert_eq!(of(&both).1, "https://agents.example");
        let called = called(&both, both.listen, both.agents_listen);
        assert!(called.hosts.knows("a.example:443") && called.hosts.knows("agents.example"));
        assert!(!called.hosts.knows("b.example"));
    }

    #[test]
    fn a_public_url_is_a_host_and_nothing_more() {
        for wrong in ["a.example", "ftp://a", "https://a/b", "https://u@a", "https://a?b"] {
            assert!(wrong.parse::<PublicUrl>().is_err(), "{wrong}");
        }
    }
}
