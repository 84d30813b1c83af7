//! `POST /v1/agents/NAME/deploys`: a new release, or nothing when nothing changed.

use super::access::Key;
use super::settings::{AgentSettings, resolve};
use super::{Control, ControlError};
use crate::api::control::{DeployOutcome, DeployRequest, DeployResponse, RolloutView, SecretMap};
use crate::base::secret::SecretString;
use crate::manifest::{Egress, Manifest};
use crate::models::{Inputs, plan};
use crate::release::spec::ReleaseSpec;
use crate::release::state::Phase;
use crate::store::StoreError;
use crate::store::agents::Agent;
use crate::store::checkpoints::{self, Schema};
use crate::store::deploys::{Deployed, NewDeploy};
use crate::store::releases::{NewRelease, Release};
use crate::store::rollouts::NewRollout;
use crate::store::secrets::{SealedSecret, SecretChange, SecretDiff};
use std::collections::BTreeMap;
use std::time::Instant;
use uuid::Uuid;

/// A deploy that is stored.
struct Stored {
    agent: Agent,
    deployed: Deployed,
    /// Lines for the user.
    notes: Vec<String>,
}

/// How often a deploy is judged anew because somebody changed the agent's secrets meanwhile.
pub(super) const TRIES: u32 = 5;

impl Control {
    /// Accepts a deploy. What it leads to is watched as a rollout. It goes on when its caller goes away.
    pub async fn deploy(&self, name: &str, request: DeployRequest) -> Result<DeployResponse, ControlError> {
        let (control, name) = (self.clone(), name.to_owned());
        self.see_through(async move { control.accept_deploy(&name, request).await }).await
    }

    /// Sees a change through to its end, whether or not who asked for it still listens.
    pub(super) async fn see_through<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, ControlError>> + Send + 'static,
    ) -> Result<T, ControlError> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.0.parts.shutdown.spawn_until_cancelled(async move {
            let _ = sender.send(change.await);
        });
        receiver.await.map_err(|_| ControlError::Stopped)?
    }

    async fn accept_deploy(&self, name: &str, mut request: DeployRequest) -> Result<DeployResponse, ControlError> {
        let (manifest, spec) = resolve(&request.manifest, name)?;
        let known = self.store().find_agent(name).await?;
        if let Some(agent) = &known
            && let Some(begun) = self.begun_before(agent, request.rollout).await?
        {
            return Ok(self.deploy_begun_before(agent, &begun));
        }
        let serving = self.serving(known.as_ref()).await?;
        self.have_image(name, &mut request, serving.as_ref()).await?;
        let key = Key::new()?;
        let Stored { agent, deployed, mut notes } = self.store_deploy(name, known, &request, &spec, &key).await?;
        if request.secrets.is_none() && deployed.has_secrets {
            notes.push(note_of_kept(serving.as_ref()));
        }
        notes.extend(notes_of_secrets(name, &deployed.secrets));
        notes.extend(notes_of(&manifest));
        if agent.scale == Some(0) {
            notes.push(format!("scaled to 0: nothing is started or tried; `rapidclaw scale {name} auto` starts it"));
        }
        let key = if deployed.has_key {
            self.gateway().reload_keys().await?;
            Some(key.value)
        } else {
            None
        };
        self.ensure_reconciler(&agent, Vec::new()).kick.notify_one();
        let url = self.agent_url(name);
        let (outcome, version, rollout) = match (deployed.begun, serving) {
            (Some((release, rollout)), _) if rollout.rolling => {
                (DeployOutcome::Secrets, release.version, Some(rollout.id))
            }
            (Some((release, rollout)), _) => (DeployOutcome::Rollout, release.version, Some(rollout.id)),
            (None, serving) => (DeployOutcome::Unchanged, serving.map_or(0, |serving| serving.version), None),
        };
        Ok(DeployResponse { outcome, version, rollout, key, url, notes })
    }

    /// Sees to it that the engine has the image, from the registry where the request names it there.
    async fn have_image(
        &self,
        name: &str,
        request: &mut DeployRequest,
        serving: Option<&Release>,
    ) -> Result<(), ControlError> {
        if let Some(pushed) = &request.pushed {
            let began = Instant::now();
            request.image = self.bring_image(name, pushed, serving).await?;
            // The way from the registry into the engine is the last part of the push.
            if let Some(push) = request.client_phases.iter_mut().find(|one| one.phase == Phase::Push) {
                push.seconds += began.elapsed().as_secs_f64();
            }
        }
        if self.can_run(name, &request.image).await? {
            Ok(())
        } else {
            Err(ControlError::NoImage(request.image.clone()))
        }
    }

    /// Judges a deploy by the agent's current secrets and stores it: anew, where they were changed meanwhile.
    async fn store_deploy(
        &self,
        name: &str,
        mut known: Option<Agent>,
        request: &DeployRequest,
        spec: &ReleaseSpec,
        key: &Key,
    ) -> Result<Stored, ControlError> {
        let settings = AgentSettings::of(spec);
        let new = NewRelease {
            image: request.image.clone(),
            inputs_digest: request.inputs_digest.clone(),
            manifest: request.manifest.clone(),
            folder: request.folder.clone(),
            spec: spec_json(spec),
            source_revision: request.source_revision.clone(),
            copy_of: None,
            pushed: request.pushed.clone(),
        };
        let mut tries = 0;
        loop {
            let (set, before) = self.current_secrets(known.as_ref()).await?;
            let wanted = wanted_secrets(&before, request.secrets.as_ref());
            let mut notes = self.check_models(&settings, &wanted)?;
            // A deploy that is refused leaves no agent behind.
            let agent = self.store().ensure_agent(name).await?;
            if self.store().running_rollout(agent.id).await?.is_some() {
                return Err(StoreError::RolloutUnderWay.into());
            }
            checkpoints::ensure_schema(self.store().pool(), &Schema::new(&agent.schema_name)?).await?;
            notes.extend(self.prepare_database(&agent, settings.database, &wanted).await?);
            let sealed = self.seal_all(agent.id, request.secrets.as_ref())?;
            let _named = self.keep_image(name, &new.image).await?;
            let deploy = NewDeploy {
                release: Some(&new),
                secrets: sealed.as_deref().map_or(SecretChange::Keep, SecretChange::Deploy),
                current_set: set,
                rotate: None,
                key: Some(key.stored()),
                rollout: NewRollout { id: request.rollout, phases: &request.client_phases, ..NewRollout::default() },
            };
            match self.store().deploy(agent.id, deploy).await {
                Err(StoreError::SecretsChanged) if tries < TRIES => tries += 1,
                deployed => return Ok(Stored { agent, deployed: deployed?, notes }),
            }
            known = Some(agent);
        }
    }

    /// The release that serves.
    pub(super) async fn serving(&self, agent: Option<&Agent>) -> Result<Option<Release>, ControlError> {
        match agent.and_then(|agent| agent.serving_release) {
            Some(release) => Ok(self.store().find_release(release).await?),
            None => Ok(None),
        }
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

    /// The agent's current secrets, opened, with the number of their set and whether each was set by hand.
    pub(super) async fn current_secrets(&self, agent: Option<&Agent>) -> Result<(i32, CurrentSecrets), ControlError> {
        let Some(agent) = agent else { return Ok((0, CurrentSecrets::new())) };
        let set = self.store().current_secret_set(agent.id).await?;
        let sealed = self.store().list_secrets(agent.id, set).await?;
        let mut values = self.open_secrets(agent.id, &sealed)?;
        let with_origin = |one: SealedSecret| Some((one.name.clone(), (values.remove(&one.name)?, one.by_hand)));
        Ok((set, sealed.into_iter().filter_map(with_origin).collect()))
    }

    fn seal_all(&self, agent: Uuid, secrets: Option<&SecretMap>) -> Result<Option<Vec<SealedSecret>>, ControlError> {
        let seal = |SecretMap(secrets): &SecretMap| -> Result<Vec<SealedSecret>, ControlError> {
            secrets.iter().map(|(name, value)| self.seal(agent, name, value)).collect()
        };
        secrets.map(seal).transpose()
    }
}

/// An agent's secrets by name: the value, and whether it was set by hand.
pub(super) type CurrentSecrets = BTreeMap<String, (SecretString, bool)>;

/// The secrets once a deploy has brought its own: beside them what was set by hand; without any all stay.
pub(super) fn wanted_secrets(before: &CurrentSecrets, deployed: Option<&SecretMap>) -> BTreeMap<String, SecretString> {
    let stay = before.iter().filter(|(_, (_, by_hand))| *by_hand || deployed.is_none());
    let stay = stay.map(|(name, (value, _))| (name.clone(), value.clone()));
    stay.chain(deployed.into_iter().flat_map(|deployed| deployed.0.clone())).collect()
}

/// As it is stored.
pub(super) fn spec_json(spec: &ReleaseSpec) -> serde_json::Value {
    // Numbers, texts and lists: nothing that JSON cannot hold.
    serde_json::to_value(spec).unwrap_or_default()
}

/// What is said where a deploy brings no secrets.
fn note_of_kept(serving: Option<&Release>) -> String {
    match serving {
        Some(serving) => format!("no .env here: the secrets of v{} stay", serving.version),
        None => "no .env here: the secrets last deployed stay".to_owned(),
    }
}

/// No secret comes or goes without a line.
fn notes_of_secrets(agent: &str, diff: &SecretDiff) -> Vec<String> {
    let SecretDiff { forgotten, kept, overwritten, changed: _ } = diff;
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
