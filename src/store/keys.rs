//! Keys of agents: stored as hashes.

use super::{Store, StoreError};
use crate::api::control::KeyView;
use crate::base::ids;
use uuid::Uuid;

/// A key that is to be stored.
#[derive(Debug, Clone, Copy)]
pub struct NewKey<'a> {
    /// What it is made for.
    pub name: &'a str,
    /// Its first characters.
    pub prefix: &'a str,
    /// Its hash.
    pub hash: &'a [u8; 32],
}

impl Store {
    /// Adds a key to an agent.
    pub async fn add_key(&self, agent: Uuid, name: &str, prefix: &str, hash: &[u8; 32]) -> Result<Uuid, StoreError> {
        let id = ids::new_id();
        sqlx::query("INSERT INTO agent_keys (id, agent_id, name, prefix, hash) VALUES ($1, $2, $3, $4, $5)")
            .bind(id)
            .bind(agent)
            .bind(name)
            .bind(prefix)
            .bind(hash.as_slice())
            .execute(self.pool())
            .await?;
        Ok(id)
    }

    /// All keys of an agent, oldest first, revoked ones included.
    pub async fn list_keys(&self, agent: Uuid) -> Result<Vec<KeyView>, StoreError> {
        let rows: Vec<(Uuid, String, String, String, Option<String>)> = sqlx::query_as(
            r#"SELECT id, name, prefix, to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                 to_char(revoked_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
               FROM agent_keys WHERE agent_id = $1 ORDER BY id"#,
        )
        .bind(agent)
        .fetch_all(self.pool())
        .await?;
        Ok(rows
            .into_iter()
            .map(|(id, name, prefix, created_at, revoked_at)| KeyView { id, name, prefix, created_at, revoked_at })
            .collect())
    }

    /// Revokes a key. Says whether there was one that still opened something.
    pub async fn revoke_key(&self, agent: Uuid, key: Uuid) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE agent_keys SET revoked_at = now() WHERE agent_id = $1 AND id = $2 AND revoked_at IS NULL",
        )
        .bind(agent)
        .bind(key)
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Hashes of all keys that open something, with the agents they open.
    pub async fn live_keys(&self) -> Result<Vec<([u8; 32], Uuid)>, StoreError> {
        let rows: Vec<(Vec<u8>, Uuid)> = sqlx::query_as(
            "SELECT k.hash, k.agent_id FROM agent_keys k JOIN agents a ON a.id = k.agent_id
             WHERE k.revoked_at IS NULL AND a.destroyed_at IS NULL",
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().filter_map(|(hash, agent)| Some((hash.try_into().ok()?, agent))).collect())
    }
}

/// Adds an agent's first key inside a transaction that holds the agent's row. Says whether it had none.
pub(super) async fn insert_first(
    connection: &mut sqlx::PgConnection,
    agent: Uuid,
    key: NewKey<'_>,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT INTO agent_keys (id, agent_id, name, prefix, hash) SELECT $1, $2, $3, $4, $5
         WHERE NOT EXISTS (SELECT FROM agent_keys WHERE agent_id = $2)",
    )
    .bind(ids::new_id())
    .bind(agent)
    .bind(key.name)
    .bind(key.prefix)
    .bind(key.hash.as_slice())
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}
