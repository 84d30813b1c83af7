//! Secrets of agents, sealed.

use super::rollouts::{self, NewRollout, Rollout};
use super::{Store, StoreError};
use crate::api::control::SecretView;
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

/// A change of some secrets; the others stay.
#[derive(Debug, Clone, Copy)]
pub struct SecretChange<'a> {
    /// New values.
    pub set: &'a [SealedSecret],
    /// Names that go.
    pub unset: &'a [String],
    /// The release whose replicas are to be replaced when anything changed.
    pub replace: Option<Uuid>,
    /// Whether they are to be replaced all the same: they have read older secrets.
    pub stale: bool,
}

impl Store {
    /// Changes some of the agent's secrets and begins the rollout that brings them to the replicas, both
    /// or neither. Says which names changed.
    pub async fn change_secrets(
        &self,
        agent: Uuid,
        change: SecretChange<'_>,
    ) -> Result<(Vec<String>, Option<Rollout>), StoreError> {
        let mut transaction = self.pool().begin().await?;
        // One writer at a time: the agent's row is the lock.
        sqlx::query("SELECT 1 FROM agents WHERE id = $1 FOR UPDATE").bind(agent).execute(&mut *transaction).await?;
        let changed: Vec<String> = sqlx::query_scalar(
            "WITH gone AS (
               DELETE FROM secrets WHERE agent_id = $1 AND name = ANY($5) AND name <> ALL($2) RETURNING name
             ), put AS (
               INSERT INTO secrets (agent_id, name, sealed, mac)
               SELECT $1, * FROM UNNEST($2::text[], $3::bytea[], $4::bytea[])
               ON CONFLICT (agent_id, name) DO UPDATE SET sealed = EXCLUDED.sealed, mac = EXCLUDED.mac, updated_at = now()
               WHERE secrets.mac <> EXCLUDED.mac RETURNING name
             )
             SELECT name FROM gone UNION ALL SELECT name FROM put ORDER BY 1",
        )
        .bind(agent)
        .bind(change.set.iter().map(|one| one.name.as_str()).collect::<Vec<_>>())
        .bind(change.set.iter().map(|one| one.sealed.as_slice()).collect::<Vec<_>>())
        .bind(change.set.iter().map(|one| one.mac.as_slice()).collect::<Vec<_>>())
        .bind(change.unset)
        .fetch_all(&mut *transaction)
        .await?;
        if !changed.is_empty() {
            // Replicas on standby have read yesterday's, and so have those that serve, where there are any.
            sqlx::query(
                "UPDATE agents SET standby_generation = NULL, standby_until = NULL,
                   secrets_changed_at = CASE WHEN $2 THEN now() ELSE secrets_changed_at END WHERE id = $1",
            )
            .bind(agent)
            .bind(change.replace.is_some())
            .execute(&mut *transaction)
            .await?;
        }
        let rollout = match change.replace.filter(|_| change.stale || !changed.is_empty()) {
            Some(release) => Some(rollouts::insert(&mut transaction, agent, release, NewRollout::default()).await?),
            None => None,
        };
        transaction.commit().await?;
        Ok((changed, rollout))
    }

    /// Names of the agent's secrets, and when they changed.
    pub async fn view_secrets(&self, agent: Uuid) -> Result<Vec<SecretView>, StoreError> {
        let rows: Vec<(String, String)> = sqlx::query_as(
            r#"SELECT name, to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
               FROM secrets WHERE agent_id = $1 ORDER BY name"#,
        )
        .bind(agent)
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(|(name, updated_at)| SecretView { name, updated_at }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::control::RolloutFailure;
    use crate::store::test_database::TestDatabase;
    use crate::store::testing::{agent, release, serving};

    fn sealed(name: &str, value: &str) -> SealedSecret {
        SealedSecret { name: name.into(), sealed: value.into(), mac: value.into() }
    }

    #[tokio::test]
    async fn a_change_touches_what_it_names_and_begins_a_rollout_only_when_something_changed() {
        let database = TestDatabase::new().await;
        let store = Store::open(database.options()).await.unwrap();
        let agent = agent(&store, "a").await;
        let release = release(&store, agent.id).await;
        serving(&store, agent.id).await;
        let (first, unset) = ([sealed("A", "1"), sealed("B", "1")], Vec::new());
        let change = SecretChange { set: &first, unset: &unset, replace: None, stale: false };
        assert_eq!(store.change_secrets(agent.id, change).await.unwrap().0, ["A", "B"]);
        let before = store.view_secrets(agent.id).await.unwrap();

        let same = SecretChange { replace: Some(release.id), ..change };
        let (changed, rollout) = store.change_secrets(agent.id, same).await.unwrap();
        assert!(changed.is_empty() && rollout.is_none());
        assert_eq!(store.view_secrets(agent.id).await.unwrap(), before);

        let (second, gone) = ([sealed("B", "2"), sealed("C", "3")], vec!["A".to_owned(), "none".to_owned()]);
        let change = SecretChange { set: &second, unset: &gone, replace: Some(release.id), stale: false };
        let (changed, rollout) = store.change_secrets(agent.id, change).await.unwrap();
        assert_eq!(changed, ["A", "B", "C"]);
        let rollout = rollout.unwrap();
        assert_eq!(rollout.release_id, release.id);
        // That rollout fails: what serves has older secrets, and the same change begins another.
        let failure = RolloutFailure { code: "c".into(), message: String::new(), log: Vec::new(), hints: Vec::new() };
        store.fail_rollout(rollout.id, &failure).await.unwrap();
        assert!(store.find_agent("a").await.unwrap().unwrap().serving_is_stale);
        let (changed, rollout) = store.change_secrets(agent.id, SecretChange { stale: true, ..change }).await.unwrap();
        assert!(changed.is_empty() && rollout.is_some());
        serving(&store, agent.id).await;
        assert!(!store.find_agent("a").await.unwrap().unwrap().serving_is_stale);
        let names: Vec<String> =
            store.view_secrets(agent.id).await.unwrap().into_iter().map(|secret| secret.name).collect();
        assert_eq!(names, ["B", "C"]);
    }

    #[tokio::test]
    async fn a_change_that_cannot_be_rolled_out_is_not_made() {
        let database = TestDatabase::new().await;
        let store = Store::open(database.options()).await.unwrap();
        let agent = agent(&store, "a").await;
        // Its first rollout is under way.
        let release = release(&store, agent.id).await;
        let set = [sealed("A", "1")];
        let change = SecretChange { set: &set, unset: &[], replace: Some(release.id), stale: false };
        assert!(matches!(store.change_secrets(agent.id, change).await, Err(StoreError::RolloutUnderWay)));
        assert!(store.view_secrets(agent.id).await.unwrap().is_empty());
    }
}
