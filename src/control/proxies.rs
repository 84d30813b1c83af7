//! The proxy variables of a replica: the agent's own where they lead anywhere, ours where they are needed; and
//! what a deploy says of variables that lead nowhere. Pure.

use crate::base::secret::{ExposeSecret as _, SecretString};
use crate::egress::{Host, Mode, Policy};
use std::collections::BTreeMap;

/// What clients take for the way out, in both spellings.
const PROXIES: [&str; 6] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
/// What `LangChain`'s clients of the gateway's providers take for the way to it, whatever `NO_PROXY` says
/// (langchain-openai, langchain-anthropic).
const TO_MODELS: [&str; 2] = ["OPENAI_PROXY", "ANTHROPIC_PROXY"];
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];
/// What switches LangSmith's tracing on (its client's `LANGSMITH_` and `LANGCHAIN_` names).
const TRACING: [&str; 4] = ["LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING_V2", "LANGCHAIN_TRACING"];
/// The replica itself: the model gateway is there.
const HERE: [&str; 2] = ["127.0.0.1", "localhost"];

/// The agent's proxy variables that lead nowhere: a replica without a network reaches no proxy that is not
/// among its allowed hosts, and the model `gateway` is in the replica itself, behind none.
pub fn unused<'a>(policy: &Policy, gateway: bool, secrets: &'a BTreeMap<String, SecretString>) -> Vec<&'a str> {
    let is_lost = |(name, value): &(&String, &SecretString)| {
        let (name, value) = (name.as_str(), value.expose_secret());
        let to_models = TO_MODELS.contains(&name) && !value.trim().is_empty();
        to_models && gateway || (to_models || PROXIES.contains(&name)) && !leads_somewhere(policy, value)
    };
    secrets.iter().filter(is_lost).map(|(name, _)| name.as_str()).collect()
}

/// What a deploy says about them.
pub fn note(policy: &Policy, gateway: bool, secrets: &BTreeMap<String, SecretString>) -> Option<String> {
    let names = unused(policy, gateway, secrets);
    let why = if gateway && names.iter().all(|name| TO_MODELS.contains(name)) {
        "the model gateway is in the replica itself"
    } else {
        "a proxy has to be among rapidclaw.security.allowed_hosts"
    };
    (!names.is_empty()).then(|| format!("not used: {} ({why})", names.join(", ")))
}

/// What a deploy says about traces that go nowhere: LangSmith's client is on as soon as a variable says so.
pub fn note_of_tracing(policy: &Policy, secrets: &BTreeMap<String, SecretString>) -> Option<String> {
    let (name, host, port) = lost_traces(policy, secrets)?;
    Some(format!("{name} is not used: no trace would arrive; {}", policy.remedy(&host, port)))
}

/// Switches LangSmith's tracing off where no trace can arrive: its client would keep them, and the replica's
/// memory would grow with every turn.
pub fn without_lost_traces(
    policy: &Policy,
    secrets: &BTreeMap<String, SecretString>,
    env: &mut BTreeMap<String, String>,
) {
    if lost_traces(policy, secrets).is_some() {
        for name in TRACING {
            env.entry(name.to_owned()).and_modify(|value| "false".clone_into(value));
        }
    }
}

/// The variable that switches LangSmith's tracing on, and where its traces go, where the replica cannot reach that.
fn lost_traces(policy: &Policy, secrets: &BTreeMap<String, SecretString>) -> Option<(&'static str, Host, u16)> {
    let text = |name: &str| secrets.get(name).map(|value| value.expose_secret().trim().to_ascii_lowercase());
    let is_on = |name: &&str| text(name).is_some_and(|value| value == "true" || value == "1");
    let name = TRACING.into_iter().find(is_on)?;
    // Several endpoints, each with its key: some of them may be reached.
    if text("LANGSMITH_RUNS_ENDPOINTS").is_some() {
        return None;
    }
    let endpoint = ["LANGSMITH_ENDPOINT", "LANGCHAIN_ENDPOINT"].into_iter().find_map(text);
    let url = reqwest::Url::parse(&endpoint.unwrap_or_else(|| "https://api.smith.langchain.com".to_owned())).ok()?;
    let host = Host::parse(url.host_str()?).ok()?;
    let port = url.port_or_known_default()?;
    (!HERE.contains(&url.host_str()?) && !policy.allows(&host, port)).then_some((name, host, port))
}

/// Puts the variables right: `ours` is the egress proxy of the replica, where patterns need one, and `direct`
/// are the hosts that are reached without it. [`unused`] names have been taken out.
pub fn complete(env: &mut BTreeMap<String, String>, ours: Option<&str>, direct: &[&str]) {
    let given: Vec<String> = NO_PROXY.iter().filter_map(|name| env.get(*name).cloned()).collect();
    let mut without: Vec<&str> = HERE.to_vec();
    if let Some(proxy) = ours {
        for name in ["HTTPS_PROXY", "https_proxy"] {
            env.entry(name.to_owned()).or_insert_with(|| proxy.to_owned());
        }
        without.extend(direct);
    }
    for host in given.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|host| !host.is_empty()) {
        if !without.contains(&host) {
            without.push(host);
        }
    }
    let without = without.join(",");
    for name in NO_PROXY {
        env.insert(name.to_owned(), without.clone());
    }
}

/// Whether a replica under this policy can reach the proxy at all. An empty value asks for none.
fn leads_somewhere(policy: &Policy, proxy: &str) -> bool {
    let proxy = proxy.trim();
    if policy.mode == Mode::Open || proxy.is_empty() {
        return true;
    }
    let url = if proxy.contains("://") { proxy.to_owned() } else { format!("http://{proxy}") };
    let Ok(url) = reqwest::Url::parse(&url) else { return false };
    let (Some(name), Some(port)) = (url.host_str(), url.port_or_known_default().or(Some(1080))) else { return false };
    HERE.contains(&name) || Host::parse(name).is_ok_and(|host| policy.allows(&host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(given: &[(&str, &str)]) -> BTreeMap<String, SecretString> {
        given.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect()
    }

    fn completed(given: &[(&str, &str)], ours: Option<&str>, direct: &[&str]) -> BTreeMap<String, String> {
        let mut env = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        complete(&mut env, ours, direct);
        env
    }

    #[test]
    fn a_proxy_counts_where_the_replica_reaches_it() {
        let policy = Policy::allowlist(["proxy.example.com:3128", "10.1.2.3:8080"]).unwrap();
        let given = secrets(&[
            ("HTTP_PROXY", "http://10.0.0.1:3128"),
            ("http_proxy", "http://user:word@proxy.example.com:3128/"),
            ("HTTPS_PROXY", "proxy.example.com:3128"),
            ("https_proxy", "http://proxy.example.com"),
            ("ALL_PROXY", "socks5h://10.1.2.3:8080"),
            ("all_proxy", ""),
            ("OTHER_PROXY", "http://10.0.0.1:3128"),
        ]);
        assert_eq!(unused(&policy, true, &given), ["HTTP_PROXY", "https_proxy"]);
        assert_eq!(
            note(&policy, true, &given).unwrap(),
            "not used: HTTP_PROXY, https_proxy (a proxy has to be among rapidclaw.security.allowed_hosts)"
        );
        assert_eq!(note(&Policy::open(), true, &given), None);
        assert_eq!(unused(&Policy::none(), true, &given).len(), 5);
        let local = secrets(&[("HTTPS_PROXY", "http://127.0.0.1:9000"), ("HTTP_PROXY", "::not a url::")]);
        assert_eq!(unused(&Policy::none(), true, &local), ["HTTP_PROXY"]);
        // The gateway is never behind one, though it be allowed; without a gateway the provider may be.
        let models = secrets(&[("OPENAI_PROXY", "http://proxy.example.com:3128"), ("ANTHROPIC_PROXY", "")]);
        assert_eq!(unused(&policy, true, &models), ["OPENAI_PROXY"]);
        assert_eq!(
            note(&policy, true, &models).unwrap(),
            "not used: OPENAI_PROXY (the model gateway is in the replica itself)"
        );
        assert_eq!(unused(&policy, false, &models), [""; 0]);
        assert_eq!(unused(&Policy::none(), false, &models), ["OPENAI_PROXY"]);
    }

    #[test]
    fn traces_that_go_nowhere_are_said() {
        let policy = Policy::allowlist(["traces.example.com"]).unwrap();
        let of = |given: &[(&str, &str)]| note_of_tracing(&policy, &secrets(given));
        let note = of(&[("LANGSMITH_TRACING", "true"), ("LANGSMITH_API_KEY", "x")]).unwrap();
        assert!(
            note.starts_with("LANGSMITH_TRACING is not used") && note.contains("\"api.smith.langchain.com\""),
            "{note}"
        );
        assert_eq!(of(&[("LANGSMITH_TRACING", "false")]), None);
        let elsewhere = [("LANGCHAIN_TRACING_V2", "True"), ("LANGCHAIN_ENDPOINT", "https://traces.example.com/api")];
        assert_eq!(of(&elsewhere), None);
        assert_eq!(of(&[("LANGSMITH_TRACING", "1"), ("LANGSMITH_ENDPOINT", "http://127.0.0.1:4318")]), None);
        assert_eq!(of(&[("LANGSMITH_TRACING", "1"), ("LANGSMITH_RUNS_ENDPOINTS", "{}")]), None);
        assert_eq!(note_of_tracing(&Policy::open(), &secrets(&[("LANGSMITH_TRACING", "1")])), None);

        let given = [("LANGSMITH_TRACING", "true"), ("LANGCHAIN_TRACING_V2", "1"), ("LANGSMITH_PROJECT", "p")];
        let env_under = |policy: &Policy| {
            let mut env = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            without_lost_traces(policy, &secrets(&given), &mut env);
            env.into_values().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            (env_under(&policy), env_under(&Policy::open())),
            ("false p false".to_owned(), "1 p true".to_owned())
        );
    }

    #[test]
    fn the_replica_itself_is_never_behind_a_proxy() {
        let env = completed(&[("HTTP_PROXY", "http://10.0.0.1:3128")], None, &["api.example.com"]);
        assert_eq!(
            (env["NO_PROXY"].as_str(), env["no_proxy"].as_str()),
            ("127.0.0.1,localhost", "127.0.0.1,localhost")
        );
        let env = completed(&[("no_proxy", "a.example, localhost,b.example")], None, &[]);
        assert_eq!(env["NO_PROXY"], "127.0.0.1,localhost,a.example,b.example");
        assert_eq!(env["NO_PROXY"], env["no_proxy"]);
    }

    #[test]
    fn ours_serves_patterns_unless_the_agent_has_one_that_works() {
        let ours = Some("http://127.0.0.1:4181");
        let env = completed(&[("NO_PROXY", "*")], ours, &["api.example.com"]);
        assert_eq!(env["HTTPS_PROXY"], "http://127.0.0.1:4181");
        assert_eq!(env["no_proxy"], "127.0.0.1,localhost,api.example.com,*");
        let env = completed(&[("HTTPS_PROXY", "http://proxy.example.com:3128")], ours, &[]);
        assert_eq!(env["HTTPS_PROXY"], "http://proxy.example.com:3128");
    }
}
