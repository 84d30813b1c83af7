//! Images from the registry into the engine.

use super::{Control, ControlError};
use crate::api::access::Scope;
use crate::api::images::{LayerBlob, LayersAnswer, LayersRequest};
use crate::base::pipe::piped;
use crate::gateway::committer::chain;
use crate::registry::names::{Digest, Repository};
use crate::registry::{Disk, ImageParts, common_layers};
use crate::store::releases::Release;

/// The most layers that are asked for at once: engines take 127.
const MOST_LAYERS: usize = 1_024;

impl Control {
    /// Which of an image's layers are here; for a token with a scope those of its agents alone.
    pub async fn layers(
        &self,
        agent: &str,
        request: &LayersRequest,
        scope: Option<&Scope>,
    ) -> Result<LayersAnswer, ControlError> {
        let wrong = || ControlError::Query(format!("diff_ids holds at most {MOST_LAYERS} sha256 digests"));
        let name = repository(agent)?;
        let ids: Option<Vec<Digest>> = request.diff_ids.iter().map(|id| Digest::parse(id)).collect();
        let ids = ids.filter(|ids| ids.len() <= MOST_LAYERS).ok_or_else(wrong)?;
        let asked = name.clone();
        let among =
            scope.map(|scope| scope.agents.iter().filter_map(|agent| Repository::of_agent(agent)).collect::<Vec<_>>());
        let adopt = move |disk: &Disk| disk.adopt_layers(&asked, &ids, among.as_deref());
        let found = self.0.parts.registry.on_disk(adopt).await?;
        let blob = |layer: crate::registry::manifest::Descriptor| LayerBlob {
            media_type: layer.media_type,
            digest: layer.digest,
            size: layer.size,
        };
        let layers = found.into_iter().map(|layer| layer.map(blob)).collect();
        Ok(LayersAnswer { repository: name.to_string(), layers })
    }

    /// The engine's id of the image that an agent's manifest names; it is brought there where it is not.
    pub(super) async fn bring_image(
        &self,
        agent: &str,
        pushed: &str,
        serving: Option<&Release>,
    ) -> Result<String, ControlError> {
        let gone = || ControlError::NotPushed { agent: agent.to_owned(), digest: pushed.to_owned() };
        let name = repository(agent)?;
        let digest = Digest::parse(pushed).ok_or_else(gone)?;
        let asked = name.clone();
        let image = self.0.parts.registry.on_disk(move |disk| disk.find_image(&asked, &digest)).await?;
        let image = image.ok_or_else(gone)?;
        let id = image.config_digest.to_string();
        if self.runtime().find_image(&id).await?.is_some() {
            return Ok(id);
        }
        let tag = self.runtime().image_name(agent, &id);
        let known = match serving {
            Some(release) => common_layers(&image, &self.runtime().shared_layers(&release.image).await?),
            None => 0,
        };
        if known > 0 {
            match self.load(image.clone(), known, &tag).await {
                Ok(id) => return Ok(id),
                Err(error) => {
                    tracing::debug!(error = %chain(&error), "the engine has not the layers it was thought to have");
                }
            }
        }
        self.load(image, 0, &tag).await
    }

    async fn load(&self, image: ImageParts, known: usize, tag: &str) -> Result<String, ControlError> {
        let (disk, named) = (self.0.parts.registry.disk(), tag.to_owned());
        let (writing, archive) = piped(move |pipe| disk.write_archive(&image, known, &named, pipe));
        let loaded = self.runtime().load_image(Box::pin(archive), tag).await;
        // Where the disk failed the engine's words only follow from it.
        if let (Err(_), Ok(Err(error))) = (&loaded, writing.await)
            && !error.is_nobody_reads()
        {
            return Err(error.into());
        }
        Ok(loaded?)
    }
}

fn repository(agent: &str) -> Result<Repository, ControlError> {
    Repository::of_agent(agent).ok_or_else(|| ControlError::NoSuchAgent(agent.to_owned()))
}
