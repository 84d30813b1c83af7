//! The server process: both listeners over one control plane and one gateway.
//!
//! 4120 answers the control API to tokens, 4121 answers agents' callers to agents' keys. A handler
//! extracts, calls one function, converts.

mod addresses;
mod agents_api;
pub mod backup;
mod bodies;
mod builds_api;
mod connections;
mod control_api;
mod ending;
mod error;
mod extract;
mod handover;
mod hosts;
mod listener;
mod names;
mod operations_api;
pub mod place;
pub mod process;
pub mod registry_api;
mod routes;
mod signals;
mod tls;
mod versions;

pub use addresses::PublicUrl;
pub use hosts::KnownHosts;
pub use process::{ServerError, ServerSettings, run};
pub use tls::TlsFiles;

use crate::base::shutdown::CancellationToken;
use crate::control::Control;
use bodies::Bodies;
use registry_api::RegistryApp;
use std::sync::Arc;

/// What handlers share.
#[derive(Clone)]
struct App {
    control: Control,
    registry: RegistryApp,
    hosts: Arc<KnownHosts>,
    /// Bodies that are in memory.
    bodies: Bodies,
    /// Cancelled when the server stops: streams end by it.
    closing: CancellationToken,
}
