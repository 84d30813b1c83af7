//! What can go wrong in the store.

use super::checkpoints::CheckpointError;

/// What can go wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Postgres refused or could not be asked.
    #[error("asking the database")]
    Sql(#[from] sqlx::Error),
    /// The tables could not be brought to this version.
    #[error("bringing the database's tables to this version")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A stored document is not what this version writes.
    #[error("reading a stored {what}")]
    Stored {
        /// Which kind.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// An agent's checkpoints could not be written or read.
    #[error(transparent)]
    Checkpoints(#[from] CheckpointError),
    /// A rollout of the same agent is under way.
    #[error("a rollout of this agent is under way")]
    RolloutUnderWay,
    /// Another set of secrets is current than the one that a change was judged by.
    #[error("the agent's secrets were changed at the same time")]
    SecretsChanged,
    /// As many of the agent's runs wait as may.
    #[error("{0} runs of the agent wait already")]
    QueueFull(u32),
    /// An agent of that name is still being destroyed.
    #[error("an agent of this name is being destroyed")]
    BeingDestroyed,
}

impl StoreError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        use sqlx::migrate::MigrateError;
        match self {
            Self::Migrate(MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..)) => Some(
                "a newer rapidclaw has used this database, and tables do not go back: start that version, or restore \
                 a backup from before (`rapidclaw server restore`)",
            ),
            Self::Migrate(MigrateError::VersionMismatch(_)) => Some(
                "another build of rapidclaw has made these tables in another way: start that one, or use another database",
            ),
            Self::Migrate(_) => Some(
                "each step is done whole or not at all, and the version before still runs on these tables; the cause is \
                 above: Postgres' disk, its rights, or a lock that somebody holds",
            ),
            Self::Sql(_) => Some("`rapidclaw doctor` says whether Postgres answers"),
            _ => None,
        }
    }
}
