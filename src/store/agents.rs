//! Agents: the unit of `status`, keys and secrets.

use super::{Store, StoreError};
use crate::base::ids;
use sqlx::FromRow;
use uuid::Uuid;

/// One agent.
#[derive(Debug, Clone, FromRow)]
pub struct Agent {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// The schema of its checkpoints.
    pub schema_name: String,
    /// The release that serves.
    pub serving_release: Option<Uuid>,
    /// The generation of the replicas that serve: the rollout that made them.
    pub serving_generation: Option<Uuid>,
    /// The generation that is kept for a rollback, while its time is not over.
    pub standby_generation: Option<Uuid>,
    /// Its release.
    pub standby_release: Option<Uuid>,
    /// Seconds until its time is over.
    pub standby_seconds: Option<f64>,
    /// Replicas asked for by hand, in place of the manifest's.
    pub scale: Option<i32>,
    /// Whether it is being destroyed.
    pub destroyed: bool,
}

// No standby lasts an hour: one that seems to is of before the clock was set back.
const COLUMNS: &str = "id, name, schema_name, serving_release, serving_generation,
  CASE WHEN standby_until > now() AND standby_until < now() + interval '1 hour' THEN standby_generation END AS standby_generation, standby_release,
  extract(epoch FROM standby_until - now())::float8 AS standby_seconds, scale,
  destroyed_at IS NOT NULL AS destroyed";

/// The schema of an agent's checkpoints. Names hold no underscore, so no two agents share one.
pub fn schema_name(agent: &str) -> String {
    format!("agent_{}", agent.replace('-', "_"))
}

impl Store {
    /// The agent of that name, made when there is none.
    pub async fn ensure_agent(&self, name: &str) -> Result<Agent, StoreError> {
        if let Some(agent) = self.find_agent(name).await? {
            return Ok(agent);
        }
        sqlx::query("INSERT INTO agents (id, name, schema_name) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING")
            .bind(ids::new_id())
            .bind(name)
            .bind(schema_name(name))
            .execute(self.pool())
            .await?;
        // The name is taken by one that nothing finds any more.
        self.find_agent(name).await?.ok_or(StoreError::BeingDestroyed)
    }

    /// The agent of that name.
    pub async fn find_agent(&self, name: &str) -> Result<Option<Agent>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM agents WHERE name = $1 AND destroyed_at IS NULL");
        Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(name).fetch_optional(self.pool()).await?)
    }

    /// All agents, by name, those that are being destroyed included.
    pub async fn list_agents(&self) -> Result<Vec<Agent>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM agents ORDER BY name");
        Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(self.pool()).await?)
    }

    /// The agent of that id, also one that is being destroyed.
    pub async fn find_agent_by_id(&self, id: Uuid) -> Result<Option<Agent>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM agents WHERE id = $1");
        Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(self.pool()).await?)
    }

    /// Keeps how many replicas are asked for by hand; none: as many as the manifest says.
    pub async fn set_scale(&self, agent: Uuid, replicas: Option<i32>) -> Result<(), StoreError> {
        sqlx::query("UPDATE agents SET scale = $2 WHERE id = $1")
            .bind(agent)
            .bind(replicas)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Marks an agent as gone: nothing finds it any more, its rows go with [`Store::remove_agent`].
    pub async fn destroy_agent(&self, agent: Uuid) -> Result<(), StoreError> {
        sqlx::query("UPDATE agents SET destroyed_at = now() WHERE id = $1").bind(agent).execute(self.pool()).await?;
        Ok(())
    }

    /// Removes all that is known of an agent: keys, secrets, releases, runs, threads and checkpoints.
    pub async fn remove_agent(&self, agent: &Agent) -> Result<(), StoreError> {
        let mut transaction = self.pool().begin().await?;
        let quoted = agent.schema_name.replace('"', "\"\"");
        sqlx::query(sqlx::AssertSqlSafe(format!("DROP SCHEMA IF EXISTS \"{quoted}\" CASCADE")))
            .execute(&mut *transaction)
            .await?;
        sqlx::query("UPDATE agents SET serving_release = NULL, serving_generation = NULL WHERE id = $1")
            .bind(agent.id)
            .execute(&mut *transaction)
            .await?;
        sqlx::query("DELETE FROM agents WHERE id = $1").bind(agent.id).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::test_database::TestDatabase;

    #[tokio::test]
    async fn the_scale_stays_until_it_is_taken_back() {
        let database = TestDatabase::new().await;
        let store = Store::open(database.options()).await.unwrap();
        let agent = store.ensure_agent("a").await.unwrap();
        assert_eq!(agent.scale, None);
        store.set_scale(agent.id, Some(0)).await.unwrap();
        assert_eq!(store.find_agent("a").await.unwrap().unwrap().scale, Some(0));
        assert_eq!(store.agent_rows(Some("a")).await.unwrap()[0].scale, Some(0));
        store.set_scale(agent.id, None).await.unwrap();
        assert_eq!(store.find_agent_by_id(agent.id).await.unwrap().unwrap().scale, None);
    }

    #[tokio::test]
    async fn the_name_of_an_agent_that_is_being_destroyed_is_not_free_yet() {
        let database = TestDatabase::new().await;
        let store = Store::open(database.options()).await.unwrap();
        let agent = store.ensure_agent("a").await.unwrap();
        store.destroy_agent(agent.id).await.unwrap();
        assert!(matches!(store.ensure_agent("a").await, Err(StoreError::BeingDestroyed)));
        store.remove_agent(&agent).await.unwrap();
        assert_ne!(store.ensure_agent("a").await.unwrap().id, agent.id);
    }
}
