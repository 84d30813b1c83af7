//! The server process: both listeners over one control plane and one gateway.
//!
//! 4120 answers the control API to tokens, 4121 answers agents' callers to agents' keys. A handler
//! extracts, calls one function, converts.

mod addresses;
mod agents_api;
mod app;
pub mod backup;
mod bodies;
mod builds_api;
mod connections;
mod control_api;
mod control_plane;
mod database;
mod ending;
mod error;
mod extract;
mod handover;
mod hosts;
mod listener;
mod listeners;
mod names;
mod operations_api;
pub mod place;
mod process;
mod public_url;
pub mod registry_api;
mod routes;
pub mod settings;
mod signals;
mod succession;
mod tls;
mod versions;

pub use hosts::KnownHosts;
pub use process::run;
pub use public_url::PublicUrl;
pub use settings::{ServerError, ServerSettings};
pub use tls::TlsFiles;

use app::App;
