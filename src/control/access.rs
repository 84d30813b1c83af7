//! Who may do what: keys of agents, and whose a presented token is.

use super::{Control, ControlError};
use crate::api::control::{KeyCreated, KeyView};
use crate::api::tokens::TokenState;
use crate::base::ids;
use crate::base::secret::{SecretError, token_hash};
use crate::base::shutdown::Shutdown;
use crate::gateway::committer::chain;
use crate::store::keys::NewKey;
use crate::store::tokens::TokenOwner;
use crate::store::{Store, StoreError};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// What keys of agents begin with.
const KEY_PREFIX: &str = "rck";
/// How much of a key is shown in lists.
const SHOWN: usize = 8;
/// How often the last use of a token is written.
const NOTE_EVERY: Duration = Duration::from_mins(1);

/// Finds the owners of tokens, and notes that tokens are used. Clones are the same.
#[derive(Clone)]
pub struct Tokens(Arc<TokensInner>);

struct TokensInner {
    store: Store,
    shutdown: Shutdown,
    /// When the use of each was last noted.
    noted: Mutex<HashMap<Uuid, Instant>>,
}

impl Tokens {
    /// Of this store; `shutdown` waits for what is being noted.
    pub fn new(store: Store, shutdown: Shutdown) -> Self {
        Self(Arc::new(TokensInner { store, shutdown, noted: Mutex::default() }))
    }

    /// Whose a presented token is, also where it works no more.
    pub async fn find(&self, token: &str) -> Result<Option<TokenOwner>, StoreError> {
        let owner = self.0.store.find_token(&token_hash(token)).await?;
        Ok(self.noted(owner))
    }

    /// Whose the token with an id is, also where it works no more.
    pub async fn find_by_id(&self, id: Uuid) -> Result<Option<TokenOwner>, StoreError> {
        let owner = self.0.store.find_token_by_id(id).await?;
        Ok(self.noted(owner))
    }

    /// Notes the use of a token that works. Nobody waits for that.
    fn noted(&self, owner: Option<TokenOwner>) -> Option<TokenOwner> {
        let used = owner.as_ref().filter(|owner| owner.state == TokenState::Active).map(|owner| owner.id);
        if let Some(id) = used.filter(|id| self.is_due(*id, Instant::now())) {
            let store = self.0.store.clone();
            drop(self.0.shutdown.spawn(async move {
                if let Err(error) = store.touch_token(id).await {
                    tracing::debug!(error = %chain(&error), "the last use of a token was not written");
                }
            }));
        }
        owner
    }

    fn is_due(&self, id: Uuid, now: Instant) -> bool {
        let mut noted = self.0.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.retain(|_, at| now.duration_since(*at) < NOTE_EVERY);
        if noted.contains_key(&id) {
            return false;
        }
        noted.insert(id, now);
        true
    }
}

/// A new key of an agent.
pub(super) struct Key {
    /// Shown once.
    pub(super) value: String,
    hash: [u8; 32],
}

impl Key {
    /// A key that opens nothing before it is stored.
    pub(super) fn new() -> Result<Self, SecretError> {
        let value = ids::random_token(KEY_PREFIX).map_err(|_| SecretError::Random)?;
        Ok(Self { hash: token_hash(&value), value })
    }

    /// As the agent's first one is stored.
    pub(super) fn stored(&self) -> NewKey<'_> {
        NewKey { name: "first deploy", prefix: &self.value[..SHOWN], hash: &self.hash }
    }
}

impl Control {
    /// Whose tokens there are.
    pub fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    /// The name of the agent whose rollout it is.
    pub async fn agent_of_rollout(&self, rollout: Uuid) -> Result<Option<String>, ControlError> {
        Ok(self.store().agent_of_rollout(rollout).await?)
    }

    /// The name of the agent whose run it is.
    pub async fn agent_of_run(&self, run: Uuid) -> Result<Option<String>, ControlError> {
        Ok(self.store().agent_of_run(run).await?)
    }

    /// Makes a key for an agent; its value is shown this once.
    pub async fn create_key(&self, agent: &str, name: &str) -> Result<KeyCreated, ControlError> {
        let agent = self.find(agent).await?;
        let Key { value: key, hash } = Key::new()?;
        let id = self.store().add_key(agent.id, name, &key[..SHOWN], &hash).await?;
        self.gateway().reload_keys().await?;
        Ok(KeyCreated { id, name: name.to_owned(), key })
    }

    /// The agent's keys, without their values.
    pub async fn list_keys(&self, agent: &str) -> Result<Vec<KeyView>, ControlError> {
        Ok(self.store().list_keys(self.find(agent).await?.id).await?)
    }

    /// Makes a key open nothing any more, from now on.
    pub async fn revoke_key(&self, agent: &str, key: Uuid) -> Result<(), ControlError> {
        let found = self.find(agent).await?;
        if !self.store().revoke_key(found.id, key).await? {
            return Err(ControlError::NoSuchKey { agent: agent.to_owned(), key });
        }
        self.gateway().reload_keys().await?;
        Ok(())
    }
}
