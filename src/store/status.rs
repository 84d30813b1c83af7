//! What `status` shows: one query for all agents.

use super::{Store, StoreError};
use crate::api::control::Draining;
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

/// What the database knows of an agent's state.
#[derive(Debug, Clone, FromRow)]
pub struct AgentRow {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// The release that serves.
    pub serving_release: Option<Uuid>,
    /// Its version, else the newest release's.
    pub version: Option<i32>,
    /// Digest of its inputs.
    pub inputs_digest: Option<String>,
    /// Its image.
    pub image: Option<String>,
    /// Whether a rollout is under way.
    pub rolling: bool,
    /// What the last rollout that failed said, if it was the last.
    pub last_failure: Option<String>,
    /// Replicas asked for by hand.
    pub scale: Option<i32>,
    /// Over the last hour's runs, in milliseconds.
    pub p95_ms: Option<f64>,
    /// Mean over the last hour's turns; null when one of them has no price or there was none.
    pub cost_per_turn: Option<f64>,
    /// Runs that ended in the last hour.
    pub runs: i64,
    /// Those of them that failed or ran out of time.
    pub failed: i64,
    /// The last turns that ended in that hour, 20 at most.
    pub last_turns: i64,
    /// Those of them that failed.
    pub last_failed: i64,
    /// How most of those failed.
    pub last_fault: Option<String>,
    /// Why the last of its replicas was replaced that a run held, in the last hour.
    pub held: Option<String>,
    /// Releases that no longer serve and still have runs, the newest first.
    pub draining: Json<Vec<Draining>>,
}

impl Store {
    /// How many attempts a replica executes, whichever gateway gave it them.
    pub async fn live_attempts_on(&self, replica: Uuid) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("SELECT count(*) FROM attempts WHERE replica = $1 AND state = 'live'")
            .bind(replica)
            .fetch_one(self.pool())
            .await?)
    }

    /// The rows of all agents, or of the one named, by name.
    pub async fn agent_rows(&self, name: Option<&str>) -> Result<Vec<AgentRow>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT a.id, a.name, a.serving_release, coalesce(r.version, nullif(a.last_version, 0)) AS version,
               r.inputs_digest, r.image, coalesce(o.state = 'running', false) AS rolling,
               CASE WHEN o.state = 'failed' THEN o.failure ->> 'message' END AS last_failure, a.scale,
               h.p95_ms, h.cost_per_turn, coalesce(h.runs, 0) AS runs, f.failed,
               coalesce(l.turns, 0) AS last_turns, coalesce(l.failed, 0) AS last_failed, l.fault AS last_fault, n.note AS held,
               coalesce(d.draining, '[]') AS draining
             FROM agents a
             LEFT JOIN releases r ON r.id = a.serving_release
             LEFT JOIN LATERAL (
               SELECT state, failure FROM rollouts WHERE agent_id = a.id
               ORDER BY state = 'running' DESC, created_at DESC, id DESC LIMIT 1
             ) o ON true
             LEFT JOIN LATERAL (
               SELECT 1000 * percentile_disc(0.95) WITHIN GROUP (ORDER BY greatest(date_part('epoch', ended_at - accepted_at), 0)) AS p95_ms,
                 CASE WHEN count(*) FILTER (WHERE turn AND cost IS NULL) = 0 THEN avg(cost) FILTER (WHERE turn) END AS cost_per_turn,
                 count(*) AS runs
               FROM runs WHERE agent_id = a.id AND ended_at > now() - interval '1 hour'
             ) h ON true
             -- By an index of their own: the one of the figures has no status, and the rows would be read for it.
             LEFT JOIN LATERAL (
               SELECT count(*) AS failed FROM runs
               WHERE agent_id = a.id AND status IN ('error', 'timeout') AND ended_at > now() - interval '1 hour'
             ) f ON true
             LEFT JOIN LATERAL (
               SELECT count(*) AS turns, count(*) FILTER (WHERE status <> 'success') AS failed,
                 mode() WITHIN GROUP (ORDER BY fault ->> 'type') FILTER (WHERE status <> 'success') AS fault
               FROM (
                 SELECT status, fault FROM runs WHERE agent_id = a.id AND turn AND ended_at > now() - interval '1 hour'
                 ORDER BY ended_at DESC LIMIT 20
               ) last
             ) l ON true
             LEFT JOIN LATERAL (
               SELECT json_agg(old ORDER BY version DESC) AS draining FROM (
                 SELECT r.version, count(*) AS runs,
                   greatest(extract(epoch FROM clock_timestamp() - min(u.started_at))::float8, 0) AS oldest_seconds
                 FROM runs u JOIN releases r ON r.id = u.release_id
                 WHERE u.agent_id = a.id AND u.status = 'running' AND u.release_id <> a.serving_release
                 GROUP BY r.version
               ) old
             ) d ON true
             LEFT JOIN LATERAL (
               SELECT t.note FROM attempts t JOIN runs u ON u.id = t.run_id
               WHERE t.noted_at > now() - interval '1 hour' AND u.agent_id = a.id ORDER BY t.noted_at DESC LIMIT 1
             ) n ON true
             WHERE a.destroyed_at IS NULL AND ($1::text IS NULL OR a.name = $1)
             ORDER BY a.name",
        )
        .bind(name)
        .fetch_all(self.pool())
        .await?)
    }
}
