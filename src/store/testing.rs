//! Rows for the tests of queries.

use super::Store;
use super::agents::Agent;
use super::releases::{NewRelease, Release};
use super::runs::{NewRun, Place, RunRequest};
use crate::api::control::PhaseTime;
use crate::base::ids;
use crate::release::state::Phase;
use crate::store::rollouts::NewRollout;
use serde_json::json;
use uuid::Uuid;

pub async fn agent(store: &Store, name: &str) -> Agent {
    store.ensure_agent(name).await.unwrap()
}

/// What a release is made from, unlike any other.
pub fn new_release() -> NewRelease {
    NewRelease {
        image: format!("sha256:{}", ids::new_id().simple()),
        inputs_digest: format!("sha256:{}", ids::new_id().simple()),
        manifest: json!({}),
        folder: "project".into(),
        spec: json!({}),
        source_revision: Some("0123456789abcdef".into()),
        copy_of: None,
        pushed: None,
    }
}

/// A new release, whose rollout is under way.
pub async fn release(store: &Store, agent: Uuid) -> Release {
    store.begin_rollout(agent, &new_release(), NewRollout::default()).await.unwrap().0
}

/// Ends the rollout under way: its release serves.
pub async fn serving(store: &Store, agent: Uuid) {
    let rollout = store.running_rollout(agent).await.unwrap().unwrap();
    let ended = PhaseTime { phase: Phase::Switch, seconds: 0.1 };
    store.finish_rollout(&rollout, &ended, 600.0).await.unwrap();
}

/// A run on a thread, which began if nothing else ran there.
pub async fn run(store: &Store, agent: Uuid, release: Uuid, given: &str) -> Uuid {
    let request = RunRequest::Chat { message: "hello".into(), full: false, more: None };
    let new = NewRun {
        id: ids::new_id(),
        agent,
        release,
        thread: ids::thread_id(given),
        given,
        graph: "graph",
        request: &request,
        metadata: &json!({ "user_id": "u" }),
        idempotency_key: None,
        queue_limit: None,
    };
    let place = Place { gateway: Uuid::nil(), replica: Uuid::from_u128(7) };
    store.accept_run(&new, Some(place)).await.unwrap();
    new.id
}
