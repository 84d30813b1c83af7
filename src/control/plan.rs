//! `POST /v1/agents/NAME/deploys/plan`: what a deploy would do. It changes nothing.

use super::database;
use super::deploy::{notes_of, wanted_secrets};
use super::settings::{AgentSettings, resolve};
use super::{Control, ControlError};
use crate::api::control::{DeployOutcome, DeployPlan, DeployRequest};
use crate::base::secret::{ExposeSecret as _, SecretString};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

impl Control {
    /// Compares what would be deployed with what serves. The image need not be there yet.
    pub async fn plan_deploy(&self, name: &str, request: &DeployRequest) -> Result<DeployPlan, ControlError> {
        let (manifest, spec) = resolve(&request.manifest, name)?;
        let settings = AgentSettings::of(&spec);
        let agent = self.store().find_agent(name).await?;
        let (_, current) = self.current_secrets(agent.as_ref()).await?;
        let wanted = wanted_secrets(&current, request.secrets.as_ref());
        let mut notes = self.check_models(&settings, &wanted)?;
        notes.extend(database::note(settings.database, &wanted));
        notes.extend(notes_of(&manifest));
        let serving = self.serving(agent.as_ref()).await?;
        let kept = current.into_iter().map(|(name, (value, _))| (name, value)).collect();
        let secrets = secrets_changed(&kept, &wanted);
        let Some(serving) = serving else {
            let first = if agent.is_none() { "the agent is new" } else { "nothing of the agent serves" };
            let changes = [vec![first.to_owned()], secrets].concat();
            return Ok(DeployPlan { outcome: DeployOutcome::Rollout, serving: None, changes, notes });
        };
        let mut changes = manifest_changed(&serving.manifest.0, &request.manifest);
        if serving.inputs_digest != request.inputs_digest && changes.is_empty() {
            changes.push("image: what it is made from".to_owned());
        }
        let outcome = if !changes.is_empty() {
            DeployOutcome::Rollout
        } else if !secrets.is_empty() {
            DeployOutcome::Secrets
        } else {
            DeployOutcome::Unchanged
        };
        changes.extend(secrets);
        Ok(DeployPlan { outcome, serving: Some(serving.version), changes, notes })
    }
}

/// One line a secret that would be another. Never a value.
fn secrets_changed(kept: &BTreeMap<String, SecretString>, wanted: &BTreeMap<String, SecretString>) -> Vec<String> {
    let names: BTreeSet<&String> = kept.keys().chain(wanted.keys()).collect();
    let change = |name: &String| match (kept.get(name), wanted.get(name)) {
        (None, Some(_)) => Some("new"),
        (Some(_), None) => Some("forgotten"),
        (Some(one), Some(two)) if one.expose_secret() != two.expose_secret() => Some("changed"),
        _ => None,
    };
    names.into_iter().filter_map(|name| Some(format!("secret {name}: {}", change(name)?))).collect()
}

/// One line a key that would be another, by its path. Never a value: `env` may hold secrets.
fn manifest_changed(before: &Value, after: &Value) -> Vec<String> {
    let mut changed = Vec::new();
    differ("", before, after, &mut changed);
    changed.into_iter().map(|path| format!("manifest: {path}")).collect()
}

fn differ(path: &str, before: &Value, after: &Value, changed: &mut Vec<String>) {
    match (before, after) {
        (one, two) if one == two => {}
        (Value::Object(one), Value::Object(two)) => {
            let names: BTreeSet<&String> = one.keys().chain(two.keys()).collect();
            for name in names {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let of = |map: &serde_json::Map<String, Value>| map.get(name).cloned().unwrap_or_default();
                differ(&path, &of(one), &of(two), changed);
            }
        }
        _ => changed.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_would_change_is_named_and_never_shown() {
        let before = json!({ "env": { "KEY": "one" }, "graphs": { "a": "x" }, "rapidclaw": { "min_replicas": 1 } });
        let after =
            json!({ "env": { "KEY": "two" }, "graphs": { "a": "x" }, "rapidclaw": { "min_replicas": 2, "name": "n" } });
        let changed = manifest_changed(&before, &after);
        assert_eq!(changed, ["manifest: env.KEY", "manifest: rapidclaw.min_replicas", "manifest: rapidclaw.name"]);
        let map = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), SecretString::from(*value)))
                .collect::<BTreeMap<_, _>>()
        };
        let lines =
            secrets_changed(&map(&[("A", "1"), ("B", "1"), ("C", "1")]), &map(&[("B", "2"), ("C", "1"), ("D", "1")]));
        assert_eq!(lines, ["secret A: forgotten", "secret B: changed", "secret D: new"]);
    }
}
