//! `scale`: how many replicas, by hand.

use super::settings::AgentSettings;
use super::{Control, ControlError};
use crate::api::control::{ScaleRequest, ScaleResponse};

impl Control {
    /// Keeps how many replicas there shall be, until it is taken back; deploys do not change it.
    pub async fn scale(&self, name: &str, request: ScaleRequest) -> Result<ScaleResponse, ControlError> {
        let agent = self.find(name).await?;
        let release = match agent.serving_release {
            Some(release) => self.store().find_release(release).await?,
            None => None,
        };
        let release = release.ok_or_else(|| ControlError::NothingServes(name.to_owned()))?;
        let settings = AgentSettings::of_release(&release, name)?;
        if let Some(asked) = request.replicas.filter(|asked| *asked > settings.max_replicas) {
            return Err(ControlError::ScaleTooLarge { agent: name.to_owned(), asked, most: settings.max_replicas });
        }
        let scale = request.replicas.and_then(|replicas| i32::try_from(replicas).ok());
        self.store().set_scale(agent.id, scale).await?;
        self.ensure_reconciler(&agent, Vec::new()).kick.notify_one();
        Ok(ScaleResponse { wanted: settings.wanted(scale), before: settings.wanted(agent.scale) })
    }
}
