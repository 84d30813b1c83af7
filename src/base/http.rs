//! HTTP clients: TLS by rustls with ring, roots of the system.

use std::error::Error;
use std::io;
use std::time::Duration;

/// Makes rustls use ring; to be called before the first client. Later calls do nothing.
pub fn install_crypto() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A client with a time-out for connecting; `total` bounds the whole request where it is given.
pub fn client(connect: Duration, total: Option<Duration>) -> Result<reqwest::Client, reqwest::Error> {
    match total {
        Some(total) => builder(connect).timeout(total).build(),
        None => builder(connect).build(),
    }
}

/// How one server is talked to.
#[derive(Debug, Default)]
pub struct Way<'a> {
    /// Whether it speaks TLS. A client without is made ten times as fast.
    pub tls: bool,
    /// Whether it is on this machine: no proxy may see what is meant for it.
    pub here: bool,
    /// Authorities that are trusted beside the system's (PEM).
    pub authorities: Option<&'a [u8]>,
}

/// A client for one server, with a time-out for connecting. The system's authorities are those of its
/// bundle, or of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
pub fn client_for(way: &Way<'_>, connect: Duration) -> Result<reqwest::Client, reqwest::Error> {
    // The token goes to the server that is named, and nowhere else.
    let mut builder = builder(connect).redirect(reqwest::redirect::Policy::none());
    if way.here {
        builder = builder.no_proxy();
    }
    match way.authorities {
        _ if !way.tls => builder = builder.tls_certs_only([]),
        Some(pem) => builder = builder.tls_certs_merge(reqwest::Certificate::from_pem_bundle(pem)?),
        None => {}
    }
    builder.build()
}

fn builder(connect: Duration) -> reqwest::ClientBuilder {
    install_crypto();
    reqwest::Client::builder().connect_timeout(connect).user_agent(concat!("rapidclaw/", env!("CARGO_PKG_VERSION")))
}

/// What TLS has against the other side, where that is why a call failed. Errors of IO hold it and do not name
/// it as their source.
pub fn tls_fault<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(fault) = error.downcast_ref() {
        return Some(fault);
    }
    let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    tls_fault(held.map_or_else(|| error.source(), |held| Some(held as _))?)
}

/// The innermost cause: what the system, the name service or TLS said.
pub fn root(error: &(dyn Error + 'static)) -> String {
    match error.source() {
        Some(cause) => root(cause),
        None => error.to_string(),
    }
}
