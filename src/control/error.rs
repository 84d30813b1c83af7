//! What can go wrong in a use case.

use super::builds;
use super::settings::SettingsError;
use super::tokens::TokenError;
use crate::base::secret::SecretError;
use crate::runtime::RuntimeError;
use crate::store::StoreError;
use uuid::Uuid;

/// What can go wrong in a use case; each variant has its own answer on the wire.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// There is no such agent.
    #[error("there is no agent {0:?}")]
    NoSuchAgent(String),
    /// There is no such rollout.
    #[error("there is no rollout {0}")]
    NoSuchRollout(Uuid),
    /// There is nothing to go back to.
    #[error("{}", match version { Some(version) => format!("agent {agent:?} has no release v{version}"), None => format!("agent {agent:?} has no release that served before this one") })]
    NoSuchRelease {
        /// Whose.
        agent: String,
        /// Which was asked for.
        version: Option<i32>,
    },
    /// It serves already.
    #[error("v{version} of {agent:?} is what serves")]
    Serves {
        /// Whose.
        agent: String,
        /// Which.
        version: i32,
    },
    /// The image of an old release was removed.
    #[error("the image of v{version} ({image}) is not in the engine any more")]
    ImageGone {
        /// Which release.
        version: i32,
        /// Its image.
        image: String,
    },
    /// The rollout has ended.
    #[error("the rollout {0} has ended")]
    RolloutEnded(Uuid),
    /// There is no such key.
    #[error("agent {agent:?} has no key {key} that still opens anything")]
    NoSuchKey {
        /// Whose.
        agent: String,
        /// Which.
        key: Uuid,
    },
    /// There is no such run.
    #[error("there is no run {0}")]
    NoSuchRun(Uuid),
    /// There is no such thread.
    #[error("agent {agent:?} has no thread {thread:?}")]
    NoSuchThread {
        /// Whose.
        agent: String,
        /// Which.
        thread: String,
    },
    /// Runs are never in that state.
    #[error("{0:?} is no state of runs")]
    NoSuchStatus(String),
    /// A question is not what is expected.
    #[error("{0}")]
    Query(String),
    /// A token is not created or not revoked.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The image has not come through the registry.
    #[error("the registry has no whole image {digest} for {agent:?}")]
    NotPushed {
        /// Whose.
        agent: String,
        /// Its manifest.
        digest: String,
    },
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] crate::registry::RegistryError),
    /// The folder of kept logs failed.
    #[error("the kept logs of replicas that are gone")]
    Logs(#[source] std::io::Error),
    /// Nothing is built.
    #[error(transparent)]
    Build(builds::BuildsError),
    /// A time in a request is none.
    #[error("{0:?} is no time of RFC 3339")]
    Time(String),
    /// The agent has nothing that serves.
    #[error("nothing of agent {0:?} serves")]
    NothingServes(String),
    /// More replicas were asked for than the manifest allows.
    #[error("{asked} replicas of {agent:?} are more than its max_replicas, which is {most}")]
    ScaleTooLarge {
        /// Whose.
        agent: String,
        /// How many.
        asked: u32,
        /// What its manifest allows.
        most: u32,
    },
    /// No environment variable can have that name.
    #[error("{0:?} cannot name a secret: no blanks, no =, 256 bytes at most")]
    SecretName(String),
    /// No environment variable can have that value.
    #[error("the value of {0} holds a NUL character")]
    SecretValue(String),
    /// The agent has no such secret.
    #[error("no secret set of {agent:?} holds {name}")]
    NoSuchSecret {
        /// Whose.
        agent: String,
        /// Its name.
        name: String,
    },
    /// The server ended before it was done.
    #[error("the server stopped before it was done")]
    Stopped,
    /// The deployed manifest is not one that this server accepts.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The image is not where replicas run.
    #[error("the image {0} is not in the server's Docker Engine")]
    NoImage(String),
    /// The image is for another processor than the engine's.
    #[error("the image {image} is for {found}, and the server's Docker Engine runs on {engine}")]
    Architecture {
        /// Which.
        image: String,
        /// Its processor.
        found: String,
        /// The engine's.
        engine: String,
    },
    /// The agent's own database could not be made.
    #[error("the agent's own database (rapidclaw.database)")]
    Database(#[source] StoreError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The runtime failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A secret could not be sealed or opened.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It takes longer than a request may.
    #[error("{0} goes on, but takes longer than this request may wait")]
    TakesLonger(&'static str),
}

impl From<crate::store::checkpoints::CheckpointError> for ControlError {
    fn from(error: crate::store::checkpoints::CheckpointError) -> Self {
        Self::Store(error.into())
    }
}
