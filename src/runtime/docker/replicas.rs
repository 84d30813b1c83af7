//! What replicas are called in the engine, and which there are.

use super::calls::bounded;
use crate::runtime::{KnownReplica, RuntimeError, Stage};
use bollard::Docker;
use bollard::models::ContainerSummaryStateEnum;
use bollard::query_parameters::ListContainersOptionsBuilder;
use std::collections::HashMap;
use uuid::Uuid;

/// The labels of what we make, so that a new start finds it again.
pub(super) mod label {
    pub const SERVER: &str = "rapidclaw.server";
    pub const AGENT: &str = "rapidclaw.agent";
    pub const RELEASE: &str = "rapidclaw.release";
    pub const ROLLOUT: &str = "rapidclaw.rollout";
    pub const REPLICA: &str = "rapidclaw.replica";
    pub const VERSION: &str = "rapidclaw.version";
}

pub(super) fn container_name(server: Uuid, replica: Uuid) -> String {
    let (server, id) = (server.simple().to_string(), replica.simple().to_string());
    format!("rapidclaw-{}-{}", &server[server.len() - 8..], &id[id.len() - 12..])
}

/// All replicas of a server.
pub(super) async fn list(docker: &Docker, server: Uuid) -> Result<Vec<KnownReplica>, RuntimeError> {
    let filter = HashMap::from([("label", vec![format!("{}={}", label::SERVER, server)])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filter).build();
    let all = bounded("listing replicas", docker.list_containers(Some(options))).await?;
    Ok(all
        .into_iter()
        .filter_map(|one| {
            let labels = one.labels?;
            Some(KnownReplica {
                id: labels.get(label::REPLICA)?.parse().ok()?,
                agent: labels.get(label::AGENT)?.clone(),
                release: labels.get(label::RELEASE)?.parse().ok()?,
                rollout: labels.get(label::ROLLOUT)?.parse().ok()?,
                stage: match one.state? {
                    ContainerSummaryStateEnum::CREATED => Stage::Made,
                    ContainerSummaryStateEnum::EXITED | ContainerSummaryStateEnum::DEAD => Stage::Ended,
                    _ => Stage::Running,
                },
            })
        })
        .collect())
}
