//! What a replica is told (`replica.json`) and what serves its sockets, worked out from its release and
//! the agent's secrets. Pure.

use super::proxies;
use super::settings::{AgentSettings, SettingsError};
use crate::base::plain::secret_parts;
use crate::base::secret::{ExposeSecret as _, MasterKey, SecretString};
use crate::models::{self, Inputs, ProviderOverride, Route, plan};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use uuid::Uuid;

/// Sockets of the server's side.
pub const MODELS_SOCKET: &str = "models.sock";
/// The egress proxy's.
pub const EGRESS_SOCKET: &str = "egress.sock";
/// Where the relay in the replica listens for the model gateway and for `HTTPS_PROXY`.
const MODELS_PORT: u16 = 4180;
const PROXY_PORT: u16 = 4181;

/// What is known of a replica before it starts.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// Its id.
    pub replica: Uuid,
    /// Its agent's name.
    pub agent: &'a str,
    /// Its release's number.
    pub version: i32,
}

/// All of it.
#[derive(Debug)]
pub struct ReplicaFiles {
    /// `replica.json`.
    pub json: Vec<u8>,
    /// Names on the replica's own loopback.
    pub hosts: Vec<(String, IpAddr)>,
    /// For the model gateway.
    pub route: Route,
    /// Proves the gateway to the replica.
    pub secret: SecretString,
}

/// The secret that proves a gateway to a replica; the server can derive it again after a restart.
pub fn replica_secret(key: &MasterKey, replica: Uuid) -> SecretString {
    key.derive(&format!("replica/{replica}"))
}

/// Works it out.
pub fn replica_files(
    identity: Identity<'_>,
    settings: &AgentSettings,
    secrets: &BTreeMap<String, SecretString>,
    providers: &[ProviderOverride],
    key: &MasterKey,
) -> Result<ReplicaFiles, SettingsError> {
    let id = identity.replica.to_string();
    let gateway_key = SecretString::from(format!("rcg_{}", key.derive(&format!("models/{id}")).expose_secret()));
    let models = plan(Inputs {
        agent: identity.agent,
        replica: &id,
        secrets,
        overrides: providers,
        gateway_key: &gateway_key,
        policy: &settings.policy,
        gateway: settings.model_gateway,
        origin: models::Defaults::ORIGIN,
    })?;
    let unused = proxies::unused(&settings.policy, settings.model_gateway, secrets);
    let mut env: BTreeMap<String, String> = models
        .env
        .iter()
        .filter(|(name, _)| !unused.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.expose_secret().to_owned()))
        .collect();
    let mut hosts: Vec<(String, IpAddr)> = Vec::new();
    let mut relay =
        vec![json!({ "address": "127.0.0.1", "port": MODELS_PORT, "socket": MODELS_SOCKET, "connect": null })];
    let names: Vec<(&str, u16)> = settings.policy.names().collect();
    for (name, port) in &names {
        let address = match hosts.iter().find(|(known, _)| known == name) {
            Some((_, address)) => *address,
            None => {
                let address = loopback(hosts.len());
                hosts.push(((*name).to_owned(), address));
                address
            }
        };
        relay.push(json!({
            "address": address, "port": port, "socket": EGRESS_SOCKET, "connect": format!("{name}:{port}"),
        }));
    }
    let proxy = format!("http://127.0.0.1:{PROXY_PORT}");
    let direct: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
    // Patterns and addresses have no name to listen for.
    let has_patterns = settings.policy.has_patterns();
    if has_patterns {
        relay.push(json!({ "address": "127.0.0.1", "port": PROXY_PORT, "socket": EGRESS_SOCKET, "connect": null }));
    }
    proxies::without_lost_traces(&settings.policy, secrets, &mut env);
    proxies::complete(&mut env, has_patterns.then_some(proxy.as_str()), &direct);
    let secret = replica_secret(key, identity.replica);
    let plain: Vec<&String> =
        env.iter().filter(|(name, value)| secret_parts(name, value).is_empty()).map(|(name, _)| name).collect();
    let json = json!({
        "replica": id, "agent": identity.agent, "version": identity.version, "secret": secret.expose_secret(),
        "env": env, "checkpointer": settings.checkpointer, "serde": settings.serde, "concurrency": settings.runs_per_replica,
        "log_level": settings.log_level, "relay": relay, "plain": plain,
    });
    Ok(ReplicaFiles { json: json.to_string().into_bytes(), hosts, route: models.route, secret })
}

/// 127.0.0.2 and on: 127.0.0.1 is the replica's own.
fn loopback(index: usize) -> IpAddr {
    let number = u32::try_from(index + 2).unwrap_or(u32::MAX) & 0x00ff_ffff;
    IpAddr::V4(Ipv4Addr::from(0x7f00_0000 | number))
}
