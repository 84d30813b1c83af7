//! Why checkpoints could not be written or read.

/// Why checkpoints could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The name cannot be a schema's.
    #[error("{0:?} cannot name a schema of Postgres: 1 to 63 bytes, without NUL, not beginning with pg_")]
    SchemaName(String),
    /// What shall be stored as JSON is not even text.
    #[error("the {part} of checkpoint {checkpoint_id} is not UTF-8")]
    NotText {
        /// Checkpoint or metadata.
        part: &'static str,
        /// Which one.
        checkpoint_id: String,
    },
    /// The filter is not UTF-8.
    #[error("the filter of a read is not UTF-8")]
    Filter,
    /// Threads whose newest state is spread over older checkpoints, which would lose it.
    #[error("threads with a DeltaChannel cannot be cut to their latest checkpoint: {}", .0.join(", "))]
    DeltaChannel(Vec<String>),
    /// A reader that does not read in pages asked for more than fits one answer.
    #[error("the history has more than {} MiB: ask for less of it (`limit`)", .0 >> 20)]
    TooMuch(usize),
    /// Postgres refused a statement, or did not answer.
    #[error("could not {action}")]
    Database {
        /// What was tried.
        action: &'static str,
        /// Why.
        source: sqlx::Error,
    },
}

impl CheckpointError {
    /// Whether what was to be stored is at fault (JSON that jsonb cannot hold, a NUL in a text, a key
    /// too long for an index): repeating it is in vain, and in a batch of several runs' operations the
    /// others succeed without it.
    pub fn is_fault_of_data(&self) -> bool {
        match self {
            Self::NotText { .. } | Self::Filter | Self::DeltaChannel(_) | Self::SchemaName(_) | Self::TooMuch(_) => {
                true
            }
            // Classes: data exception, program limit exceeded, integrity constraint.
            Self::Database { source, .. } => source
                .as_database_error()
                .and_then(sqlx::error::DatabaseError::code)
                .is_some_and(|code| ["22", "54", "23"].iter().any(|class| code.starts_with(class))),
        }
    }
}

/// For `map_err`: names what was tried.
pub(super) fn failed(action: &'static str) -> impl FnOnce(sqlx::Error) -> CheckpointError {
    move |source| CheckpointError::Database { action, source }
}
