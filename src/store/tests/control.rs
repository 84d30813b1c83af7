//! Agents, releases, rollouts, keys and secrets.

use super::*;
use crate::api::control::{PhaseTime, RolloutFailure};
use crate::api::tokens::TokenState;
use crate::release::state::{Phase, RolloutState};
use crate::store::StoreError;
use crate::store::checkpoints::{Schema, ensure_schema};
use crate::store::rollouts::NewRollout;
use futures_util::future::join_all;

#[tokio::test]
async fn an_agent_is_made_once_and_leaves_nothing_when_it_is_removed() {
    let world = World::new().await;
    let store = &world.store;
    let made = join_all((0..8).map(|_| store.ensure_agent("my-agent"))).await;
    let agent = made[0].as_ref().unwrap();
    assert!(made.iter().all(|one| one.as_ref().unwrap().id == agent.id));
    assert_eq!(agent.schema_name, "agent_my_agent");
    ensure_schema(store.pool(), &Schema::new(&agent.schema_name).unwrap()).await.unwrap();
    store.add_key(agent.id, "first", "rck_abc", &[1; 32]).await.unwrap();

    store.destroy_agent(agent.id).await.unwrap();
    assert!(store.find_agent("my-agent").await.unwrap().is_none());
    assert!(store.find_agent_by_id(agent.id).await.unwrap().unwrap().destroyed);
    assert_eq!(store.list_agents().await.unwrap().len(), 2, "until it is removed it is listed");
    assert!(store.live_keys().await.unwrap().is_empty(), "its keys open nothing any more");

    store.remove_agent(agent).await.unwrap();
    assert!(store.find_agent_by_id(agent.id).await.unwrap().is_none());
    let left: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM agent_keys) + (SELECT count(*) FROM pg_namespace WHERE nspname = $1)",
    )
    .bind(&agent.schema_name)
    .fetch_one(store.pool())
    .await
    .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn releases_are_numbered_by_agent_and_one_rollout_of_an_agent_runs_at_a_time() {
    let world = World::new().await;
    let (store, agent) = (&world.store, world.agent.id);
    let (unwanted, second) = (new_release("x"), new_release("two"));
    assert_eq!(world.release.version, 1);

    // While the first runs no other begins, and the refused one uses no number up.
    for refused in join_all((0..4).map(|_| store.begin_rollout(agent, &unwanted, NewRollout::default()))).await {
        assert!(matches!(refused, Err(StoreError::RolloutUnderWay)), "{refused:?}");
    }
    let first = store.running_rollout(agent).await.unwrap().unwrap();
    store.finish_rollout(&first, &PhaseTime { phase: Phase::Switch, seconds: 1.0 }, 60.0).await.unwrap();
    assert_eq!(store.find_agent("agent").await.unwrap().unwrap().serving_generation, Some(first.generation));

    // Of many that then come at once one begins.
    let begun = join_all((0..4).map(|_| store.begin_rollout(agent, &second, NewRollout::default()))).await;
    let begun: Vec<_> = begun.into_iter().filter_map(Result::ok).collect();
    assert_eq!(begun.len(), 1);
    let (release, rollout) = &begun[0];
    assert_eq!((release.version, rollout.from_release_id), (2, Some(world.release.id)));
    let found = store.find_release(release.id).await.unwrap().unwrap();
    assert_eq!((found.image.as_str(), found.secret_set), ("two", Some(1)));
    let other = store.ensure_agent("other").await.unwrap();
    assert_eq!(store.begin_rollout(other.id, &new_release("x"), NewRollout::default()).await.unwrap().0.version, 1);

    store.set_describe(release.id, r#"{"graphs": {}}"#).await.unwrap();
}

#[tokio::test]
async fn a_rollout_tells_its_phases_its_events_and_why_it_failed() {
    let world = World::new().await;
    let (store, rollout) = (&world.store, world.store.running_rollout(world.agent.id).await.unwrap().unwrap());
    let time = |phase, seconds| PhaseTime { phase, seconds };

    store.add_rollout_event(rollout.id, Phase::Start, "starting").await.unwrap();
    store.set_phase(rollout.id, Phase::Ready, Some(&time(Phase::Start, 1.5))).await.unwrap();
    store.add_rollout_event(rollout.id, Phase::Ready, "waiting").await.unwrap();

    let view = store.view_rollout(rollout.id, 1).await.unwrap().unwrap();
    assert_eq!((view.agent.as_str(), view.version, view.from_version), ("agent", 1, None));
    assert_eq!(
        (view.state, view.phase, view.phases),
        (RolloutState::Running, Phase::Ready, vec![time(Phase::Start, 1.5)])
    );
    assert_eq!(view.events.iter().map(|one| (one.seq, one.message.as_str())).collect::<Vec<_>>(), [(2, "waiting")]);

    let failure = RolloutFailure { code: "c".into(), message: "m".into(), log: vec!["l".into()], hints: vec![] };
    store.fail_rollout(rollout.id, &failure).await.unwrap();
    let view = store.view_rollout(rollout.id, 0).await.unwrap().unwrap();
    assert_eq!((view.state, view.events.len()), (RolloutState::Failed, 2));
    assert_eq!(view.failure.unwrap().log, ["l"]);
    assert!(store.running_rollout(world.agent.id).await.unwrap().is_none());
    assert!(store.view_rollout(ids::new_id(), 0).await.unwrap().is_none());
}

#[tokio::test]
async fn a_key_opens_its_agent_until_it_is_revoked() {
    let world = World::new().await;
    let (store, agent) = (&world.store, world.agent.id);
    let other = store.ensure_agent("other").await.unwrap();
    let key = store.add_key(agent, "ci", "rck_abc", &[7; 32]).await.unwrap();
    assert_eq!(store.live_keys().await.unwrap(), [([7; 32], agent)]);

    assert!(!store.revoke_key(other.id, key).await.unwrap(), "not that agent's");
    assert!(store.revoke_key(agent, key).await.unwrap());
    assert!(!store.revoke_key(agent, key).await.unwrap());

    assert!(store.live_keys().await.unwrap().is_empty());
    let listed = store.list_keys(agent).await.unwrap();
    assert_eq!((listed.len(), listed[0].name.as_str(), listed[0].prefix.as_str()), (1, "ci", "rck_abc"));
    assert!(listed[0].created_at.ends_with('Z') && listed[0].revoked_at.is_some(), "{listed:?}");
}

#[tokio::test]
async fn a_new_administrators_token_revokes_the_old_one_and_an_old_one_can_come_back() {
    let world = World::new().await;
    let store = &world.store;
    store.set_admin_token(&[1; 32]).await.unwrap();
    store.set_admin_token(&[1; 32]).await.unwrap();
    assert_eq!(store.find_token(&[1; 32]).await.unwrap().unwrap().role, "admin");
    store.set_admin_token(&[2; 32]).await.unwrap();
    let state = async |hash| store.find_token(&[hash; 32]).await.unwrap().unwrap().state;
    assert_eq!((state(1).await, state(2).await), (TokenState::Revoked, TokenState::Active));
    store.set_admin_token(&[1; 32]).await.unwrap();
    assert_eq!((state(1).await, state(2).await), (TokenState::Active, TokenState::Revoked));
}

#[tokio::test]
async fn a_store_opened_twice_keeps_its_id_and_its_rows() {
    let world = World::new().await;
    let again = Store::open(world.database.options()).await.unwrap();
    assert_eq!(again.server_id().await.unwrap(), world.store.server_id().await.unwrap());
    assert_eq!(again.find_agent("agent").await.unwrap().unwrap().id, world.agent.id);
}

#[tokio::test]
async fn tables_of_a_newer_version_are_left_alone_and_the_way_out_is_said() {
    let world = World::new().await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (9999, 'of tomorrow', true, '', 0)";
    sqlx::query(newer).execute(world.store.pool()).await.unwrap();
    let error = Store::open(world.database.options()).await.unwrap_err();
    assert!(error.hint().unwrap().contains("a newer rapidclaw has used this database"), "{error:?}");
}
