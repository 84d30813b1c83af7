//! The model gateway: the one place where a replica's calls to model providers get their key.
//!
//! A replica holds a gateway key under the providers' variable names and base URLs that lead to this
//! room's socket ([`plan`]). What it sends passes through to the upstream with the real key; nothing is
//! buffered, re-encoded or retried. `/openai/v1/…` and `/anthropic/…` are served: `OpenAI`'s SDKs append to a
//! base URL that ends in `/v1`, Anthropic's append `/v1/messages` themselves.

mod clients;
mod headers;
pub mod plan;
pub mod provider;
mod refusal;
pub mod route;
pub mod serve;
#[cfg(test)]
mod tests;
pub mod upstream;

pub use clients::Clients;
pub use plan::{Inputs, Plan, PlanError, ReplicaEnv, plan};
pub use provider::{Provider, ProviderOverride, ProviderOverrideError};
pub use route::{Credential, Route, Way};
pub use serve::serve;
pub use upstream::{Trust, Upstream, UpstreamError};

use std::time::Duration;

/// The gateway's limits, in one place.
pub struct Defaults;

impl Defaults {
    /// Where a replica's relay listens for this gateway (`src/runner/PROTOCOL.md`).
    pub const ORIGIN: &str = "http://127.0.0.1:4180";
    /// The longest request body.
    pub const BODY_BYTES: u64 = 64 * 1024 * 1024;
    /// Name, TCP and TLS of an upstream.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
    /// Until the response's head, and between two reads of its body: models think for minutes.
    pub const READ_TIMEOUT: Duration = Duration::from_mins(10);
    /// An upstream connection without use; shorter than what providers' edges grant.
    pub const POOL_IDLE_TIMEOUT: Duration = Duration::from_mins(1);
    /// Open connections of one replica; more wait.
    pub const CONNECTIONS: usize = 256;
    /// After the system refused to accept a connection (no file descriptors left).
    pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
    /// Upstreams whose clients are kept.
    pub const CLIENTS: usize = 128;
}
