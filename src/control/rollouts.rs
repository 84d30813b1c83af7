//! Rollouts as those see them who watch.

use super::{Control, ControlError};
use crate::api::control::{GraphView, RollbackRequest, RollbackResponse, RolloutView};
use crate::gateway::route::ServedGraph;
use crate::release::state::RolloutState;
use crate::run::chat::choose_graph;
use crate::runtime::FoundImage;
use crate::store::agents::Agent;
use crate::store::deploys::NewDeploy;
use crate::store::releases::{NewRelease, Release};
use crate::store::rollouts::NewRollout;
use crate::store::secrets::{SecretChange, differing};
use std::time::Duration;
use uuid::Uuid;

/// How long traffic may take to move once the database says that it has.
const SWITCH: Duration = Duration::from_millis(500);

impl Control {
    /// Goes back to the release of a number, or to the one that served before, as a new release with the secrets of the
    /// old one, unless today's are kept. Replicas of it that are on standby serve again at once; nothing is built. It
    /// goes on when its caller goes away.
    pub async fn roll_back(&self, name: &str, request: RollbackRequest) -> Result<RollbackResponse, ControlError> {
        let (control, name) = (self.clone(), name.to_owned());
        self.see_through(async move { control.accept_rollback(&name, request).await }).await
    }

    async fn accept_rollback(&self, name: &str, request: RollbackRequest) -> Result<RollbackResponse, ControlError> {
        let RollbackRequest { version, rollout: id, keep_secrets } = request;
        let agent = self.find(name).await?;
        if let Some(begun) = self.begun_before(&agent, id).await? {
            return self.rollback_begun_before(&agent, &begun).await;
        }
        let serving = self.serving(Some(&agent)).await?;
        let target = match (version, &serving) {
            (Some(version), _) => self.store().find_version(agent.id, version).await?,
            (None, Some(serving)) => self.store().find_previous(agent.id, serving).await?,
            (None, None) => None,
        };
        let mut target = target.ok_or_else(|| ControlError::NoSuchRelease { agent: name.to_owned(), version })?;
        let to_version = target.version;
        let serves = |serving: Option<&Release>| ControlError::Serves {
            agent: name.to_owned(),
            version: serving.map_or(to_version, |serving| serving.version),
        };
        if serving.as_ref().is_some_and(|serving| serving.id == target.id) {
            return Err(serves(serving.as_ref()));
        }
        if let Some(pushed) = &target.pushed
            && self.runtime().find_image(&target.image).await?.is_none()
        {
            // The engine has forgotten it, the registry has not.
            target.image = self.bring_image(name, pushed, serving.as_ref()).await?;
        }
        if !self.can_run(name, &target.image).await? {
            return Err(ControlError::ImageGone { version: target.version, image: target.image });
        }
        let _named = self.keep_image(name, &target.image).await?;
        let current = self.store().current_secret_set(agent.id).await?;
        let kept = keep_secrets || target.secret_set.is_none();
        let secrets = match target.secret_set {
            Some(set) if !keep_secrets => SecretChange::Restore(set),
            _ => SecretChange::Keep,
        };
        // Those on standby have read the secrets of their release.
        let standby = agent
            .standby_generation
            .filter(|_| agent.standby_release == Some(target.id) && (!kept || target.secret_set == Some(current)));
        let new = NewRelease { copy_of: Some(target.id), ..NewRelease::again(&target) };
        let deploy = NewDeploy {
            release: Some(&new),
            secrets,
            current_set: current,
            rotate: None,
            key: None,
            rollout: NewRollout { id, standby, ..NewRollout::default() },
        };
        let deployed = self.store().deploy(agent.id, deploy).await?;
        let (release, rollout) = deployed.begun.ok_or_else(|| serves(serving.as_ref()))?;
        self.ensure_reconciler(&agent, Vec::new()).kick.notify_one();
        Ok(RollbackResponse {
            version: release.version,
            to_version,
            from_version: serving.map(|serving| serving.version),
            rollout: rollout.id,
            url: self.agent_url(name),
            secrets_changed: self.secrets_between(agent.id, current, target.secret_set).await?,
            secrets_kept: kept,
        })
    }

    /// Names whose values differ between two of an agent's secret sets.
    async fn secrets_between(&self, agent: Uuid, one: i32, other: Option<i32>) -> Result<Vec<String>, ControlError> {
        let Some(other) = other else { return Ok(Vec::new()) };
        let (one, other) =
            (self.store().list_secrets(agent, one).await?, self.store().list_secrets(agent, other).await?);
        Ok(differing(&one, &other))
    }

    /// The rollout that a request has begun whose answer was lost, so that it comes again.
    pub(super) async fn begun_before(
        &self,
        agent: &Agent,
        id: Option<Uuid>,
    ) -> Result<Option<RolloutView>, ControlError> {
        let Some(id) = id else { return Ok(None) };
        Ok(self.store().view_rollout(id, 0).await?.filter(|view| view.agent == agent.name))
    }

    async fn rollback_begun_before(
        &self,
        agent: &Agent,
        begun: &RolloutView,
    ) -> Result<RollbackResponse, ControlError> {
        let gone = || ControlError::NoSuchRelease { agent: agent.name.clone(), version: Some(begun.version) };
        let target = self.store().find_original(agent.id, begun.version).await?.ok_or_else(gone)?;
        let release = self.store().find_version(agent.id, begun.version).await?.ok_or_else(gone)?;
        let before = match begun.from_version {
            Some(version) => self.store().find_version(agent.id, version).await?,
            None => None,
        };
        let before = before.and_then(|before| before.secret_set).unwrap_or_default();
        Ok(RollbackResponse {
            version: begun.version,
            to_version: target.version,
            from_version: begun.from_version,
            rollout: begun.id,
            url: self.agent_url(&agent.name),
            secrets_changed: self.secrets_between(agent.id, before, target.secret_set).await?,
            secrets_kept: release.secret_set != target.secret_set,
        })
    }

    /// Whether the runtime has the image and it was not built for another agent: who may deploy one agent runs no other
    /// one's code. One for another processor is refused before anything starts.
    pub(super) async fn can_run(&self, agent: &str, image: &str) -> Result<bool, ControlError> {
        let found = self.runtime().find_image(image).await?;
        let own = found.filter(|found| found.agent.as_ref().is_none_or(|built_for| built_for == agent));
        let Some(FoundImage { architecture: found, .. }) = own else { return Ok(false) };
        let engine = self.runtime().engine().await?.architecture;
        if found.is_empty() || found == engine {
            return Ok(true);
        }
        Err(ControlError::Architecture { image: image.to_owned(), found, engine })
    }

    /// Ends a rollout that is under way; what served before serves on.
    pub async fn cancel_rollout(&self, id: Uuid) -> Result<(), ControlError> {
        let view = self.store().view_rollout(id, 0).await?.ok_or(ControlError::NoSuchRollout(id))?;
        if !self.store().cancel_rollout(id).await? {
            return Err(ControlError::RolloutEnded(id));
        }
        self.rollout_changed();
        let agent = self.find(&view.agent).await?;
        self.ensure_reconciler(&agent, Vec::new()).kick.notify_one();
        Ok(())
    }

    /// The rollout with its events after `after`: at once when there are any or it has ended, else when
    /// something happens or `wait` is over.
    pub async fn watch_rollout(&self, id: Uuid, after: i32, wait: Duration) -> Result<RolloutView, ControlError> {
        let mut changes = self.0.changes.subscribe();
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let view = self.store().view_rollout(id, after).await?.ok_or(ControlError::NoSuchRollout(id))?;
            let news = !view.events.is_empty() || view.state != RolloutState::Running;
            if news || tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
                let graphs = match view.state {
                    RolloutState::Succeeded => self.served_graphs(&view.agent, view.version).await,
                    _ => Vec::new(),
                };
                return Ok(RolloutView { graphs, ..view });
            }
        }
    }

    /// The graphs of a release that serves. Where nothing runs (scaled to nothing), nobody has said what they take.
    async fn served_graphs(&self, agent: &str, version: i32) -> Vec<GraphView> {
        let Some(route) = self.gateway().route(agent) else { return Vec::new() };
        // The database knows it a moment before the way does.
        let Some(serving) = route.serves(version, SWITCH).await else { return Vec::new() };
        let ids: Vec<String> = serving.graphs.iter().map(|graph| graph.id.clone()).collect();
        let default = choose_graph(&ids, agent, None).ok();
        let view = |graph: &ServedGraph| GraphView {
            id: graph.id.clone(),
            chat: graph.chat.is_ok(),
            input: graph.input.clone(),
            default: default == Some(graph.id.as_str()),
        };
        serving.graphs.iter().map(view).collect()
    }
}
