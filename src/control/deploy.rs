//! `POST /v1/agents/NAME/deploys`: a new release, or nothing when nothing changed.

use super::settings::AgentSettings;
use super::{Control, ControlError};
use crate::api::control::{DeployOutcome, DeployRequest, DeployResponse, RolloutView, SecretMap};
use crate::base::secret::SecretString;
use crate::manifest::{Egress, Manifest};
use crate::models::{Inputs, plan};
use crate::release::state::Phase;
use crate::store::StoreError;
use crate::store::agents::Agent;
use crate::store::checkpoints::{self, Schema};
use crate::store::releases::{NewRelease, Release};
use crate::store::rollouts::NewRollout;
use crate::store::secrets::DeployedSecrets;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

impl Control {
    /// Accepts a deploy. What it leads to is watched as a rollout.
    pub async fn deploy(&self, name: &str, mut request: DeployRequest) -> Result<DeployResponse, ControlError> {
        let (manifest, settings) = AgentSettings::of(&request.manifest, name)?;
        let known = self.store().find_agent(name).await?;
        if let Some(agent) = &known
            && let Some(begun) = self.begun_before(agent, request.rollout).await?
        {
            return Ok(self.deploy_begun_before(agent, &begun));
        }
        let serving = match known.as_ref().and_then(|agent| agent.serving_release) {
            Some(release) => self.store().find_release(release).await?,
            None => None,
        };
        if let Some(pushed) = &request.pushed {
            let began = Instant::now();
            request.image = self.bring_image(name, pushed, serving.as_ref()).await?;
            // The way from the registry into the engine is the last part of the push.
            if let Some(push) = request.client_phases.iter_mut().find(|one| one.phase == Phase::Push) {
                push.seconds += began.elapsed().as_secs_f64();
            }
        }
        if !self.can_run(&request.image).await? {
            return Err(ControlError::NoImage(request.image));
        }
        let secrets = self.secrets_after(known.as_ref(), request.secrets.as_ref()).await?;
        // A deploy that is refused leaves no agent behind.
        let mut notes = self.check_models(&settings, &secrets)?;
        let agent = self.store().ensure_agent(name).await?;
        if self.store().running_rollout(agent.id).await?.is_some() {
            return Err(StoreError::RolloutUnderWay.into());
        }
        checkpoints::ensure_schema(self.store().pool(), &Schema::new(&agent.schema_name)?).await?;
        notes.extend(self.prepare_database(&agent, settings.database, &secrets).await?);
        let secrets_changed = match &request.secrets {
            Some(secrets) => {
                let sealed = secrets.0.iter().map(|(name, value)| self.seal(agent.id, name, value));
                let sealed = sealed.collect::<Result<Vec<_>, _>>()?;
                let done = self.store().deploy_secrets(agent.id, &sealed).await?;
                notes.extend(notes_of_secrets(name, &done));
                done.changed
            }
            None => {
                if !secrets.is_empty() {
                    notes.push("no .env here: the values last deployed stay".to_owned());
                }
                false
            }
        };
        notes.extend(notes_of(&manifest));
        if agent.scale == Some(0) {
            notes.push(format!("scaled to 0: nothing is started or tried; `rapidclaw scale {name} auto` starts it"));
        }
        let key = if self.store().list_keys(agent.id).await?.is_empty() {
            Some(self.create_key(name, "first deploy").await?.key)
        } else {
            None
        };
        let unchanged = serving.as_ref().filter(|serving| is_same(serving, &request));
        let _named = self.keep_image(name, &request.image).await?;
        let (outcome, version, rollout) = match unchanged {
            // Replicas that serve have other secrets, too, when the deploy that brought today's has failed.
            Some(serving) if !secrets_changed && !agent.serving_is_stale => {
                (DeployOutcome::Unchanged, serving.version, None)
            }
            Some(serving) => {
                let begin = NewRollout { id: request.rollout, ..NewRollout::default() };
                let rollout = self.store().begin_replacement(agent.id, serving.id, begin).await?;
                (DeployOutcome::Secrets, serving.version, Some(rollout.id))
            }
            None => {
                let new = NewRelease {
                    image: request.image,
                    inputs_digest: request.inputs_digest,
                    manifest: request.manifest,
                    folder: request.folder,
                    secret_names: secrets.keys().cloned().collect(),
                    source_revision: request.source_revision,
                    copy_of: None,
                    pushed: request.pushed,
                };
                let begin = NewRollout { id: request.rollout, phases: &request.client_phases, standby: None };
                let (release, rollout) = self.store().begin_rollout(agent.id, &new, begin).await?;
                (DeployOutcome::Rollout, release.version, Some(rollout.id))
            }
        };
        self.ensure_reconciler(&agent, Vec::new()).kick.notify_one();
        let url = self.agent_url(name);
        Ok(DeployResponse { outcome, version, rollout, key, url, notes })
    }

    /// The answer to a deploy that was accepted before and whose answer was lost.
    fn deploy_begun_before(&self, agent: &Agent, begun: &RolloutView) -> DeployResponse {
        let first = begun.from_version.is_none();
        let lost = "the first key was made, and its answer was lost; `rapidclaw keys create` makes another";
        DeployResponse {
            outcome: DeployOutcome::Rollout,
            version: begun.version,
            rollout: Some(begun.id),
            key: None,
            url: self.agent_url(&agent.name),
            notes: first.then(|| lost.to_owned()).into_iter().collect(),
        }
    }

    /// Whether the model gateway can serve these secrets under these egress rules.
    pub(super) fn check_models(
        &self,
        settings: &AgentSettings,
        secrets: &BTreeMap<String, SecretString>,
    ) -> Result<Vec<String>, ControlError> {
        let key = self.0.parts.key.derive("check");
        let inputs = Inputs {
            overrides: &self.0.parts.providers,
            gateway: settings.model_gateway,
            ..Inputs::new(secrets, &settings.policy, &key)
        };
        let mut notes = plan(inputs).map_err(super::SettingsError::from)?.notes;
        notes.extend(super::proxies::note(&settings.policy, settings.model_gateway, secrets));
        notes.extend(super::proxies::note_of_tracing(&settings.policy, secrets));
        Ok(notes)
    }

    /// The agent's secrets as they are once the deploy has brought its own.
    async fn secrets_after(
        &self,
        known: Option<&Agent>,
        deployed: Option<&SecretMap>,
    ) -> Result<BTreeMap<String, SecretString>, ControlError> {
        let mut secrets = match known {
            Some(agent) => self.secrets(agent.id).await?,
            None => BTreeMap::new(),
        };
        if let (Some(SecretMap(deployed)), Some(agent)) = (deployed, known) {
            let by_hand = self.store().list_secrets(agent.id).await?.into_iter().filter(|one| one.by_hand);
            let by_hand: BTreeSet<String> = by_hand.map(|one| one.name).collect();
            secrets.retain(|name, _| by_hand.contains(name));
            secrets.extend(deployed.clone());
        } else if let Some(SecretMap(deployed)) = deployed {
            secrets.clone_from(deployed);
        }
        Ok(secrets)
    }
}

fn is_same(serving: &Release, request: &DeployRequest) -> bool {
    serving.image == request.image
        && serving.inputs_digest == request.inputs_digest
        && serving.manifest.0 == request.manifest
}

/// No secret comes or goes without a line.
fn notes_of_secrets(agent: &str, done: &DeployedSecrets) -> Vec<String> {
    let DeployedSecrets { forgotten, kept, overwritten, changed: _ } = done;
    let mut notes = Vec::new();
    if !forgotten.is_empty() {
        notes.push(format!("secrets that were not deployed with it are forgotten: {}", forgotten.join(", ")));
    }
    if !overwritten.is_empty() {
        notes.push(format!(
            "secrets that were set by hand have the values of this deploy now: {}",
            overwritten.join(", ")
        ));
    }
    if !kept.is_empty() {
        let names = kept.join(", ");
        notes.push(format!(
            "secrets that were set by hand stay: {names} (`rapidclaw secrets unset {agent}` forgets them)"
        ));
    }
    notes
}

pub(super) fn notes_of(manifest: &Manifest) -> Vec<String> {
    let mut notes = manifest.notes_of_later();
    if manifest.section.security.egress == Egress::Open {
        notes.push("egress is open: the agent may reach any host (rapidclaw.security.egress)".to_owned());
    }
    notes
}
