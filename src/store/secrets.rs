//! Secrets of agents, sealed.

use super::{Store, StoreError};
use uuid::Uuid;

/// One secret as it is stored.
#[derive(Debug, Clone)]
pub struct SealedSecret {
    /// Its name.
    pub name: String,
    /// Nonce and ciphertext.
    pub sealed: Vec<u8>,
    /// Keyed digest of the value: equal values, equal digests.
    pub mac: Vec<u8>,
}

impl Store {
    /// Makes these the agent's secrets, all of them. Says whether anything changed.
    pub async fn replace_secrets(&self, agent: Uuid, secrets: &[SealedSecret]) -> Result<bool, StoreError> {
        let mut transaction = self.pool().begin().await?;
        // One writer at a time: the agent's row is the lock.
        sqlx::query("SELECT 1 FROM agents WHERE id = $1 FOR UPDATE").bind(agent).execute(&mut *transaction).await?;
        let before: Vec<(String, Vec<u8>)> =
            sqlx::query_as("SELECT name, mac FROM secrets WHERE agent_id = $1 ORDER BY name COLLATE \"C\"")
                .bind(agent)
                .fetch_all(&mut *transaction)
                .await?;
        let mut after: Vec<(&str, &[u8])> = secrets.iter().map(|one| (one.name.as_str(), one.mac.as_slice())).collect();
        after.sort_unstable();
        if before.iter().map(|(name, mac)| (name.as_str(), mac.as_slice())).eq(after) {
            return Ok(false);
        }
        sqlx::query("DELETE FROM secrets WHERE agent_id = $1 AND name <> ALL($2)")
            .bind(agent)
            .bind(secrets.iter().map(|one| one.name.as_str()).collect::<Vec<_>>())
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "INSERT INTO secrets (agent_id, name, sealed, mac) SELECT $1, * FROM UNNEST($2::text[], $3::bytea[], $4::bytea[])
             ON CONFLICT (agent_id, name) DO UPDATE SET sealed = EXCLUDED.sealed, mac = EXCLUDED.mac, updated_at = now()
             WHERE secrets.mac <> EXCLUDED.mac",
        )
        .bind(agent)
        .bind(secrets.iter().map(|one| one.name.as_str()).collect::<Vec<_>>())
        .bind(secrets.iter().map(|one| one.sealed.as_slice()).collect::<Vec<_>>())
        .bind(secrets.iter().map(|one| one.mac.as_slice()).collect::<Vec<_>>())
        .execute(&mut *transaction)
        .await?;
        sqlx::query("UPDATE agents SET secrets_changed_at = now() WHERE id = $1")
            .bind(agent)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Names of secrets that changed since a release was made.
    pub async fn secrets_changed_since(&self, agent: Uuid, release: Uuid) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar(
            "SELECT name FROM secrets WHERE agent_id = $1
               AND updated_at > (SELECT created_at FROM releases WHERE id = $2) ORDER BY name",
        )
        .bind(agent)
        .bind(release)
        .fetch_all(self.pool())
        .await?)
    }

    /// The agent's secrets, by name.
    pub async fn list_secrets(&self, agent: Uuid) -> Result<Vec<SealedSecret>, StoreError> {
        let rows: Vec<(String, Vec<u8>, Vec<u8>)> =
            sqlx::query_as("SELECT name, sealed, mac FROM secrets WHERE agent_id = $1 ORDER BY name")
                .bind(agent)
                .fetch_all(self.pool())
                .await?;
        Ok(rows.into_iter().map(|(name, sealed, mac)| SealedSecret { name, sealed, mac }).collect())
    }
}
