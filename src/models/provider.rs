//! The providers that the gateway knows: their variables, addresses and the shape of their errors. Pure.

use crate::models::upstream::{Trust, Upstream, UpstreamError};
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::fmt;
use std::str::FromStr;

/// A provider whose key stays in the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Provider {
    /// `OpenAI`, and what speaks like it.
    OpenAi,
    /// Anthropic.
    Anthropic,
}

/// How a key is presented upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// `Authorization: Bearer KEY`
    Bearer,
    /// `x-api-key: KEY`
    ApiKey,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::OpenAi, Self::Anthropic];

    /// Its name in `--provider NAME=URL`.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
        }
    }

    /// Where its SDKs find it when nothing else is said.
    pub fn default_base_url(self) -> &'static str {
        match self {
            Self::OpenAi => "https://api.openai.com/v1",
            Self::Anthropic => "https://api.anthropic.com",
        }
    }

    /// The gateway's path that stands for the base URL.
    pub fn path(self) -> &'static str {
        match self {
            Self::OpenAi => "/openai/v1",
            Self::Anthropic => "/anthropic",
        }
    }

    /// Variables that hold its key, the one that counts first. Anthropic's SDK sends `ANTHROPIC_AUTH_TOKEN` as Bearer.
    pub(crate) fn keys(self) -> &'static [(&'static str, Scheme)] {
        match self {
            Self::OpenAi => &[("OPENAI_API_KEY", Scheme::Bearer)],
            Self::Anthropic => &[("ANTHROPIC_API_KEY", Scheme::ApiKey), ("ANTHROPIC_AUTH_TOKEN", Scheme::Bearer)],
        }
    }

    /// The variable that names its key in hints.
    pub fn key_name(self) -> &'static str {
        self.keys()[0].0
    }

    /// Variables that hold its base URL, in the order in which `LangChain` reads them (langchain-openai 1.7.4,
    /// langchain-anthropic 1.7.10); the SDKs read the `_BASE_URL` ones alone.
    pub fn base_url_names(self) -> &'static [&'static str] {
        match self {
            Self::OpenAi => &["OPENAI_API_BASE", "OPENAI_BASE_URL"],
            Self::Anthropic => &["ANTHROPIC_API_URL", "ANTHROPIC_BASE_URL"],
        }
    }

    /// Keys of the provider that have no way through the gateway and stay in the server all the same.
    pub(crate) fn withheld(self) -> &'static [&'static str] {
        match self {
            Self::OpenAi => &["OPENAI_ADMIN_KEY"],
            Self::Anthropic => &["ANTHROPIC_ADMIN_KEY"],
        }
    }

    /// An error body as the provider's own API writes it, so that its SDKs show the message.
    pub(crate) fn error(self, status: StatusCode, code: &str, message: &str) -> Value {
        match self {
            Self::OpenAi => {
                let kind = if status.is_client_error() { "invalid_request_error" } else { "server_error" };
                json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
            }
            Self::Anthropic => {
                // https://docs.anthropic.com/en/api/errors
                let kind = match status.as_u16() {
                    401 => "authentication_error",
                    403 => "permission_error",
                    404 => "not_found_error",
                    413 => "request_too_large",
                    504 => "timeout_error",
                    400..500 => "invalid_request_error",
                    _ => "api_error",
                };
                json!({"type": "error", "error": {"type": kind, "message": message}})
            }
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// The server's `--provider NAME=URL`: the upstream for all agents; it alone may name a loopback address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderOverride {
    /// Whose.
    pub provider: Provider,
    /// Where to.
    pub upstream: Upstream,
}

/// What is wrong with a `--provider`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderOverrideError {
    /// No `=`.
    #[error("`{0}` is not NAME=URL")]
    Form(String),
    /// Another name.
    #[error("`{0}` is no provider that the gateway knows (openai, anthropic)")]
    Name(String),
    /// A URL that cannot be an upstream.
    #[error("the URL of {provider}")]
    Url {
        /// Whose.
        provider: Provider,
        /// Why.
        source: UpstreamError,
    },
}

impl FromStr for ProviderOverride {
    type Err = ProviderOverrideError;

    fn from_str(text: &str) -> Result<Self, ProviderOverrideError> {
        let (name, url) = text.split_once('=').ok_or_else(|| ProviderOverrideError::Form(text.to_owned()))?;
        let provider = Provider::ALL
            .into_iter()
            .find(|provider| provider.name() == name)
            .ok_or_else(|| ProviderOverrideError::Name(name.to_owned()))?;
        match Upstream::parse(url, Trust::Server) {
            Ok(upstream) => Ok(Self { provider, upstream }),
            Err(source) => Err(ProviderOverrideError::Url { provider, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_are_read_and_faults_told_apart() {
        let given: ProviderOverride = "openai=http://127.0.0.1:8000/v1".parse().unwrap();
        assert_eq!((given.provider, given.upstream.port()), (Provider::OpenAi, 8000));
        let fault = |text: &str| ProviderOverride::from_str(text).unwrap_err();
        assert!(matches!(fault("openai"), ProviderOverrideError::Form(_)));
        assert!(matches!(fault("mistral=https://a"), ProviderOverrideError::Name(_)));
        assert!(matches!(fault("openai=ftp://a"), ProviderOverrideError::Url { .. }));
    }

    #[test]
    fn errors_have_the_providers_shape() {
        let body = Provider::OpenAi.error(StatusCode::UNAUTHORIZED, "invalid_api_key", "no");
        assert_eq!((&body["error"]["message"], &body["error"]["code"]), (&json!("no"), &json!("invalid_api_key")));
        let body = Provider::Anthropic.error(StatusCode::UNAUTHORIZED, "invalid_api_key", "no");
        assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!("authentication_error")));
    }
}
