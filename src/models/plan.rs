//! What a replica gets to see of its agent's secrets, and where the gateway sends its calls. Pure.

use crate::base::secret::{ExposeSecret as _, SecretString};
use crate::egress::Policy;
use crate::models::Defaults;
use crate::models::provider::{Provider, ProviderOverride, Scheme};
use crate::models::route::{Credential, Route, Way};
use crate::models::upstream::{Trust, Upstream, UpstreamError};
use std::collections::BTreeMap;

/// What a plan is made from.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The agent's name.
    pub agent: &'a str,
    /// The replica's id.
    pub replica: &'a str,
    /// The agent's secrets.
    pub secrets: &'a BTreeMap<String, SecretString>,
    /// The server's `--provider` entries; of several for one provider the last holds.
    pub overrides: &'a [ProviderOverride],
    /// What the replica will present.
    pub gateway_key: &'a SecretString,
    /// What the agent may reach.
    pub policy: &'a Policy,
    /// `models.gateway` of the manifest.
    pub gateway: bool,
    /// Where the replica finds the gateway: [`Defaults::ORIGIN`] but for the `process` runtime.
    pub origin: &'a str,
}

/// The variables of a replica.
pub type ReplicaEnv = BTreeMap<String, SecretString>;

/// What comes of it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// For `replica.json`.
    pub env: ReplicaEnv,
    /// For [`crate::models::serve`].
    pub route: Route,
    /// What a deploy should say, one line each.
    pub notes: Vec<String>,
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A base URL among the secrets cannot be an upstream.
    #[error("the secret {name}")]
    BaseUrl {
        /// The variable.
        name: &'static str,
        /// Why.
        source: UpstreamError,
    },
    /// A base URL among the secrets names a host that the agent may not reach.
    #[error("the secret {name} names {host}, which the agent may not reach: {remedy}")]
    Denied {
        /// The variable.
        name: &'static str,
        /// Host and port.
        host: String,
        /// What to change.
        remedy: String,
    },
    /// A key that no HTTP header can hold.
    #[error("the secret {0} holds characters that no key has")]
    Key(&'static str),
}

/// Makes the plan of one replica.
pub fn plan(inputs: Inputs<'_>) -> Result<Plan, PlanError> {
    let mut env = inputs.secrets.clone();
    let mut notes = Vec::new();
    let mut way = |provider| {
        if inputs.gateway {
            open(inputs, provider, &mut env, &mut notes)
        } else {
            Ok(Way::Closed("\"models\": {\"gateway\": false} in the manifest: the model gateway is off".to_owned()))
        }
    };
    let (openai, anthropic) = (way(Provider::OpenAi)?, way(Provider::Anthropic)?);
    let route = Route {
        agent: inputs.agent.to_owned(),
        replica: inputs.replica.to_owned(),
        gateway_key: inputs.gateway_key.clone(),
        openai,
        anthropic,
    };
    Ok(Plan { env, route, notes })
}

/// One provider's way; what the replica sees of it goes into `env`.
fn open(
    inputs: Inputs<'_>,
    provider: Provider,
    env: &mut ReplicaEnv,
    notes: &mut Vec<String>,
) -> Result<Way, PlanError> {
    for name in provider.withheld() {
        if env.remove(*name).is_some() {
            notes.push(format!("{name} stays in the server: no replica gets it"));
        }
    }
    let key = key(inputs.secrets, provider)?;
    let server = inputs.overrides.iter().rev().find(|given| given.provider == provider);
    let upstream = match (server, &key) {
        (Some(server), _) => server.upstream.clone(),
        (None, Some(_)) => match own(inputs, provider, notes)? {
            Some(own) => own,
            None => preset(provider)?,
        },
        (None, None) => {
            return Ok(Way::Closed(format!("{} is not among the agent's secrets", provider.key_name())));
        }
    };
    let mut replaced = false;
    for (name, _) in provider.keys() {
        if text(inputs.secrets, name).is_some() {
            env.insert((*name).to_owned(), inputs.gateway_key.clone());
            replaced = true;
        }
    }
    if !replaced {
        // SDKs refuse to start without a key, and the gateway wants its own.
        env.insert(provider.key_name().to_owned(), inputs.gateway_key.clone());
    }
    for name in provider.base_url_names() {
        env.insert((*name).to_owned(), format!("{}{}", inputs.origin, provider.path()).into());
    }
    Ok(Way::Open { upstream, credential: key.unwrap_or(Credential::None) })
}

/// A secret's text without space around it, if there is any.
fn text<'a>(secrets: &'a BTreeMap<String, SecretString>, name: &str) -> Option<&'a str> {
    secrets.get(name).map(|value| value.expose_secret().trim()).filter(|value| !value.is_empty())
}

fn key(secrets: &BTreeMap<String, SecretString>, provider: Provider) -> Result<Option<Credential>, PlanError> {
    for (name, scheme) in provider.keys() {
        let Some(key) = text(secrets, name) else { continue };
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(PlanError::Key(name));
        }
        return Ok(Some(match scheme {
            Scheme::Bearer => Credential::Bearer(key.into()),
            Scheme::ApiKey => Credential::ApiKey(key.into()),
        }));
    }
    Ok(None)
}

/// The upstream that the agent's own variables name, within its egress rules.
fn own(inputs: Inputs<'_>, provider: Provider, notes: &mut Vec<String>) -> Result<Option<Upstream>, PlanError> {
    let mut given = provider.base_url_names().iter().filter_map(|name| Some((*name, text(inputs.secrets, name)?)));
    let Some((name, url)) = given.next() else { return Ok(None) };
    if let Some((other, _)) = given.find(|(_, other)| other.trim_end_matches('/') != url.trim_end_matches('/')) {
        notes.push(format!("{name} and {other} differ; the model gateway calls the host of {name}"));
    }
    let upstream = Upstream::parse(url, Trust::Agent).map_err(|source| PlanError::BaseUrl { name, source })?;
    let (host, port) = (upstream.host(), upstream.port());
    // The provider's own address is where calls go without the variable as well.
    let usual = preset(provider).is_ok_and(|preset| preset.host() == host && preset.port() == port);
    if !usual && !inputs.policy.allows(host, port) {
        let remedy = inputs.policy.remedy(host, port);
        return Err(PlanError::Denied { name, host: format!("{host}:{port}"), remedy });
    }
    Ok(Some(upstream))
}

fn preset(provider: Provider) -> Result<Upstream, PlanError> {
    let name = provider.base_url_names()[0];
    Upstream::parse(provider.default_base_url(), Trust::Agent).map_err(|source| PlanError::BaseUrl { name, source })
}

impl<'a> Inputs<'a> {
    /// The gateway on, no `--provider`, no names for the log: enough to check an agent's secrets at deploy.
    pub fn new(secrets: &'a BTreeMap<String, SecretString>, policy: &'a Policy, gateway_key: &'a SecretString) -> Self {
        Self {
            agent: "",
            replica: "",
            secrets,
            overrides: &[],
            gateway_key,
            policy,
            gateway: true,
            origin: Defaults::ORIGIN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(given: &[(&str, &str)]) -> BTreeMap<String, SecretString> {
        given.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect()
    }

    fn planned(given: &[(&str, &str)], policy: &Policy) -> Result<Plan, PlanError> {
        let (secrets, key) = (secrets(given), SecretString::from("rcg_key"));
        plan(Inputs::new(&secrets, policy, &key))
    }

    fn seen(plan: &Plan) -> Vec<(&str, &str)> {
        plan.env.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect()
    }

    fn upstream(way: &Way) -> (String, String) {
        match way {
            Way::Open { upstream, credential } => {
                let key = match credential {
                    Credential::Bearer(key) => format!("bearer {}", key.expose_secret()),
                    Credential::ApiKey(key) => format!("api key {}", key.expose_secret()),
                    Credential::None => "none".to_owned(),
                };
                (upstream.join("", None).unwrap().to_string(), key)
            }
            Way::Closed(hint) => ("closed".to_owned(), hint.clone()),
        }
    }

    #[test]
    fn known_keys_stay_and_the_rest_passes() {
        let given = [("OPENAI_API_KEY", "sk-real\n"), ("OPENAI_ADMIN_KEY", "sk-admin"), ("DB_PASSWORD", "pw")];
        let plan = planned(&given, &Policy::none()).unwrap();
        let base = "http://127.0.0.1:4180/openai/v1";
        let expected = [
            ("DB_PASSWORD", "pw"),
            ("OPENAI_API_BASE", base),
            ("OPENAI_API_KEY", "rcg_key"),
            ("OPENAI_BASE_URL", base),
        ];
        assert_eq!(seen(&plan), expected);
        assert_eq!(upstream(&plan.route.openai), ("https://api.openai.com/v1".into(), "bearer sk-real".into()));
        assert_eq!(upstream(&plan.route.anthropic).1, "ANTHROPIC_API_KEY is not among the agent's secrets");
        assert_eq!(plan.notes, ["OPENAI_ADMIN_KEY stays in the server: no replica gets it"]);
        assert!(!format!("{plan:?}").contains("sk-real"));
    }

    #[test]
    fn anthropics_two_keys_are_presented_as_its_sdk_does() {
        let plan = planned(&[("ANTHROPIC_AUTH_TOKEN", "oat")], &Policy::none()).unwrap();
        assert_eq!(upstream(&plan.route.anthropic), ("https://api.anthropic.com/".into(), "bearer oat".into()));
        let base = "http://127.0.0.1:4180/anthropic";
        let expected = [("ANTHROPIC_API_URL", base), ("ANTHROPIC_AUTH_TOKEN", "rcg_key"), ("ANTHROPIC_BASE_URL", base)];
        assert_eq!(seen(&plan), expected);
        let both = [("ANTHROPIC_AUTH_TOKEN", "oat"), ("ANTHROPIC_API_KEY", "sk-ant")];
        let plan = planned(&both, &Policy::none()).unwrap();
        assert_eq!(upstream(&plan.route.anthropic).1, "api key sk-ant");
        assert!(seen(&plan).iter().all(|(_, value)| *value != "oat" && *value != "sk-ant"));
    }

    #[test]
    fn an_own_base_url_must_be_allowed() {
        let given = [("OPENAI_API_KEY", "k"), ("OPENAI_BASE_URL", "https://api.groq.com/openai/v1")];
        let error = planned(&given, &Policy::none()).unwrap_err();
        assert!(error.to_string().contains("api.groq.com"), "{error}");
        let policy = Policy::allowlist(["api.groq.com"]).unwrap();
        let plan = planned(&given, &policy).unwrap();
        assert_eq!(upstream(&plan.route.openai).0, "https://api.groq.com/openai/v1");
        let given = [("OPENAI_API_KEY", "k"), ("OPENAI_BASE_URL", "https://api.openai.com/v1/")];
        assert!(planned(&given, &Policy::none()).is_ok());
        let given = [("OPENAI_API_KEY", "k"), ("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")];
        assert!(matches!(planned(&given, &Policy::open()), Err(PlanError::BaseUrl { .. })));
    }

    #[test]
    fn variables_that_differ_are_told() {
        let given = [
            ("OPENAI_API_KEY", "k"),
            ("OPENAI_BASE_URL", "https://a.example"),
            ("OPENAI_API_BASE", "https://b.example"),
        ];
        let plan = planned(&given, &Policy::open()).unwrap();
        assert_eq!(upstream(&plan.route.openai).0, "https://b.example/");
        assert!(plan.notes[0].contains("differ"));
    }

    #[test]
    fn the_servers_provider_wins_and_needs_no_key() {
        let overrides = ["openai=http://127.0.0.1:8000/v1".parse().unwrap()];
        let given = [("OPENAI_BASE_URL", "https://denied.example")];
        let (secrets, key, policy) = (secrets(&given), SecretString::from("rcg_key"), Policy::none());
        let plan = plan(Inputs { overrides: &overrides, ..Inputs::new(&secrets, &policy, &key) }).unwrap();
        assert_eq!(upstream(&plan.route.openai), ("http://127.0.0.1:8000/v1".into(), "none".into()));
        assert!(seen(&plan).contains(&("OPENAI_API_KEY", "rcg_key")));
    }

    #[test]
    fn without_gateway_keys_pass_untouched() {
        let given = [("OPENAI_API_KEY", "sk-real"), ("OPENAI_ADMIN_KEY", "sk-admin")];
        let (secrets, key, policy) = (secrets(&given), SecretString::from("rcg_key"), Policy::none());
        let plan = plan(Inputs { gateway: false, ..Inputs::new(&secrets, &policy, &key) }).unwrap();
        assert_eq!(seen(&plan), [("OPENAI_ADMIN_KEY", "sk-admin"), ("OPENAI_API_KEY", "sk-real")]);
        assert_eq!(upstream(&plan.route.openai).0, "closed");
    }

    #[test]
    fn a_key_that_no_header_holds_is_named_and_not_shown() {
        let error = planned(&[("OPENAI_API_KEY", "two words")], &Policy::none()).unwrap_err();
        assert!(error.to_string().contains("OPENAI_API_KEY") && !error.to_string().contains("words"));
    }

    #[test]
    fn an_empty_key_is_none() {
        let plan = planned(&[("OPENAI_API_KEY", " ")], &Policy::none()).unwrap();
        assert_eq!(seen(&plan), [("OPENAI_API_KEY", " ")]);
        assert_eq!(upstream(&plan.route.openai).0, "closed");
    }
}
