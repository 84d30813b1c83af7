//! What happened, for those who look.

use super::{Control, ControlError};
use crate::api::history::{ReleaseView, RolloutSummary, RunDetail, RunView, ThreadDetail, ThreadState, ThreadView};
use crate::base::ids;
use crate::store::checkpoints::{Head, Schema, head};
use crate::store::history::{RunFilter, RunWord};
use uuid::Uuid;

/// The longest list.
const MOST: u32 = 1000;
/// How many runs come with a thread.
const RUNS_OF_THREAD: i64 = 20;

fn limit(asked: u32) -> i64 {
    i64::from(asked.clamp(1, MOST))
}

impl Control {
    /// The agent's releases, newest first.
    pub async fn releases(&self, agent: &str, most: u32) -> Result<Vec<ReleaseView>, ControlError> {
        Ok(self.store().list_releases(self.find(agent).await?.id, limit(most)).await?)
    }

    /// The agent's rollouts, newest first.
    pub async fn rollouts(&self, agent: &str, most: u32) -> Result<Vec<RolloutSummary>, ControlError> {
        Ok(self.store().list_rollouts(self.find(agent).await?.id, limit(most)).await?)
    }

    /// The agent's runs, newest first: of a thread, in a state.
    pub async fn runs(
        &self,
        agent: &str,
        thread: Option<&str>,
        status: Option<&str>,
        most: u32,
    ) -> Result<Vec<RunView>, ControlError> {
        let unknown = || ControlError::NoSuchStatus(status.unwrap_or_default().to_owned());
        let status = status.map(|word| RunWord::parse(word).ok_or_else(unknown)).transpose()?;
        let filter = RunFilter { thread: thread.map(ids::thread_id), status };
        Ok(self.store().list_runs(self.find(agent).await?.id, filter, limit(most)).await?)
    }

    /// All that is known of a run.
    pub async fn run(&self, id: Uuid) -> Result<RunDetail, ControlError> {
        self.store().run_detail(id).await?.ok_or(ControlError::NoSuchRun(id))
    }

    /// The agent's threads, those that ran last first.
    pub async fn threads(&self, agent: &str, most: u32) -> Result<Vec<ThreadView>, ControlError> {
        Ok(self.store().list_threads(self.find(agent).await?.id, limit(most)).await?)
    }

    /// A thread, as the client named it or by its id.
    pub async fn thread(&self, agent: &str, given: &str) -> Result<ThreadDetail, ControlError> {
        let owner = self.find(agent).await?;
        let id = ids::thread_id(given);
        let missing = || ControlError::NoSuchThread { agent: agent.to_owned(), thread: given.to_owned() };
        let thread = self.store().find_thread(owner.id, id).await?.ok_or_else(missing)?;
        let schema = Schema::new(&owner.schema_name)?;
        let newest = head(self.store().pool(), &schema, &id.to_string()).await?;
        let filter = RunFilter { thread: Some(id), status: None };
        let runs = self.store().list_runs(owner.id, filter, RUNS_OF_THREAD).await?;
        Ok(ThreadDetail { thread, state: newest.map(state), runs })
    }
}

fn state(head: Head) -> ThreadState {
    let metadata = head.metadata.0;
    ThreadState {
        checkpoint_id: head.checkpoint_id,
        parent_id: head.parent_id,
        created_at: head.created_at,
        step: metadata["step"].as_i64(),
        source: metadata["source"].as_str().map(str::to_owned),
        channels: head.channels,
        checkpoints: head.checkpoints,
        metadata,
    }
}
