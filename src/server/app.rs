//! What the handlers of both listeners share.

use super::bodies::Bodies;
use super::hosts::KnownHosts;
use super::registry_api::RegistryApp;
use crate::base::shutdown::CancellationToken;
use crate::control::Control;
use std::sync::Arc;

/// What handlers share.
#[derive(Clone)]
pub(super) struct App {
    pub control: Control,
    pub registry: RegistryApp,
    pub hosts: Arc<KnownHosts>,
    /// Bodies that are in memory.
    pub bodies: Bodies,
    /// Cancelled when the server stops: streams end by it.
    pub closing: CancellationToken,
}
