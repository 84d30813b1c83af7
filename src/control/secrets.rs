//! Secrets of an agent: changed one by one, and brought to its replicas.

use super::settings::AgentSettings;
use super::{Control, ControlError, secret_context};
use crate::api::control::{SecretView, SecretsRequest, SecretsResponse};
use crate::base::secret::{ExposeSecret as _, SecretString};
use crate::store::secrets::{SealedSecret, SecretChange};
use uuid::Uuid;

/// The longest name.
const NAME_BYTES: usize = 256;

impl Control {
    /// Names of the agent's secrets, and when they changed.
    pub async fn list_secrets(&self, agent: &str) -> Result<Vec<SecretView>, ControlError> {
        Ok(self.store().view_secrets(self.find(agent).await?.id).await?)
    }

    /// Changes the secrets that are named. Replicas that serve are replaced under the same release, one
    /// after the other.
    pub async fn change_secrets(&self, name: &str, request: SecretsRequest) -> Result<SecretsResponse, ControlError> {
        for (name, value) in &request.set.0 {
            check(name, value)?;
        }
        let agent = self.find(name).await?;
        let mut after = self.secrets(agent.id).await?;
        after.retain(|name, _| !request.unset.contains(name));
        after.extend(request.set.0.iter().map(|(name, value)| (name.clone(), value.clone())));
        let serving = match agent.serving_release {
            Some(release) => self.store().find_release(release).await?,
            None => None,
        };
        let mut notes = Vec::new();
        if let Some(serving) = &serving {
            let (_, settings) = AgentSettings::of(&serving.manifest.0, name)?;
            notes = self.check_models(&settings, &after)?;
        }
        let set = request.set.0.iter().map(|(name, value)| self.seal(agent.id, name, value));
        let set = set.collect::<Result<Vec<_>, _>>()?;
        // Scaled to nothing there is nobody to bring them to.
        let replace = serving.as_ref().filter(|_| agent.scale != Some(0)).map(|serving| serving.id);
        let change = SecretChange { set: &set, unset: &request.unset, replace, stale: agent.serving_is_stale };
        let (changed, rollout) = self.store().change_secrets(agent.id, change).await?;
        if rollout.is_some() {
            self.ensure_reconciler(&agent, Vec::new()).kick.notify_one();
        }
        Ok(SecretsResponse {
            changed,
            version: serving.map(|serving| serving.version),
            rollout: rollout.map(|rollout| rollout.id),
            notes,
        })
    }

    /// A secret as it is stored.
    pub(super) fn seal(&self, agent: Uuid, name: &str, value: &SecretString) -> Result<SealedSecret, ControlError> {
        let context = secret_context(agent, name);
        let mac = self.0.parts.key.mac(format!("{context}={}", value.expose_secret()).as_bytes());
        let sealed = self.0.parts.key.seal(&context, value.expose_secret())?;
        Ok(SealedSecret { name: name.to_owned(), sealed, mac: mac.to_vec(), by_hand: false })
    }
}

/// Whether an environment can hold it.
fn check(name: &str, value: &SecretString) -> Result<(), ControlError> {
    let fits = !name.is_empty() && name.len() <= NAME_BYTES;
    if !fits || name.contains(|one: char| one == '=' || one.is_whitespace() || one.is_control()) {
        return Err(ControlError::SecretName(name.chars().take(NAME_BYTES).collect()));
    }
    if value.expose_secret().contains('\0') {
        return Err(ControlError::SecretValue(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_environment_can_hold_is_refused_and_no_value_is_named() {
        let value = SecretString::from("sk-hidden");
        assert!(check("OPENAI_API_KEY", &value).is_ok());
        for name in ["", "A=B", "A B", "A\n", &"A".repeat(300)] {
            assert!(matches!(check(name, &value), Err(ControlError::SecretName(_))), "{name:?}");
        }
        let error = check("A", &SecretString::from("sk-hidden\0")).unwrap_err();
        assert!(matches!(error, ControlError::SecretValue(_)) && !error.to_string().contains("hidden"));
    }
}
