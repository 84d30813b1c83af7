//! Secrets, scale, logs and history of an agent.

use super::{Client, ClientError};
use crate::api::control::{ScaleRequest, ScaleResponse, SecretView, SecretsRequest, SecretsResponse};
use crate::api::history::{
    ListQuery, ReleaseView, RolloutSummary, RunDetail, RunView, RunsQuery, ThreadDetail, ThreadView,
};
use crate::api::images::{LayersAnswer, LayersRequest};
use crate::api::logs::{LogLine, LogQuery};
use crate::api::routes;
use crate::client::registry::{RegistryClientError, RepositoryClient};
use std::time::Duration;
use uuid::Uuid;

/// A server that streams a log says something at least this often.
const SILENCE: Duration = Duration::from_secs(60);
/// The longest line that is taken.
const LINE_BYTES: usize = 4 << 20;

impl Client {
    /// Names of the agent's secrets, and when they changed.
    pub async fn secrets(&self, agent: &str) -> Result<Vec<SecretView>, ClientError> {
        self.get::<routes::ListSecrets>(agent.to_owned()).await
    }

    /// Changes the secrets that are named.
    pub async fn change_secrets(&self, agent: &str, change: &SecretsRequest) -> Result<SecretsResponse, ClientError> {
        self.send::<routes::ChangeSecrets>(agent.to_owned(), change).await
    }

    /// Asks for so many replicas, or for as many as the manifest says.
    pub async fn scale(&self, agent: &str, replicas: Option<u32>) -> Result<ScaleResponse, ClientError> {
        self.send::<routes::Scale>(agent.to_owned(), &ScaleRequest { replicas }).await
    }

    /// Which of an image's layers the server has.
    pub async fn layers(&self, agent: &str, request: &LayersRequest) -> Result<LayersAnswer, ClientError> {
        self.send::<routes::FindLayers>(agent.to_owned(), request).await
    }

    /// A repository of the server's own registry.
    pub fn repository(&self, name: &str) -> Result<RepositoryClient, RegistryClientError> {
        RepositoryClient::of_server(&self.server, self.http.clone(), self.token.clone(), name)
    }

    /// The agent's releases, newest first.
    pub async fn releases(&self, agent: &str, limit: u32) -> Result<Vec<ReleaseView>, ClientError> {
        self.call::<routes::ListReleases>(agent.to_owned(), &ListQuery { limit: Some(limit) }, &()).await
    }

    /// The agent's rollouts, newest first.
    pub async fn rollouts(&self, agent: &str, limit: u32) -> Result<Vec<RolloutSummary>, ClientError> {
        self.call::<routes::ListRollouts>(agent.to_owned(), &ListQuery { limit: Some(limit) }, &()).await
    }

    /// The agent's runs, newest first.
    pub async fn runs(
        &self,
        agent: &str,
        thread: Option<&str>,
        status: Option<&str>,
        limit: u32,
    ) -> Result<Vec<RunView>, ClientError> {
        let (thread, status) = (thread.map(str::to_owned), status.map(str::to_owned));
        let query = RunsQuery { limit: Some(limit), thread, status };
        self.call::<routes::ListRuns>(agent.to_owned(), &query, &()).await
    }

    /// All that is known of a run.
    pub async fn run(&self, id: Uuid) -> Result<RunDetail, ClientError> {
        self.get::<routes::GetRun>(id).await
    }

    /// The agent's threads, those that ran last first.
    pub async fn threads(&self, agent: &str, limit: u32) -> Result<Vec<ThreadView>, ClientError> {
        self.call::<routes::ListThreads>(agent.to_owned(), &ListQuery { limit: Some(limit) }, &()).await
    }

    /// One thread.
    pub async fn thread(&self, agent: &str, thread: &str) -> Result<ThreadDetail, ClientError> {
        self.get::<routes::GetThread>((agent.to_owned(), thread.to_owned())).await
    }

    /// The agent's log, line by line, until its end.
    pub async fn logs(&self, agent: &str, query: &LogQuery, mut each: impl FnMut(LogLine)) -> Result<(), ClientError> {
        let unreachable =
            |error: reqwest::Error| ClientError::Unreachable { server: self.server.clone(), source: error.into() };
        // Without a limit for the whole: it goes on as long as somebody looks.
        let mut response =
            self.request::<routes::GetLogs>(&agent.to_owned(), query).send().await.map_err(unreachable)?;
        self.check_version(&response)?;
        if !response.status().is_success() {
            let status = response.status();
            return Err(super::refused(status, &response.bytes().await.map_err(unreachable)?));
        }
        let mut open: Vec<u8> = Vec::new();
        loop {
            let chunk = tokio::time::timeout(SILENCE, response.chunk()).await;
            let chunk =
                chunk.map_err(|_| ClientError::Silent { server: self.server.clone(), seconds: SILENCE.as_secs() })?;
            let Some(chunk) = chunk.map_err(unreachable)? else { return Ok(()) };
            open.extend_from_slice(&chunk);
            while let Some(end) = open.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = open.drain(..=end).collect();
                if line.len() > 1 {
                    let line = serde_json::from_slice(&line);
                    each(line.map_err(|source| ClientError::Answer { status: 200, source })?);
                }
            }
            if open.len() > LINE_BYTES {
                return Err(ClientError::LongLine(LINE_BYTES >> 20));
            }
        }
    }
}
