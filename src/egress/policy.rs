//! What an agent may reach, as its manifest says (`rapidclaw.security`). Pure.

use crate::egress::address::{self, Refusal};
use crate::egress::host::{Host, HostError, parse_port};
use std::fmt;
use std::str::FromStr;

/// `security.egress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Every host, but for the addresses that nobody reaches.
    Open,
    /// The hosts of `security.allowed_hosts`.
    Allowlist,
    /// No host.
    None,
}

/// Which hosts a rule names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// This name or address alone.
    Exact(Host),
    /// `*.example.com`: every name below `example.com`, at any depth, but not itself. Holds `.example.com`.
    Below(String),
}

/// One entry of `security.allowed_hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which hosts.
    pub pattern: Pattern,
    /// 443 unless told (DESIGN.md 10).
    pub port: u16,
}

/// What is wrong with an entry of `security.allowed_hosts`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// `*` alone.
    #[error("`*` allows every host; \"egress\": \"open\" says that")]
    Everything,
    /// A star that is not the whole first label.
    #[error("`{0}`: a star stands only for the first label, as in *.example.com")]
    Star(String),
    /// A scheme or a path.
    #[error("`{0}`: a host, not a URL, is wanted")]
    Url(String),
    /// Not a host, or not a port.
    #[error("`{text}`")]
    Host {
        /// The entry.
        text: String,
        /// Why.
        source: HostError,
    },
    /// A name or address that is refused to all.
    #[error("`{text}`: {refusal} addresses cannot be allowed")]
    Refused {
        /// The entry.
        text: String,
        /// Why.
        refusal: Refusal,
    },
}

impl FromStr for Rule {
    type Err = RuleError;

    /// `host`, `host:port`, `*.example.com`, `*.example.com:port`, `10.0.0.1:5432`, `[fd12::7]:5432`. A name
    /// with other letters is turned into its ASCII form (IDNA, UTS 46).
    fn from_str(text: &str) -> Result<Self, RuleError> {
        if text.contains("://") || text.contains('/') {
            return Err(RuleError::Url(text.to_owned()));
        }
        let fault = |source| RuleError::Host { text: text.to_owned(), source };
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, parse_port(port).map_err(fault)?),
            _ => (text, 443),
        };
        if host == "*" {
            return Err(RuleError::Everything);
        }
        let (below, host) = host.strip_prefix("*.").map_or((false, host), |parent| (true, parent));
        if host.contains('*') {
            return Err(RuleError::Star(text.to_owned()));
        }
        let host = Host::parse(&ascii(host).ok_or_else(|| fault(HostError::Characters))?).map_err(fault)?;
        let refused = |refusal| RuleError::Refused { text: text.to_owned(), refusal };
        let pattern = match host {
            Host::Name(name) if name == "localhost" || name.ends_with(".localhost") => {
                return Err(refused(Refusal::Loopback));
            }
            Host::Name(name) if below => Pattern::Below(format!(".{name}")),
            Host::Ip(_) if below => return Err(RuleError::Star(text.to_owned())),
            Host::Ip(address) => {
                address::judge(address).map_err(refused)?;
                Pattern::Exact(Host::Ip(address))
            }
            name @ Host::Name(_) => Pattern::Exact(name),
        };
        Ok(Self { pattern, port })
    }
}

/// The ASCII form of a name (`bücher.example` → `xn--bcher-kva.example`).
fn ascii(host: &str) -> Option<String> {
    if host.is_ascii() {
        return Some(host.to_owned());
    }
    let url = reqwest::Url::parse(&format!("https://{host}/")).ok()?;
    (url.username().is_empty() && url.port().is_none()).then(|| url.host_str().map(ToOwned::to_owned)).flatten()
}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pattern {
            Pattern::Exact(host) => write!(out, "{host}:{}", self.port),
            Pattern::Below(suffix) => write!(out, "*{suffix}:{}", self.port),
        }
    }
}

impl Rule {
    fn allows(&self, host: &Host, port: u16) -> bool {
        self.port == port
            && match (&self.pattern, host) {
                (Pattern::Exact(allowed), asked) => allowed == asked,
                (Pattern::Below(suffix), Host::Name(name)) => name.len() > suffix.len() && name.ends_with(suffix),
                (Pattern::Below(_), Host::Ip(_)) => false,
            }
    }
}

/// What one agent may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// `security.egress`.
    pub mode: Mode,
    /// `security.allowed_hosts`; they count in [`Mode::Allowlist`] only.
    pub rules: Vec<Rule>,
}

impl Policy {
    /// Every host.
    pub fn open() -> Self {
        Self { mode: Mode::Open, rules: Vec::new() }
    }

    /// No host.
    pub fn none() -> Self {
        Self { mode: Mode::None, rules: Vec::new() }
    }

    /// The hosts of `allowed_hosts`, each as [`Rule`] reads it; the first fault ends it.
    pub fn allowlist<'a>(allowed_hosts: impl IntoIterator<Item = &'a str>) -> Result<Self, RuleError> {
        let rules = allowed_hosts.into_iter().map(Rule::from_str).collect::<Result<_, _>>()?;
        Ok(Self { mode: Mode::Allowlist, rules })
    }

    /// The same of hosts that were accepted once: a rule that this version does not read allows nothing.
    pub fn allowlist_of_known<'a>(allowed_hosts: impl IntoIterator<Item = &'a str>) -> Self {
        Self { mode: Mode::Allowlist, rules: allowed_hosts.into_iter().filter_map(|rule| rule.parse().ok()).collect() }
    }

    /// Whether a connection to `host` at `port` is allowed. The address it resolves to is judged apart
    /// ([`address::judge`]), in every mode.
    pub fn allows(&self, host: &Host, port: u16) -> bool {
        match self.mode {
            Mode::Open => true,
            Mode::Allowlist => self.rules.iter().any(|rule| rule.allows(host, port)),
            Mode::None => false,
        }
    }

    /// The hosts and ports that a relay in a replica can listen for by name (DESIGN.md 3); patterns and
    /// addresses are reached through the proxy's own address only.
    pub fn names(&self) -> impl Iterator<Item = (&str, u16)> {
        let listed = if self.mode == Mode::Allowlist { self.rules.as_slice() } else { &[] };
        listed.iter().filter_map(|rule| match &rule.pattern {
            Pattern::Exact(Host::Name(name)) => Some((name.as_str(), rule.port)),
            Pattern::Exact(Host::Ip(_)) | Pattern::Below(_) => None,
        })
    }

    /// Whether some rule can be followed only through the proxy's own address (`HTTPS_PROXY`): a pattern or an
    /// address.
    pub fn has_patterns(&self) -> bool {
        self.mode == Mode::Allowlist && self.names().count() < self.rules.len()
    }

    /// What to change in the manifest so that `host` at `port` is allowed.
    pub(crate) fn remedy(&self, host: &Host, port: u16) -> String {
        let entry = if port == 443 { host.to_string() } else { format!("{host}:{port}") };
        match self.mode {
            Mode::None => format!(
                "\"egress\" is \"none\"; set rapidclaw.security.egress to \"allowlist\" and add \"{entry}\" to rapidclaw.security.allowed_hosts"
            ),
            Mode::Allowlist | Mode::Open => format!("add \"{entry}\" to rapidclaw.security.allowed_hosts"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(policy: &Policy, host: &str, port: u16) -> bool {
        policy.allows(&Host::parse(host).unwrap(), port)
    }

    #[test]
    fn a_listed_host_is_allowed_at_its_port_only() {
        let policy = Policy::allowlist(["api.Anthropic.com", "db.example.com:5432", "Bücher.example."]).unwrap();
        assert!(allows(&policy, "API.anthropic.com.", 443));
        assert!(allows(&policy, "db.example.com", 5432));
        assert!(allows(&policy, "xn--bcher-kva.example", 443));
        for (host, port) in [
            ("api.anthropic.com", 80),
            ("db.example.com", 443),
            ("evil-api.anthropic.com", 443),
            ("api.anthropic.com.evil.net", 443),
            ("anthropic.com", 443),
        ] {
            assert!(!allows(&policy, host, port), "{host}:{port}");
        }
        assert!(policy.names().count() == 3 && !policy.has_patterns());
    }

    #[test]
    fn a_wildcard_covers_names_below_and_nothing_else() {
        let policy = Policy::allowlist(["*.example.com"]).unwrap();
        assert!(allows(&policy, "a.example.com", 443) && allows(&policy, "a.b.EXAMPLE.com", 443));
        for host in ["example.com", "badexample.com", "example.com.evil.net", "10.0.0.1"] {
            assert!(!allows(&policy, host, 443), "{host}");
        }
        assert!(policy.names().next().is_none() && policy.has_patterns());
    }

    #[test]
    fn an_address_needs_a_rule_of_its_own() {
        let policy = Policy::allowlist(["10.0.0.5:5432", "[fd12::7]"]).unwrap();
        assert!(allows(&policy, "10.0.0.5", 5432) && allows(&policy, "[::ffff:10.0.0.5]", 5432));
        assert!(allows(&policy, "[fd12::7]", 443));
        assert!(!allows(&policy, "10.0.0.6", 5432));
    }

    #[test]
    fn faulty_rules_are_told_apart() {
        let fault = |text: &str| Rule::from_str(text).unwrap_err();
        assert_eq!(fault("*"), RuleError::Everything);
        assert!(matches!(fault("a.*.com"), RuleError::Star(_)));
        assert!(matches!(fault("*.10.0.0.1"), RuleError::Star(_)));
        assert!(matches!(fault("https://a.example"), RuleError::Url(_)));
        assert!(matches!(fault("a.example:http"), RuleError::Host { source: HostError::Port, .. }));
        assert!(matches!(fault(""), RuleError::Host { source: HostError::Empty, .. }));
        assert!(matches!(fault("fd12::7"), RuleError::Host { .. }));
        for text in ["localhost:80", "a.localhost", "127.0.0.1:8000", "[::1]:80", "169.254.169.254:80", "[fe80::1]"] {
            assert!(matches!(fault(text), RuleError::Refused { .. }), "{text}");
        }
    }

    #[test]
    fn modes_without_a_list_ignore_it() {
        let rules = vec![Rule::from_str("a.example").unwrap()];
        assert!(!allows(&Policy { mode: Mode::None, rules: rules.clone() }, "a.example", 443));
        assert!(allows(&Policy { mode: Mode::Open, rules }, "b.example", 1));
    }
}
