//! Secrets of an agent: changed one by one, and brought to its replicas.

use super::deploy::TRIES;
use super::settings::AgentSettings;
use super::{Control, ControlError, secret_context};
use crate::api::control::{SecretView, SecretsRequest, SecretsResponse};
use crate::base::secret::{ExposeSecret as _, SecretString};
use crate::store::StoreError;
use crate::store::deploys::NewDeploy;
use crate::store::rollouts::NewRollout;
use crate::store::secrets::{SealedSecret, SecretChange, after};
use uuid::Uuid;

/// The longest name.
const NAME_BYTES: usize = 256;

impl Control {
    /// Names of the agent's secrets, and when they changed.
    pub async fn list_secrets(&self, agent: &str) -> Result<Vec<SecretView>, ControlError> {
        Ok(self.store().view_secrets(self.find(agent).await?.id).await?)
    }

    /// Changes the secrets that are named, as a new release of what serves, whose replicas replace the others one after
    /// the other. Where nothing serves, the next deploy brings them. It goes on when its caller goes away.
    pub async fn change_secrets(&self, name: &str, request: SecretsRequest) -> Result<SecretsResponse, ControlError> {
        let (control, name) = (self.clone(), name.to_owned());
        self.see_through(async move { control.accept_secrets(&name, request).await }).await
    }

    async fn accept_secrets(&self, name: &str, request: SecretsRequest) -> Result<SecretsResponse, ControlError> {
        for (name, value) in &request.set.0 {
            check(name, value)?;
        }
        let agent = self.find(name).await?;
        let serving = self.serving(Some(&agent)).await?;
        let set = request.set.0.iter().map(|(name, value)| self.seal(agent.id, name, value));
        let set = set.collect::<Result<Vec<_>, _>>()?;
        let rotate = set.first().filter(|_| request.rotate);
        if let Some(rotated) = rotate
            && !self.store().has_secret(agent.id, &rotated.name).await?
        {
            return Err(ControlError::NoSuchSecret { agent: name.to_owned(), name: rotated.name.clone() });
        }
        let mut tries = 0;
        let (deployed, notes) = loop {
            let current = self.store().current_secret_set(agent.id).await?;
            let before = self.store().list_secrets(agent.id, current).await?;
            // What only older sets hold is replaced there alone.
            let is_current = |rotated: &SealedSecret| before.iter().any(|one| one.name == rotated.name);
            let set = if rotate.is_none_or(is_current) { &set[..] } else { &[] };
            let change = SecretChange::Edit { set, unset: &request.unset };
            let wanted = self.open_secrets(agent.id, &after(&before, change).0)?;
            let notes = match &serving {
                Some(serving) => self.check_models(&AgentSettings::of_release(serving, name)?, &wanted)?,
                None => Vec::new(),
            };
            let deploy = NewDeploy {
                release: None,
                secrets: change,
                current_set: current,
                rotate,
                key: None,
                rollout: NewRollout::default(),
            };
            match self.store().deploy(agent.id, deploy).await {
                Err(StoreError::SecretsChanged) if tries < TRIES => tries += 1,
                deployed => break (deployed?, notes),
            }
        };
        if deployed.begun.is_some() {
            self.ensure_reconciler(&agent, Vec::new()).kick.notify_one();
        }
        let (version, rollout) = match &deployed.begun {
            Some((release, rollout)) => (Some(release.version), Some(rollout.id)),
            None => (serving.map(|serving| serving.version), None),
        };
        Ok(SecretsResponse { changed: deployed.secrets.changed, version, rollout, rotated: deployed.rotated, notes })
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
