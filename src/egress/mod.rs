//! The egress proxy: the only other way out of a replica.
//!
//! A replica has no network (DESIGN.md 3). A relay in it passes bytes to a Unix socket that this room
//! serves: HTTP/1.1 `CONNECT` (RFC 9110 9.3.6) and nothing else. What the agent's [`Policy`] allows is
//! resolved here, its addresses are judged ([`address`]), and exactly the address judged is connected.
//! On port 443 the `ClientHello` must name the host that was asked for, so that an allowed name is no
//! way to another site on the same address.
//!
//! TLS stays end to end: a host behind the same front that is told apart only inside the encrypted
//! stream cannot be seen here. Exact names are better than wildcards for that reason.

pub mod address;
pub mod client_hello;
mod denials;
pub mod head;
pub mod host;
pub mod policy;
mod problem;
pub mod proxy;
pub mod resolver;
#[cfg(test)]
mod tests;
mod tunnel;

pub use address::{Refusal, is_private, judge};
pub use host::{Authority, Host, HostError};
pub use policy::{Mode, Policy, Rule, RuleError};
pub use proxy::{Replica, serve};
pub use resolver::{Override, OverrideError, ResolveError, Resolver};

use std::time::Duration;

/// The proxy's limits, in one place.
pub struct Defaults;

impl Defaults {
    /// The longest request head.
    pub const HEAD_BYTES: usize = 8 * 1024;
    /// From accepting a connection to the end of its head.
    pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
    /// The longest `ClientHello`; post-quantum key shares make them 1.8 KiB, RFC 8446 allows far more.
    pub const HELLO_BYTES: usize = 16 * 1024;
    /// Reads until a `ClientHello` is whole; real ones come in a few segments, and each read inspects anew.
    pub const HELLO_READS: usize = 1024;
    /// From the 200 to the end of the `ClientHello`, on port 443.
    pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
    /// For one name at the system's resolver.
    pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
    /// Look-ups at the same time, over all replicas: each holds a thread until the system answers.
    pub const LOOKUPS: usize = 64;
    /// For one address; the next is tried after it.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
    /// For all addresses of one name.
    pub const CONNECT_TOTAL_TIMEOUT: Duration = Duration::from_secs(15);
    /// Without a byte in either direction. Model streams and pooled database connections are quiet for minutes.
    pub const IDLE_TIMEOUT: Duration = Duration::from_mins(30);
    /// Open connections of one replica.
    pub const CONNECTIONS: usize = 256;
    /// What is read at once in one direction.
    pub const CHUNK_BYTES: usize = 64 * 1024;
    /// A denied host is logged once in this time.
    pub const DENIAL_INTERVAL: Duration = Duration::from_mins(1);
    /// How many denied hosts of one replica are remembered.
    pub const DENIED_HOSTS: usize = 256;
    /// After the system refused to accept a connection (no file descriptors left).
    pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
}
