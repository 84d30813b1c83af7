//! Every query on a real Postgres.

mod batches;
mod control;
mod queue;
mod races;
mod runs;
mod status;

use super::agents::Agent;
use super::releases::{NewRelease, Release};
use super::runs::{Acceptance, Accepted, Ending, NewRun, Place, RunRequest, RunStatus};
use super::test_database::TestDatabase;
use super::{Store, StoreError};
use crate::base::ids;
use crate::store::rollouts::NewRollout;
use serde_json::json;
use uuid::Uuid;

/// A store with one agent and its first release.
struct World {
    store: Store,
    agent: Agent,
    release: Release,
    place: Place,
    database: TestDatabase,
}

impl World {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let store = Store::open(database.options()).await.unwrap();
        let agent = store.ensure_agent("agent").await.unwrap();
        let (release, _) = store.begin_rollout(agent.id, &new_release("one"), NewRollout::default()).await.unwrap();
        let place = Place { gateway: ids::new_id(), replica: ids::new_id() };
        Self { store, agent, release, place, database }
    }

    async fn offer(&self, thread: &str, place: Option<Place>, key: Option<&str>) -> (Uuid, Acceptance) {
        let (id, acceptance) = self.offer_to(thread, place, key, None).await;
        (id, acceptance.unwrap())
    }

    /// Where so many may wait.
    async fn offer_to(
        &self,
        thread: &str,
        place: Option<Place>,
        key: Option<&str>,
        queue_limit: Option<u32>,
    ) -> (Uuid, Result<Acceptance, StoreError>) {
        let id = ids::new_id();
        let new = NewRun {
            id,
            agent: self.agent.id,
            release: self.release.id,
            thread: ids::thread_id(thread),
            given: thread,
            graph: "agent",
            request: &RunRequest::Chat { message: "hello".into(), full: false, more: None },
            metadata: &json!({ "user_id": "ann" }),
            idempotency_key: key,
            queue_limit,
        };
        (id, self.store.accept_run(&new, place).await)
    }

    /// A new run, begun where its thread is free.
    async fn accept(&self, thread: &str) -> (Uuid, Accepted) {
        match self.offer(thread, Some(self.place), None).await {
            (id, Acceptance::Accepted(accepted)) => (id, accepted),
            (_, repeated @ Acceptance::Repeated(_)) => panic!("{repeated:?}"),
        }
    }

    /// A new run that waits.
    async fn queue(&self, thread: &str) -> Uuid {
        let (id, accepted) = self.offer(thread, None, None).await;
        assert!(matches!(accepted, Acceptance::Accepted(Accepted { running: false, .. })));
        id
    }

    /// The next run and the number of its attempt.
    async fn claim(&self) -> Option<(Uuid, i32)> {
        self.claim_several(1).await.pop()
    }

    /// The next runs, at most so many.
    async fn claim_several(&self, most: usize) -> Vec<(Uuid, i32)> {
        let places = vec![self.place.replica; most];
        let claimed =
            self.store.claim_runs(self.agent.id, self.release.id, self.place.gateway, &places, false).await.unwrap();
        claimed.into_iter().map(|claimed| (claimed.id, claimed.attempt)).collect()
    }

    /// The next of those that are to have a replica for themselves.
    async fn claim_alone(&self) -> Option<(Uuid, i32)> {
        let place = [self.place.replica];
        let claimed = self.store.claim_runs(self.agent.id, self.release.id, self.place.gateway, &place, true).await;
        claimed.unwrap().pop().map(|claimed| (claimed.id, claimed.attempt))
    }

    async fn has_suspect(&self) -> bool {
        self.store.has_suspect(self.agent.id).await.unwrap()
    }

    /// Ends an attempt; says whether the run ended by it.
    async fn end(&self, run: Uuid, attempt: i32, status: RunStatus) -> bool {
        let ended = self.store.end_runs(&[Ending::new(run, attempt, status)]).await.unwrap();
        assert!(ended.is_empty() || ended == [run]);
        !ended.is_empty()
    }

    /// A value of a run's row.
    async fn of_run<T>(&self, run: Uuid, column: &'static str) -> T
    where
        T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        let sql = format!("SELECT {column} FROM runs WHERE id = $1");
        let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(run);
        query.fetch_one(self.store.pool()).await.unwrap()
    }
}

fn new_release(image: &str) -> NewRelease {
    NewRelease {
        image: image.into(),
        inputs_digest: format!("inputs of {image}"),
        manifest: json!({ "graphs": {} }),
        folder: "project".into(),
        spec: json!({}),
        source_revision: None,
        copy_of: None,
        pushed: None,
    }
}
