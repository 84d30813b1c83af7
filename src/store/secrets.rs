//! Secrets of agents, sealed.

use super::rollouts::{self, NewRollout, Rollout};
use super::{Store, StoreError};
use crate::api::control::SecretView;
use crate::base::ids;
use sqlx::FromRow;
use uuid::Uuid;

/// One secret as it is stored.
#[derive(Debug, Clone, FromRow)]
pub struct SealedSecret {
    /// Its name.
    pub name: String,
    /// Nonce and ciphertext.
    pub sealed: Vec<u8>,
    /// Keyed digest of the value: equal values, equal digests.
    pub mac: Vec<u8>,
    /// Whether it was set by hand, and not by a deploy. Only read.
    pub by_hand: bool,
}

/// What a deploy did to the agent's secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeployedSecrets {
    /// Whether any value is not what it was.
    pub changed: bool,
    /// Names that an earlier deploy brought, and this one did not.
    pub forgotten: Vec<String>,
    /// Names that were set by hand and stay as they are.
    pub kept: Vec<String>,
    /// Names that were set by hand to another value than the one that was deployed now.
    pub overwritten: Vec<String>,
}

/// What becomes of the secrets that were there before: name, digest, whether set by hand.
fn compare(before: &[(String, Vec<u8>, bool)], deployed: &[SealedSecret]) -> DeployedSecrets {
    let mut done = DeployedSecrets::default();
    let mut same = 0;
    for (name, mac, by_hand) in before {
        match deployed.iter().find(|one| one.name == *name) {
            Some(one) if one.mac == *mac => same += 1,
            Some(_) if *by_hand => done.overwritten.push(name.clone()),
            Some(_) => {}
            None if *by_hand => done.kept.push(name.clone()),
            None => done.forgotten.push(name.clone()),
        }
    }
    done.changed = same < deployed.len() || !done.forgotten.is_empty();
    done
}

impl Store {
    /// Makes these the agent's secrets: what an earlier deploy brought and this one does not is forgotten,
    /// what was set by hand and is not among them stays.
    pub async fn deploy_secrets(&self, agent: Uuid, secrets: &[SealedSecret]) -> Result<DeployedSecrets, StoreError> {
        let mut transaction = self.pool().begin().await?;
        // One writer at a time: the agent's row is the lock.
        sqlx::query("SELECT 1 FROM agents WHERE id = $1 FOR UPDATE").bind(agent).execute(&mut *transaction).await?;
        let before: Vec<(String, Vec<u8>, bool)> =
            sqlx::query_as("SELECT name, mac, by_hand FROM secrets WHERE agent_id = $1 ORDER BY name")
                .bind(agent)
                .fetch_all(&mut *transaction)
                .await?;
        let done = compare(&before, secrets);
        sqlx::query("DELETE FROM secrets WHERE agent_id = $1 AND name = ANY($2)")
            .bind(agent)
            .bind(&done.forgotten)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "INSERT INTO secrets (agent_id, name, sealed, mac) SELECT $1, * FROM UNNEST($2::text[], $3::bytea[], $4::bytea[])
             ON CONFLICT (agent_id, name) DO UPDATE SET sealed = EXCLUDED.sealed, mac = EXCLUDED.mac, by_hand = false,
               updated_at = CASE WHEN secrets.mac = EXCLUDED.mac THEN secrets.updated_at ELSE now() END
             WHERE secrets.mac <> EXCLUDED.mac OR secrets.by_hand",
        )
        .bind(agent)
        .bind(secrets.iter().map(|one| one.name.as_str()).collect::<Vec<_>>())
        .bind(secrets.iter().map(|one| one.sealed.as_slice()).collect::<Vec<_>>())
        .bind(secrets.iter().map(|one| one.mac.as_slice()).collect::<Vec<_>>())
        .execute(&mut *transaction)
        .await?;
        if done.changed {
            // Replicas on standby have read yesterday's. Later than all that has read secrets, though the clock may
            // have been set back since.
            sqlx::query(
                "UPDATE agents SET secrets_changed_at = greatest(now(), (SELECT max(secrets_at) + interval '1 microsecond' FROM rollouts WHERE agent_id = $1)),
                   standby_generation = NULL, standby_until = NULL
                 WHERE id = $1",
            )
            .bind(agent)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(done)
    }

    /// Names of secrets that changed, came or went since a release was made.
    pub async fn secrets_changed_since(&self, agent: Uuid, release: Uuid) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar(
            "SELECT name FROM secrets WHERE agent_id = $1
               AND updated_at > (SELECT created_at FROM releases WHERE id = $2)
             UNION
             SELECT had.name FROM releases r, unnest(r.secret_names) had(name)
             WHERE r.id = $2 AND NOT EXISTS (SELECT FROM secrets s WHERE s.agent_id = $1 AND s.name = had.name)
             ORDER BY name",
        )
        .bind(agent)
        .bind(release)
        .fetch_all(self.pool())
        .await?)
    }

    /// The agent's secrets, by name.
    pub async fn list_secrets(&self, agent: Uuid) -> Result<Vec<SealedSecret>, StoreError> {
        let sql = "SELECT name, sealed, mac, by_hand FROM secrets WHERE agent_id = $1 ORDER BY name";
        Ok(sqlx::query_as(sql).bind(agent).fetch_all(self.pool()).await?)
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
    /// or neither. One under way that brings earlier ones begins anew. Says which names changed.
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
               INSERT INTO secrets (agent_id, name, sealed, mac, by_hand)
               SELECT $1, *, true FROM UNNEST($2::text[], $3::bytea[], $4::bytea[])
               ON CONFLICT (agent_id, name) DO UPDATE SET sealed = EXCLUDED.sealed, mac = EXCLUDED.mac, by_hand = true, updated_at = now()
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
                   secrets_changed_at = CASE WHEN $2 THEN greatest(now(), (SELECT max(secrets_at) + interval '1 microsecond' FROM rollouts WHERE agent_id = $1))
                     ELSE secrets_changed_at END WHERE id = $1",
            )
            .bind(agent)
            .bind(change.replace.is_some())
            .execute(&mut *transaction)
            .await?;
        }
        let rollout = match change.replace.filter(|_| change.stale || !changed.is_empty()) {
            Some(release) => {
                let anew = (!changed.is_empty()).then(ids::new_id);
                match rollouts::begin_replacement_anew(&mut transaction, agent, release, anew).await? {
                    None => Some(rollouts::insert(&mut transaction, agent, release, NewRollout::default()).await?),
                    under_way => under_way,
                }
            }
            None => None,
        };
        transaction.commit().await?;
        Ok((changed, rollout))
    }

    /// Names of the agent's secrets, and when they changed.
    pub async fn view_secrets(&self, agent: Uuid) -> Result<Vec<SecretView>, StoreError> {
        let rows: Vec<(String, String, bool)> = sqlx::query_as(
            r#"SELECT name, to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), by_hand
               FROM secrets WHERE agent_id = $1 ORDER BY name"#,
        )
        .bind(agent)
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(|(name, updated_at, by_hand)| SecretView { name, updated_at, by_hand }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::control::RolloutFailure;
    use crate::store::test_database::TestDatabase;
    use crate::store::testing::{agent, release, serving};

    fn sealed(name: &str, value: &str) -> SealedSecret {
        SealedSecret { name: name.into(), sealed: value.into(), mac: value.into(), by_hand: false }
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
    async fn a_second_change_makes_the_rollout_of_the_first_begin_anew() {
        let database = TestDatabase::new().await;
        let store = Store::open(database.options()).await.unwrap();
        let agent = agent(&store, "a").await;
        let release = release(&store, agent.id).await;
        serving(&store, agent.id).await;
        let set = [sealed("A", "1")];
        let change = SecretChange { set: &set, unset: &[], replace: Some(release.id), stale: false };
        let first = store.change_secrets(agent.id, change).await.unwrap().1.unwrap();
        let now = store.running_rollout(agent.id).await.unwrap().unwrap();

        // The same once more: what is under way brings it already.
        let (changed, same) = store.change_secrets(agent.id, SecretChange { stale: true, ..change }).await.unwrap();
        assert!(changed.is_empty());
        assert_eq!((same.as_ref().unwrap().id, same.unwrap().generation), (first.id, first.generation));

        let set = [sealed("A", "2")];
        let again = SecretChange { set: &set, stale: true, ..change };
        let second = store.change_secrets(agent.id, again).await.unwrap().1.unwrap();
        assert_eq!((second.id, second.release_id), (first.id, release.id));
        assert_ne!(second.generation, first.generation);
        // What was ready with the first change does not end it.
        let ended = crate::api::control::PhaseTime { phase: crate::release::state::Phase::Switch, seconds: 0.1 };
        assert!(!store.finish_rollout(&now, &ended, 1.0).await.unwrap());
        assert!(store.find_agent("a").await.unwrap().unwrap().serving_is_stale);
        serving(&store, agent.id).await;
        let agent = store.find_agent("a").await.unwrap().unwrap();
        assert!(!agent.serving_is_stale);
        assert_eq!(agent.serving_generation, Some(second.generation));
    }

    #[tokio::test]
    async fn a_deploy_leaves_what_was_set_by_hand_unless_it_names_it() {
        let database = TestDatabase::new().await;
        let store = Store::open(database.options()).await.unwrap();
        let agent = agent(&store, "a").await;
        let names = async || -> Vec<(String, bool)> {
            store.view_secrets(agent.id).await.unwrap().into_iter().map(|one| (one.name, one.by_hand)).collect()
        };
        let done = store.deploy_secrets(agent.id, &[sealed("A", "1"), sealed("B", "1")]).await.unwrap();
        assert_eq!(done, DeployedSecrets { changed: true, ..DeployedSecrets::default() });
        let by_hand = [sealed("B", "2"), sealed("C", "2")];
        let change = SecretChange { set: &by_hand, unset: &[], replace: None, stale: false };
        store.change_secrets(agent.id, change).await.unwrap();
        assert_eq!(names().await, [("A".into(), false), ("B".into(), true), ("C".into(), true)]);

        let done = store.deploy_secrets(agent.id, &[sealed("B", "1")]).await.unwrap();
        let wanted = DeployedSecrets {
            changed: true,
            forgotten: vec!["A".into()],
            kept: vec!["C".into()],
            overwritten: vec!["B".into()],
        };
        assert_eq!(done, wanted);
        assert_eq!(names().await, [("B".into(), false), ("C".into(), true)]);
        // What is deployed with the value that it has is deployed from now on, and that is no change.
        let before = store.view_secrets(agent.id).await.unwrap();
        let done = store.deploy_secrets(agent.id, &[sealed("B", "1"), sealed("C", "2")]).await.unwrap();
        assert_eq!(done, DeployedSecrets::default());
        assert_eq!(names().await, [("B".into(), false), ("C".into(), false)]);
        assert_eq!(store.view_secrets(agent.id).await.unwrap()[1].updated_at, before[1].updated_at);
        assert!(store.deploy_secrets(agent.id, &[]).await.unwrap().changed);
        assert!(names().await.is_empty());
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
