//! What the gateway knows about one replica.

use crate::base::secret::{ExposeSecret as _, SecretString, token_hash};
use crate::models::provider::Provider;
use crate::models::upstream::Upstream;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// `x-api-key`, as Anthropic's SDKs present a key.
pub(crate) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The real key, in the header that the upstream wants. Not shown by `Debug`.
#[derive(Debug, Clone)]
pub enum Credential {
    /// `Authorization: Bearer`.
    Bearer(SecretString),
    /// `x-api-key`.
    ApiKey(SecretString),
    /// The upstream of a `--provider` wants none.
    None,
}

impl Credential {
    /// Puts the key into a request's headers; false when it cannot stand in a header.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) -> bool {
        let (name, text) = match self {
            Self::Bearer(key) => (AUTHORIZATION, format!("Bearer {}", key.expose_secret())),
            Self::ApiKey(key) => (X_API_KEY, key.expose_secret().to_owned()),
            Self::None => return true,
        };
        let Ok(mut value) = HeaderValue::from_str(&text) else { return false };
        value.set_sensitive(true);
        headers.insert(name, value);
        true
    }
}

/// A provider's way for one replica.
#[derive(Debug, Clone)]
pub enum Way {
    /// There is one.
    Open {
        /// Where to.
        upstream: Upstream,
        /// With which key.
        credential: Credential,
    },
    /// There is none; requests are answered with this hint.
    Closed(String),
}

/// All ways of one replica.
#[derive(Debug, Clone)]
pub struct Route {
    /// The agent's name; for the log.
    pub agent: String,
    /// The replica's id; for the log.
    pub replica: String,
    /// What the replica presents.
    pub gateway_key: SecretString,
    /// To `OpenAI`.
    pub openai: Way,
    /// To Anthropic.
    pub anthropic: Way,
}

impl Route {
    /// A provider's way.
    pub fn way(&self, provider: Provider) -> &Way {
        match provider {
            Provider::OpenAi => &self.openai,
            Provider::Anthropic => &self.anthropic,
        }
    }

    /// Whether a request presents the gateway key, as Bearer or `x-api-key`. The comparison takes the same time
    /// for every wrong key: it is of digests, byte for byte.
    pub(crate) fn admits(&self, headers: &HeaderMap) -> bool {
        let expected = token_hash(self.gateway_key.expose_secret());
        let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|text| {
            let (scheme, key) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
        });
        let api_key = headers.get(X_API_KEY).and_then(|value| value.to_str().ok());
        [bearer, api_key].into_iter().flatten().any(|given| same(&expected, &token_hash(given)))
    }
}

fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    let difference = one.iter().zip(other).fold(0, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
    difference == 0
}
