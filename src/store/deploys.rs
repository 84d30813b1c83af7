//! A deploy, a rollback, a change of secrets: each is one transaction that stores the secret set, the first key, the
//! release and its rollout, or nothing.

use super::keys::NewKey;
use super::releases::{self, NewRelease, Release};
use super::rollouts::{self, NewRollout, Rollout};
use super::secrets::{self, SealedSecret, SecretChange, SecretDiff};
use super::{Store, StoreError, keys};
use crate::base::ids;
use sqlx::PgConnection;
use uuid::Uuid;

/// What is to be stored.
#[derive(Debug, Clone, Copy)]
pub struct NewDeploy<'a> {
    /// What is rolled out; none: what serves, with other secrets.
    pub release: Option<&'a NewRelease>,
    /// What becomes of the agent's secrets.
    pub secrets: SecretChange<'a>,
    /// The number of the set that `secrets` was judged by: where another is current by now, nothing is stored.
    pub current_set: i32,
    /// Replaces this value in every set that holds its name.
    pub rotate: Option<&'a SealedSecret>,
    /// The agent's first key, stored where it has none.
    pub key: Option<NewKey<'a>>,
    /// Its rollout.
    pub rollout: NewRollout<'a>,
}

/// What was stored.
#[derive(Debug, Clone)]
pub struct Deployed {
    /// The release and its rollout. None: what serves is the same already, or nothing serves that could have other
    /// secrets.
    pub begun: Option<(Release, Rollout)>,
    /// What it did to the current set.
    pub secrets: SecretDiff,
    /// Whether there are any secrets after it.
    pub has_secrets: bool,
    /// Whether the key was stored.
    pub has_key: bool,
    /// In how many sets a rotated value was another.
    pub rotated: u64,
}

/// The agent's row, locked for this transaction: one writer at a time.
async fn lock(connection: &mut PgConnection, agent: Uuid) -> Result<Option<Uuid>, StoreError> {
    let row: Option<(Option<Uuid>, bool)> =
        sqlx::query_as("SELECT serving_release, destroyed_at IS NOT NULL FROM agents WHERE id = $1 FOR UPDATE")
            .bind(agent)
            .fetch_optional(connection)
            .await?;
    match row {
        Some((serving, false)) => Ok(serving),
        _ => Err(StoreError::BeingDestroyed),
    }
}

impl Store {
    /// Makes a release with the agent's current secrets, and its rollout.
    pub async fn begin_rollout(
        &self,
        agent: Uuid,
        release: &NewRelease,
        rollout: NewRollout<'_>,
    ) -> Result<(Release, Rollout), StoreError> {
        let current_set = self.current_secret_set(agent).await?;
        let new = NewDeploy {
            release: Some(release),
            secrets: SecretChange::Keep,
            current_set,
            rotate: None,
            key: None,
            rollout,
        };
        self.deploy(agent, new).await?.begun.ok_or(StoreError::RolloutUnderWay)
    }

    /// Stores a deploy. While a rollout is under way it is refused; but a change of secrets takes the place of a
    /// rollout that only brings earlier ones.
    pub async fn deploy(&self, agent: Uuid, new: NewDeploy<'_>) -> Result<Deployed, StoreError> {
        let mut transaction = self.pool().begin().await?;
        let connection = &mut *transaction;
        let serving = match lock(connection, agent).await? {
            Some(release) => releases::find(connection, release).await?,
            None => None,
        };
        let running = rollouts::running(connection, agent).await?;
        let replaced = running.as_ref().filter(|rollout| rollout.rolling && new.release.is_none());
        if running.is_some() && replaced.is_none() {
            return Err(StoreError::RolloutUnderWay);
        }
        let current = secrets::current(connection, agent).await?;
        if current != new.current_set {
            return Err(StoreError::SecretsChanged);
        }
        let before = secrets::list(connection, agent, current).await?;
        let (now, mut diff) = secrets::after(&before, new.secrets);
        let set = match new.secrets {
            SecretChange::Restore(number) => {
                diff.changed = secrets::differing(&before, &secrets::list(connection, agent, number).await?);
                number
            }
            _ if current > 0 && diff.changed.is_empty() => {
                secrets::set_origins(connection, agent, current, &now).await?;
                current
            }
            _ => secrets::insert(connection, agent, current, &now).await?,
        };
        let rotated = match new.rotate {
            Some(secret) => {
                rollouts::forget_standby(connection, agent).await?;
                secrets::replace_everywhere(connection, agent, secret).await?
            }
            None => 0,
        };
        let has_key = match new.key {
            Some(key) => keys::insert_first(connection, agent, key).await?,
            None => false,
        };
        let content = new.release.cloned().or_else(|| serving.as_ref().map(NewRelease::again));
        // Where a rollout is under way, the newest release is its own.
        let is_same = |content: &NewRelease| match (&running, &serving) {
            (Some(_), _) => set == current,
            (None, Some(serving)) => serving.has_content_of(content) && serving.secret_set == Some(set),
            (None, None) => false,
        };
        let begun = match content.filter(|content| !is_same(content)) {
            Some(content) => {
                let names: Vec<String> =
                    secrets::list(connection, agent, set).await?.into_iter().map(|one| one.name).collect();
                let release = releases::insert(connection, ids::new_id(), agent, &content, (set, &names)).await?;
                let rolling = serving.as_ref().is_some_and(|serving| serving.has_content_of(&content));
                let id = new.rollout.id.unwrap_or_else(ids::new_id);
                if let Some(replaced) = replaced {
                    rollouts::supersede(connection, replaced.id, id).await?;
                }
                let standby = new.rollout.standby.filter(|_| !rolling);
                let begin = NewRollout { id: Some(id), rolling, standby, ..new.rollout };
                let rollout = rollouts::insert(connection, agent, release.id, begin).await?;
                Some((release, rollout))
            }
            None => match replaced {
                // What is under way brings it already.
                Some(rollout) => {
                    releases::find(connection, rollout.release_id).await?.map(|release| (release, rollout.clone()))
                }
                None => None,
            },
        };
        transaction.commit().await?;
        Ok(Deployed { begun, secrets: diff, has_secrets: !now.is_empty(), has_key, rotated })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::control::RolloutFailure;
    use crate::release::state::RolloutState;
    use crate::store::agents::Agent;
    use crate::store::test_database::TestDatabase;
    use crate::store::testing::{agent, release, serving};

    fn sealed(name: &str, value: &str) -> SealedSecret {
        SealedSecret { name: name.into(), sealed: value.into(), mac: value.into(), by_hand: false }
    }

    struct World {
        _database: TestDatabase,
        store: Store,
        agent: Agent,
    }

    impl World {
        /// An agent whose first release serves, with these secrets.
        async fn new(secrets: &[SealedSecret]) -> Self {
            let database = TestDatabase::new().await;
            let store = Store::open(database.options()).await.unwrap();
            let agent = agent(&store, "a").await;
            let world = Self { _database: database, store, agent };
            let first = crate::store::testing::new_release();
            world.deploy(Some(&first), SecretChange::Deploy(secrets)).await.unwrap();
            serving(&world.store, world.agent.id).await;
            world
        }

        async fn deploy(
            &self,
            release: Option<&NewRelease>,
            secrets: SecretChange<'_>,
        ) -> Result<Deployed, StoreError> {
            let current_set = self.store.current_secret_set(self.agent.id).await.unwrap();
            let rollout = NewRollout::default();
            let new = NewDeploy { release, secrets, current_set, rotate: None, key: None, rollout };
            self.store.deploy(self.agent.id, new).await
        }

        async fn edit(&self, set: &[SealedSecret]) -> Deployed {
            self.deploy(None, SecretChange::Edit { set, unset: &[] }).await.unwrap()
        }

        /// The secrets of a release.
        async fn of(&self, release: &Release) -> Vec<String> {
            let secrets = self.store.list_secrets(self.agent.id, release.secret_set.unwrap()).await.unwrap();
            secrets.iter().map(|one| format!("{}={}", one.name, String::from_utf8_lossy(&one.mac))).collect()
        }

        async fn fail(&self, rollout: &Rollout) {
            let failure =
                RolloutFailure { code: "c".into(), message: String::new(), log: Vec::new(), hints: Vec::new() };
            self.store.fail_rollout(rollout.id, &failure).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_release_that_fails_leaves_the_secrets_of_the_one_that_serves_alone() {
        let world = World::new(&[sealed("A", "1")]).await;
        let served = world.store.find_version(world.agent.id, 1).await.unwrap().unwrap();
        assert!(world.store.has_secrets().await.unwrap());
        let new = crate::store::testing::new_release();
        let deployed = world.deploy(Some(&new), SecretChange::Deploy(&[sealed("A", "2")])).await.unwrap();
        let (release, rollout) = deployed.begun.unwrap();
        assert!(!rollout.rolling);
        assert_eq!((world.of(&release).await, world.of(&served).await), (vec!["A=2".into()], vec!["A=1".into()]));
        world.fail(&rollout).await;
        assert_eq!(Some(world.store.current_secret_set(world.agent.id).await.unwrap()), served.secret_set);
        // What a deploy without secrets keeps is what serves, not what failed.
        let deployed = world.deploy(Some(&new), SecretChange::Keep).await.unwrap();
        assert_eq!(deployed.begun.unwrap().0.secret_set, served.secret_set);
    }

    #[tokio::test]
    async fn a_change_of_secrets_is_a_release_of_the_same_content_and_the_same_once_more_is_none() {
        let world = World::new(&[sealed("A", "1"), sealed("B", "1")]).await;
        let first = world.store.find_version(world.agent.id, 1).await.unwrap().unwrap();
        assert!(world.edit(&[sealed("A", "1")]).await.begun.is_none());
        let deployed = world.edit(&[sealed("A", "2")]).await;
        assert_eq!(deployed.secrets.changed, ["A"]);
        let (release, rollout) = deployed.begun.unwrap();
        assert!(rollout.rolling && release.has_content_of(&NewRelease::again(&first)));
        assert_eq!((release.version, world.of(&release).await), (2, vec!["A=2".to_owned(), "B=1".to_owned()]));
        assert_eq!(world.store.find_rolling_from(rollout.generation).await.unwrap(), Some(first.id));

        // What is under way brings it already.
        let same = world.edit(&[sealed("A", "2")]).await;
        assert_eq!(same.begun.unwrap().1.id, rollout.id);
        // Another value takes its place.
        let next = world.edit(&[sealed("B", "3")]).await.begun.unwrap();
        let view = world.store.view_rollout(rollout.id, 0).await.unwrap().unwrap();
        assert_eq!((view.state, view.superseded_by), (RolloutState::Cancelled, Some(next.1.id)));
        assert_eq!(world.of(&next.0).await, ["A=2", "B=3"]);
        assert_eq!(next.1.from_release_id, Some(first.id));
        // Taken back meanwhile, it is rolled out all the same: replicas may have read the other one.
        let back = world.edit(&[sealed("A", "1"), sealed("B", "1")]).await.begun.unwrap();
        assert_eq!(world.of(&back.0).await, world.of(&first).await);
        // A deploy waits for its end.
        let refused = world.deploy(Some(&crate::store::testing::new_release()), SecretChange::Keep).await;
        assert!(matches!(refused, Err(StoreError::RolloutUnderWay)));
        serving(&world.store, world.agent.id).await;
        assert_eq!(world.store.find_agent("a").await.unwrap().unwrap().serving_release, Some(back.0.id));
    }

    #[tokio::test]
    async fn a_rollback_brings_its_secrets_back_and_a_rotated_value_stays_rotated() {
        let world = World::new(&[sealed("A", "1"), sealed("B", "1")]).await;
        let first = world.store.find_version(world.agent.id, 1).await.unwrap().unwrap();
        world.edit(&[sealed("A", "2"), sealed("B", "2")]).await;
        serving(&world.store, world.agent.id).await;
        // A leaked value is replaced in every set.
        let (rotated, current_set) = (sealed("B", "9"), world.store.current_secret_set(world.agent.id).await.unwrap());
        let new = NewDeploy {
            release: None,
            secrets: SecretChange::Edit { set: std::slice::from_ref(&rotated), unset: &[] },
            current_set,
            rotate: Some(&rotated),
            key: None,
            rollout: NewRollout::default(),
        };
        let deployed = world.store.deploy(world.agent.id, new).await.unwrap();
        assert_eq!((deployed.rotated, deployed.begun.unwrap().0.version), (2, 3));
        serving(&world.store, world.agent.id).await;
        // The release before is the one with other secrets, though the content is the same.
        let serving_now = world.store.find_version(world.agent.id, 3).await.unwrap().unwrap();
        let previous = world.store.find_previous(world.agent.id, &serving_now).await.unwrap().unwrap();
        assert_eq!(previous.version, 2);

        let again = NewRelease { copy_of: Some(first.id), ..NewRelease::again(&first) };
        let back = world.deploy(Some(&again), SecretChange::Restore(first.secret_set.unwrap())).await.unwrap();
        assert_eq!(back.secrets.changed, ["A"]);
        let (release, rollout) = back.begun.unwrap();
        assert_eq!((world.of(&release).await, rollout.rolling), (vec!["A=1".to_owned(), "B=9".to_owned()], true));
        // Of each name all values that a log may show are known.
        let all = world.store.list_all_secrets(world.agent.id).await.unwrap();
        let all: Vec<_> = all.iter().map(|one| format!("{}={}", one.name, String::from_utf8_lossy(&one.mac))).collect();
        assert_eq!(all, ["A=1", "A=2", "B=9"]);
    }

    #[tokio::test]
    async fn what_cannot_begin_leaves_nothing_and_a_change_of_others_is_noticed() {
        let world = World::new(&[sealed("A", "1")]).await;
        let count = async || -> (i64, i64, i64) {
            let sql = "SELECT (SELECT count(*) FROM secret_sets), (SELECT count(*) FROM releases), (SELECT count(*) FROM agent_keys)";
            sqlx::query_as(sql).fetch_one(world.store.pool()).await.unwrap()
        };
        let release = release(&world.store, world.agent.id).await;
        let before = count().await;
        let new = crate::store::testing::new_release();
        let refused = world.deploy(Some(&new), SecretChange::Deploy(&[sealed("A", "2")])).await;
        assert!(matches!(refused, Err(StoreError::RolloutUnderWay)));
        assert_eq!(count().await, before);
        world
            .store
            .cancel_rollout(world.store.running_rollout(world.agent.id).await.unwrap().unwrap().id)
            .await
            .unwrap();
        let key = NewKey { name: "n", prefix: "p", hash: &[1; 32] };
        let deploy = NewDeploy {
            release: Some(&new),
            secrets: SecretChange::Keep,
            current_set: release.secret_set.unwrap() + 1,
            rotate: None,
            key: Some(key),
            rollout: NewRollout::default(),
        };
        let refused = world.store.deploy(world.agent.id, deploy).await;
        assert!(matches!(refused, Err(StoreError::SecretsChanged)));
        assert_eq!(count().await, before);
        let deploy = NewDeploy { current_set: release.secret_set.unwrap(), ..deploy };
        assert!(world.store.deploy(world.agent.id, deploy).await.unwrap().has_key);
        // It has one now.
        world
            .store
            .cancel_rollout(world.store.running_rollout(world.agent.id).await.unwrap().unwrap().id)
            .await
            .unwrap();
        let key = NewKey { hash: &[2; 32], ..key };
        assert!(!world.store.deploy(world.agent.id, NewDeploy { key: Some(key), ..deploy }).await.unwrap().has_key);
    }

    #[tokio::test]
    async fn releases_of_a_server_of_before_get_the_secrets_that_it_knew() {
        let world = World::new(&[sealed("A", "1")]).await;
        let (pool, agent) = (world.store.pool(), world.agent.id);
        sqlx::query("UPDATE releases SET secret_set = NULL").execute(pool).await.unwrap();
        sqlx::query("INSERT INTO secrets (agent_id, name, sealed, mac) VALUES ($1, 'B', 'x', 'x')")
            .bind(agent)
            .execute(pool)
            .await
            .unwrap();
        // Its replacement of replicas is a rolling rollout.
        sqlx::query(
            "INSERT INTO rollouts (id, agent_id, release_id, from_release_id, generation, state, phase)
                     SELECT $1, id, serving_release, serving_release, $1, 'running', 'start' FROM agents WHERE id = $2",
        )
        .bind(ids::new_id())
        .bind(agent)
        .execute(pool)
        .await
        .unwrap();
        assert!(world.store.running_rollout(agent).await.unwrap().unwrap().rolling);
        world.store.adopt_secrets().await.unwrap();
        let release = world.store.find_version(agent, 1).await.unwrap().unwrap();
        assert_eq!((release.secret_set, world.of(&release).await), (Some(2), vec!["B=x".to_owned()]));
    }
}
