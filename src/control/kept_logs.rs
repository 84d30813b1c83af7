//! Keeps what replicas wrote when they go: at a replica's end its log is copied into the data folder, without the
//! agent's secrets, before its container is removed.

use super::settings::{AgentSettings, LOG_RETENTION};
use super::{Control, ControlError};
use crate::base::redact::Redactor;
use crate::gateway::committer::chain;
use crate::runtime::kept::Copy;
use crate::runtime::{KnownReplica, LineRange, RuntimeError, Stage};
use crate::store::agents::Agent;
use jiff::Timestamp;
use std::io;
use std::time::Duration;
use tokio::sync::mpsc;
use uuid::Uuid;

/// How often old logs are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(3_600);
/// Lines between the engine and the disk.
const BUFFER: usize = 1_024;
/// How long the copy of one log may take.
const COPY: Duration = Duration::from_secs(120);

impl Control {
    /// Ends a replica and keeps its log. An error: it is there still, and so is its log.
    pub(super) async fn keep_log(&self, replica: Uuid, grace: Duration) -> Result<(), RuntimeError> {
        let known = self.runtime().list().await?.into_iter().find(|one| one.id == replica);
        let Some(known) = known.filter(|one| one.stage != Stage::Made) else { return Ok(()) };
        let failed = |error: ControlError| RuntimeError::Refused {
            what: "looking for what a replica's log may show",
            source: Box::new(error),
        };
        let agent = self.store().find_agent(&known.agent).await.map_err(|error| failed(error.into()))?;
        let Some(agent) = agent else { return Ok(()) };
        let retention = self.log_retention(&agent, known.release).await.map_err(failed)?;
        if retention.is_zero() {
            return Ok(());
        }
        let redactor = self.redactor(&agent).await.map_err(failed)?;
        if known.stage == Stage::Running {
            self.runtime().end(replica, grace).await?;
        }
        match tokio::time::timeout(COPY, self.copy(&agent, &known, redactor)).await {
            Ok(Ok(())) => {}
            Ok(Err(NotCopied::Runtime(error @ RuntimeError::Unreachable(_)))) => return Err(error),
            // A disk that is full holds no replica up.
            Ok(Err(error)) => {
                tracing::warn!(agent = agent.name, %replica, error = %chain(&error), "a replica's log is lost");
            }
            Err(elapsed) => return Err(RuntimeError::Unreachable(Box::new(elapsed))),
        }
        let (logs, id) = (self.0.parts.logs.clone(), agent.id);
        let swept = tokio::task::spawn_blocking(move || logs.sweep(id, retention, Timestamp::now())).await;
        if let Ok(Err(error)) = swept {
            tracing::warn!(agent = agent.name, %error, "old logs stay");
        }
        Ok(())
    }

    async fn copy(&self, agent: &Agent, known: &KnownReplica, redactor: Redactor) -> Result<(), NotCopied> {
        let (logs, agent, replica) = (self.0.parts.logs.clone(), agent.id, known.id);
        let (sender, mut receiver) = mpsc::channel(BUFFER);
        let writing = tokio::task::spawn_blocking(move || -> io::Result<Copy> {
            let mut copy = logs.begin(agent, replica)?;
            while let Some(line) = receiver.blocking_recv() {
                let mut line: crate::runtime::WrittenLine = line;
                line.text = redactor.redact(line.text);
                copy.add(&line)?;
            }
            Ok(copy)
        });
        let read = self.runtime().read_lines(replica, LineRange::default(), sender).await;
        let copy = writing.await.map_err(io::Error::other)??;
        read?;
        tokio::task::spawn_blocking(move || copy.finish()).await.map_err(io::Error::other)??;
        Ok(())
    }

    /// Blots out all that no log of the agent's may show: its secrets, and those that its replicas were started with.
    pub(super) async fn redactor(&self, agent: &Agent) -> Result<Redactor, ControlError> {
        let mut redactor = self.redactor_of(agent).await?;
        for (_, worn) in self.worn().iter().filter(|(_, worn)| worn.0 == agent.id) {
            redactor.join(&worn.1);
        }
        Ok(redactor)
    }

    /// How long logs of an agent's replicas are kept: as the release that serves says, else the replica's own.
    async fn log_retention(&self, agent: &Agent, release: Uuid) -> Result<Duration, ControlError> {
        let release = self.store().find_release(agent.serving_release.unwrap_or(release)).await?;
        let settings = release.map(|release| AgentSettings::of_release(&release, &agent.name));
        // A manifest that this version does not take any more is no reason to lose a log.
        Ok(settings.and_then(Result::ok).map_or(LOG_RETENTION, |settings| settings.log_retention))
    }

    /// Removes what is too old, for as long as the server lives.
    pub(super) async fn sweep_logs(self) {
        let mut ticks = tokio::time::interval(SWEEP_EVERY);
        loop {
            ticks.tick().await;
            if !*self.0.paused.borrow()
                && let Err(error) = self.sweep_all().await
            {
                tracing::warn!(error = %chain(&error), "old logs stay");
            }
        }
    }

    async fn sweep_all(&self) -> Result<(), ControlError> {
        let agents = self.store().list_agents().await?;
        let mut retentions = Vec::with_capacity(agents.len());
        for agent in &agents {
            retentions.push((agent.id, self.log_retention(agent, Uuid::nil()).await?));
        }
        let logs = self.0.parts.logs.clone();
        let swept = tokio::task::spawn_blocking(move || -> io::Result<()> {
            logs.forget_all_but(&retentions.iter().map(|(agent, _)| *agent).collect())?;
            for (agent, retention) in retentions {
                logs.sweep(agent, retention, Timestamp::now())?;
            }
            Ok(())
        });
        swept.await.map_err(io::Error::other).flatten().map_err(ControlError::Logs)
    }

    /// Removes all kept logs of an agent that is gone.
    pub(super) async fn forget_logs(&self, agent: Uuid) {
        let logs = self.0.parts.logs.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || logs.forget(agent)).await {
            // The next sweep finds that there is no such agent.
            tracing::warn!(%error, "the logs of an agent that is gone stay for now");
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum NotCopied {
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error("the folder of kept logs")]
    Disk(#[from] io::Error),
}
