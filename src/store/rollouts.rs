//! Rollouts: persisted in each step, one at a time per agent.

use super::{Store, StoreError, violates};
use crate::api::control::{PhaseTime, RolloutEvent, RolloutFailure, RolloutView};
use crate::base::ids;
use crate::release::state::{Phase, RolloutState};
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

/// What a rollout begins with, beside its release.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewRollout<'a> {
    /// The id it shall have; else a new one.
    pub id: Option<Uuid>,
    /// What has been done before the server is asked.
    pub phases: &'a [PhaseTime],
    /// Replicas that are there already.
    pub standby: Option<Uuid>,
    /// Whether its replicas replace those that serve one by one.
    pub rolling: bool,
}

/// A rollout that is under way.
#[derive(Debug, Clone, FromRow)]
pub struct Rollout {
    /// Its id.
    pub id: Uuid,
    /// Whose.
    pub agent_id: Uuid,
    /// What is rolled out.
    pub release_id: Uuid,
    /// What served before.
    pub from_release_id: Option<Uuid>,
    /// The replicas that it brings to serve.
    pub generation: Uuid,
    /// Whether these replace those that serve one by one: the image is the same.
    pub rolling: bool,
    /// Where it stands.
    #[sqlx(try_from = "String")]
    pub phase: Phase,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    agent: String,
    version: i32,
    from_version: Option<i32>,
    state: String,
    phase: String,
    phases: Json<Vec<PhaseTime>>,
    failure: Option<Json<RolloutFailure>>,
    superseded_by: Option<Uuid>,
}

impl Store {
    /// The agent's rollout that is under way.
    pub async fn running_rollout(&self, agent: Uuid) -> Result<Option<Rollout>, StoreError> {
        running(&mut *self.pool().acquire().await?, agent).await
    }

    /// The release that served when a rolling rollout made replicas of that generation, to serve beside its own.
    pub async fn find_rolling_from(&self, generation: Uuid) -> Result<Option<Uuid>, StoreError> {
        let sql = "SELECT from_release_id FROM rollouts WHERE id = $1 AND rolling";
        Ok(sqlx::query_scalar(sql).bind(generation).fetch_optional(self.pool()).await?.flatten())
    }

    /// Enters a phase; `ended` is the one that ends with it.
    pub async fn set_phase(&self, rollout: Uuid, phase: Phase, ended: Option<&PhaseTime>) -> Result<(), StoreError> {
        sqlx::query("UPDATE rollouts SET phase = $2, phases = phases || $3 WHERE id = $1")
            .bind(rollout)
            .bind(phase.as_str())
            .bind(Json(ended.map(std::slice::from_ref).unwrap_or_default()))
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Adds a line to the rollout's record.
    pub async fn add_rollout_event(&self, rollout: Uuid, phase: Phase, message: &str) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO rollout_events (rollout_id, seq, phase, message)
             SELECT $1, coalesce(max(seq), 0) + 1, $2, $3 FROM rollout_events WHERE rollout_id = $1",
        )
        .bind(rollout)
        .bind(phase.as_str())
        .bind(message)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Ends a rollout well: the release serves and the rollout has succeeded, in one step. Says whether it
    /// was still under way: one that was cancelled changes nothing.
    pub async fn finish_rollout(
        &self,
        rollout: &Rollout,
        ended: &PhaseTime,
        standby_seconds: f64,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.pool().begin().await?;
        let done = sqlx::query(
            "UPDATE rollouts SET state = 'succeeded', ended_at = now(), phases = phases || $2
             WHERE id = $1 AND state = 'running'",
        )
        .bind(rollout.id)
        .bind(Json([ended]))
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        // What served before stays on standby for a while; a rolling rollout has replaced it, and leaves the standby
        // of before alone.
        sqlx::query(
            "UPDATE agents SET serving_release = $2, serving_generation = $3,
               standby_generation = CASE WHEN $5 THEN standby_generation ELSE serving_generation END,
               standby_release = CASE WHEN $5 THEN standby_release ELSE serving_release END,
               standby_until = CASE WHEN $5 THEN standby_until ELSE now() + make_interval(secs => $4) END
             WHERE id = $1",
        )
        .bind(rollout.agent_id)
        .bind(rollout.release_id)
        .bind(rollout.generation)
        .bind(standby_seconds)
        .bind(rollout.rolling)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Ends a rollout because somebody asked for it. Says whether it was still under way.
    pub async fn cancel_rollout(&self, rollout: Uuid) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE rollouts SET state = 'cancelled', ended_at = now() WHERE id = $1 AND state = 'running'",
        )
        .bind(rollout)
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Ends a rollout otherwise.
    pub async fn fail_rollout(&self, rollout: Uuid, failure: &RolloutFailure) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE rollouts SET state = 'failed', ended_at = now(), failure = $2::json WHERE id = $1 AND state = 'running'",
        )
        .bind(rollout)
        .bind(Json(failure))
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// The rollout and its events after `after`.
    pub async fn view_rollout(&self, id: Uuid, after: i32) -> Result<Option<RolloutView>, StoreError> {
        let row: Option<Row> = sqlx::query_as(
            "SELECT o.id, a.name AS agent, r.version, f.version AS from_version, o.state, o.phase, o.phases, o.failure,
               o.superseded_by
             FROM rollouts o JOIN agents a ON a.id = o.agent_id JOIN releases r ON r.id = o.release_id
             LEFT JOIN releases f ON f.id = o.from_release_id WHERE o.id = $1",
        )
        .bind(id)
        .fetch_optional(self.pool())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let events: Vec<(i32, String, String)> = sqlx::query_as(
            "SELECT seq, phase, message FROM rollout_events WHERE rollout_id = $1 AND seq > $2 ORDER BY seq",
        )
        .bind(id)
        .bind(after)
        .fetch_all(self.pool())
        .await?;
        Ok(Some(RolloutView {
            id: row.id,
            agent: row.agent,
            version: row.version,
            from_version: row.from_version,
            state: RolloutState::parse(&row.state).unwrap_or(RolloutState::Failed),
            phase: Phase::parse(&row.phase).unwrap_or(Phase::Start),
            phases: row.phases.0,
            events: events
                .into_iter()
                .map(|(seq, phase, message)| RolloutEvent {
                    seq,
                    phase: Phase::parse(&phase).unwrap_or(Phase::Start),
                    message,
                })
                .collect(),
            failure: row.failure.map(|failure| failure.0),
            superseded_by: row.superseded_by,
            graphs: Vec::new(),
        }))
    }
}

/// A server of before has no word for a rolling rollout: its release is the one that serves.
const COLUMNS: &str = "id, agent_id, release_id, from_release_id, generation,
    rolling OR release_id IS NOT DISTINCT FROM from_release_id AS rolling, phase";

pub(super) async fn running(connection: &mut PgConnection, agent: Uuid) -> Result<Option<Rollout>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM rollouts WHERE agent_id = $1 AND state = 'running'");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(agent).fetch_optional(connection).await?)
}

/// Ends a rollout whose place another takes.
pub(super) async fn supersede(connection: &mut PgConnection, rollout: Uuid, by: Uuid) -> Result<(), StoreError> {
    sqlx::query("UPDATE rollouts SET state = 'cancelled', ended_at = now(), superseded_by = $2 WHERE id = $1")
        .bind(rollout)
        .bind(by)
        .execute(connection)
        .await?;
    Ok(())
}

/// Keeps no replicas for a rollback any more: they have read a value that may not come back.
pub(super) async fn forget_standby(connection: &mut PgConnection, agent: Uuid) -> Result<(), StoreError> {
    sqlx::query("UPDATE agents SET standby_generation = NULL, standby_until = NULL WHERE id = $1")
        .bind(agent)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn insert(
    connection: &mut PgConnection,
    agent: Uuid,
    release: Uuid,
    begin: NewRollout<'_>,
) -> Result<Rollout, StoreError> {
    let sql = format!(
        "INSERT INTO rollouts (id, agent_id, release_id, from_release_id, generation, state, phase, phases, rolling)
         SELECT $1, $2, $3, serving_release, coalesce($5, $1), 'running', 'start', $4, $6 FROM agents WHERE id = $2
         RETURNING {COLUMNS}"
    );
    sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(begin.id.unwrap_or_else(ids::new_id))
        .bind(agent)
        .bind(release)
        .bind(Json(begin.phases))
        .bind(begin.standby)
        .bind(begin.rolling)
        .fetch_one(connection)
        .await
        .map_err(
            |error| {
                if violates(&error, "rollouts_one_at_a_time") { StoreError::RolloutUnderWay } else { error.into() }
            },
        )
}
