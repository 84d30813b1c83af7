//! Who may do what: tokens of the control API, keys of agents.

use super::{Control, ControlError};
use crate::api::control::{KeyCreated, KeyView};
use crate::base::ids;
use crate::base::secret::token_hash;
use crate::store::keys::TokenOwner;
use uuid::Uuid;

/// What keys of agents begin with.
const KEY_PREFIX: &str = "rck";
/// How much of a key is shown in lists.
const SHOWN: usize = 8;

impl Control {
    /// Who owns a presented token.
    pub async fn authenticate(&self, token: &str) -> Result<Option<TokenOwner>, ControlError> {
        Ok(self.store().find_token(&token_hash(token)).await?)
    }

    /// Makes a key for an agent; its value is shown this once.
    pub async fn create_key(&self, agent: &str, name: &str) -> Result<KeyCreated, ControlError> {
        let agent = self.find(agent).await?;
        let key = ids::random_token(KEY_PREFIX).map_err(|_| crate::base::secret::SecretError::Random)?;
        let id = self.store().add_key(agent.id, name, &key[..SHOWN], &token_hash(&key)).await?;
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
