//! What the registry's routes share.

use crate::base::secret::MasterKey;
use crate::control::access::Tokens;
use crate::registry::Registry;
use crate::server::PublicUrl;
use crate::store::Store;

/// What the registry's routes share.
#[derive(Clone)]
pub struct RegistryApp {
    /// The content.
    pub registry: Registry,
    /// What releases name.
    pub store: Store,
    /// Whose tokens there are.
    pub tokens: Tokens,
    /// Seals the tokens of logins.
    pub key: MasterKey,
    /// How the server is called from elsewhere.
    pub url: String,
    /// The name that it has for others, where it was given one: a proxy with TLS may stand there.
    pub public: Option<PublicUrl>,
    /// Whether this listener speaks TLS.
    pub tls: bool,
}
