//! HTTP clients: TLS by rustls with ring, roots of the system.

use std::time::Duration;

/// Makes rustls use ring; to be called before the first client. Later calls do nothing.
pub fn install_crypto() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A client with a time-out for connecting; `total` bounds the whole request where it is given.
pub fn client(connect: Duration, total: Option<Duration>) -> Result<reqwest::Client, reqwest::Error> {
    install_crypto();
    let builder = reqwest::Client::builder()
        .connect_timeout(connect)
        .user_agent(concat!("rapidclaw/", env!("CARGO_PKG_VERSION")));
    match total {
        Some(total) => builder.timeout(total).build(),
        None => builder.build(),
    }
}
