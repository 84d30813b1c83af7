//! Secrets, scale, logs and history of an agent.

use super::{Client, ClientError};
use crate::api::control::{ScaleRequest, ScaleResponse, SecretView, SecretsRequest, SecretsResponse};
use crate::api::history::{ReleaseView, RolloutSummary, RunDetail, RunView, ThreadDetail, ThreadView};
use crate::api::images::{LayersAnswer, LayersRequest};
use crate::api::logs::{LogLine, LogQuery};
use crate::client::registry::{RegistryClientError, RepositoryClient};
use reqwest::{Method, Url};
use std::time::Duration;
use uuid::Uuid;

/// A server that streams a log says something at least this often.
const SILENCE: Duration = Duration::from_secs(60);
/// The longest line that is taken.
const LINE_BYTES: usize = 4 << 20;

impl Client {
    /// Names of the agent's secrets, and when they changed.
    pub async fn secrets(&self, agent: &str) -> Result<Vec<SecretView>, ClientError> {
        self.call(Method::GET, &path(&["agents", agent, "secrets"], &[]), None::<&()>).await
    }

    /// Changes the secrets that are named.
    pub async fn change_secrets(&self, agent: &str, change: &SecretsRequest) -> Result<SecretsResponse, ClientError> {
        self.call(Method::PATCH, &path(&["agents", agent, "secrets"], &[]), Some(change)).await
    }

    /// Asks for so many replicas, or for as many as the manifest says.
    pub async fn scale(&self, agent: &str, replicas: Option<u32>) -> Result<ScaleResponse, ClientError> {
        self.call(Method::PUT, &path(&["agents", agent, "scale"], &[]), Some(&ScaleRequest { replicas })).await
    }

    /// Which of an image's layers the server has.
    pub async fn layers(&self, agent: &str, request: &LayersRequest) -> Result<LayersAnswer, ClientError> {
        self.call(Method::POST, &path(&["agents", agent, "image"], &[]), Some(request)).await
    }

    /// A repository of the server's own registry.
    pub fn repository(&self, name: &str) -> Result<RepositoryClient, RegistryClientError> {
        RepositoryClient::of_server(&self.server, self.http.clone(), self.token.clone(), name)
    }

    /// The agent's releases, newest first.
    pub async fn releases(&self, agent: &str, limit: u32) -> Result<Vec<ReleaseView>, ClientError> {
        self.list(agent, "releases", limit, &[]).await
    }

    /// The agent's rollouts, newest first.
    pub async fn rollouts(&self, agent: &str, limit: u32) -> Result<Vec<RolloutSummary>, ClientError> {
        self.list(agent, "rollouts", limit, &[]).await
    }

    /// The agent's runs, newest first.
    pub async fn runs(
        &self,
        agent: &str,
        thread: Option<&str>,
        status: Option<&str>,
        limit: u32,
    ) -> Result<Vec<RunView>, ClientError> {
        self.list(agent, "runs", limit, &[("thread", thread), ("status", status)]).await
    }

    /// All that is known of a run.
    pub async fn run(&self, id: Uuid) -> Result<RunDetail, ClientError> {
        self.call(Method::GET, &path(&["runs", &id.to_string()], &[]), None::<&()>).await
    }

    /// The agent's threads, those that ran last first.
    pub async fn threads(&self, agent: &str, limit: u32) -> Result<Vec<ThreadView>, ClientError> {
        self.list(agent, "threads", limit, &[]).await
    }

    /// One thread.
    pub async fn thread(&self, agent: &str, thread: &str) -> Result<ThreadDetail, ClientError> {
        self.call(Method::GET, &path(&["agents", agent, "threads", thread], &[]), None::<&()>).await
    }

    /// The agent's log, line by line, until its end.
    pub async fn logs(&self, agent: &str, query: &LogQuery, mut each: impl FnMut(LogLine)) -> Result<(), ClientError> {
        let unreachable =
            |error: reqwest::Error| ClientError::Unreachable { server: self.server.clone(), source: error.into() };
        let (lines, run) = (query.lines.map(|lines| lines.to_string()), query.run.map(|run| run.to_string()));
        let path = path(
            &["agents", agent, "logs"],
            &[
                ("thread", query.thread.as_deref()),
                ("run", run.as_deref()),
                ("replica", query.replica.as_deref()),
                ("lines", lines.as_deref()),
                ("after", query.after.as_deref()),
                ("follow", query.follow.then_some("true")),
            ],
        );
        // Without a limit for the whole: it goes on as long as somebody looks.
        let mut response = self.request(Method::GET, &path).send().await.map_err(unreachable)?;
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

    async fn list<T: serde::de::DeserializeOwned>(
        &self,
        agent: &str,
        what: &str,
        limit: u32,
        query: &[(&str, Option<&str>)],
    ) -> Result<Vec<T>, ClientError> {
        let limit = limit.to_string();
        let query: Vec<_> = [("limit", Some(limit.as_str()))].into_iter().chain(query.iter().copied()).collect();
        self.call(Method::GET, &path(&["agents", agent, what], &query), None::<&()>).await
    }
}

/// `/v1/…` with whatever the parts hold encoded.
fn path(parts: &[&str], query: &[(&str, Option<&str>)]) -> String {
    let Ok(mut url) = Url::parse("http://server/v1") else { return String::new() };
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.extend(parts);
    }
    for (name, value) in query {
        if let Some(value) = value {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_names_cannot_leave_its_place_in_the_address() {
        assert_eq!(path(&["agents", "a", "logs"], &[("run", None)]), "/v1/agents/a/logs");
        assert_eq!(path(&["agents", "a", "threads", "x/y?z"], &[]), "/v1/agents/a/threads/x%2Fy%3Fz");
        assert_eq!(path(&["agents", "a"], &[("thread", Some("a&b=c"))]), "/v1/agents/a?thread=a%26b%3Dc");
    }
}
