//! What happened, for those who look: releases, rollouts, runs, threads. One query a list.
//!
//! Rows come as JSON in the form of the API: these queries are for eyes and have no other use.

use super::{Store, StoreError};
use crate::api::history::{AttemptView, ReleaseView, RolloutSummary, RunDetail, RunView, ThreadView};
use crate::store::runs::RunRequest;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

/// Which runs are looked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunFilter {
    /// Of this thread.
    pub thread: Option<Uuid>,
    /// In this state.
    pub status: Option<RunWord>,
}

/// The states of runs, as they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunWord {
    /// It waits.
    Pending,
    /// It is executed.
    Running,
    /// It reached its end, or waits for a human.
    Success,
    /// It failed.
    Error,
    /// It ran out of time.
    Timeout,
}

impl RunWord {
    /// The state of that word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Running, Self::Success, Self::Error, Self::Timeout]
            .into_iter()
            .find(|word| word.as_str() == text)
    }

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Error => "error",
            Self::Timeout => "timeout",
        }
    }
}

/// A time as RFC 3339, in UTC.
fn time(column: &str) -> String {
    let name = column.rsplit('.').next().unwrap_or(column);
    format!(r#"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS {name}"#)
}

/// The columns of a [`RunView`], from `runs r`.
fn run_columns() -> String {
    format!(
        "r.id, t.given AS thread, r.thread_id, r.graph, r.status, e.version, r.attempt, {}, {}, {},
         greatest(extract(epoch FROM coalesce(r.ended_at, clock_timestamp()) - r.accepted_at)::float8, 0) AS seconds,
         r.input_tokens, r.output_tokens, r.cost, r.fault ->> 'type' AS error",
        time("r.accepted_at"),
        time("r.started_at"),
        time("r.ended_at"),
    )
}

const RUN_TABLES: &str = "runs r LEFT JOIN threads t ON t.agent_id = r.agent_id AND t.id = r.thread_id
    LEFT JOIN releases e ON e.id = r.release_id";

/// The columns of a [`ThreadView`], from `threads t`.
fn thread_columns() -> String {
    format!(
        "t.given AS thread, t.id AS thread_id, {}, {},
         CASE WHEN EXISTS (SELECT 1 FROM runs r WHERE r.agent_id = t.agent_id AND r.thread_id = t.id
                             AND r.status IN ('pending', 'running')) THEN 'busy' ELSE t.status END AS status,
         (SELECT count(*) FROM runs r WHERE r.agent_id = t.agent_id AND r.thread_id = t.id) AS runs",
        time("t.created_at"),
        time("t.updated_at"),
    )
}

impl Store {
    /// The agent's releases, newest first.
    pub async fn list_releases(&self, agent: Uuid, limit: i64) -> Result<Vec<ReleaseView>, StoreError> {
        let sql = format!(
            "WITH previous AS (
               SELECT r.id FROM agents a JOIN releases s ON s.id = a.serving_release
               JOIN rollouts o ON o.agent_id = a.id AND o.state = 'succeeded' JOIN releases r ON r.id = o.release_id
               WHERE a.id = $1 AND r.version < s.version
                 AND (r.image, r.inputs_digest, r.secret_set) IS DISTINCT FROM (s.image, s.inputs_digest, s.secret_set)
               ORDER BY r.version DESC LIMIT 1
             )
             SELECT row_to_json(x) FROM (
               SELECT r.version, r.image, {}, r.source_revision, r.secret_set, c.version AS copy_of,
                 coalesce(r.id = a.serving_release, false) AS serving, r.id IN (SELECT id FROM previous) AS previous,
                 o.state AS rollout, o.failure ->> 'message' AS failure
               FROM releases r JOIN agents a ON a.id = r.agent_id LEFT JOIN releases c ON c.id = r.copy_of
               LEFT JOIN LATERAL (
                 SELECT state, failure FROM rollouts WHERE release_id = r.id ORDER BY created_at, id LIMIT 1
               ) o ON true
               WHERE r.agent_id = $1 ORDER BY r.version DESC LIMIT $2
             ) x ORDER BY x.version DESC",
            time("r.created_at"),
        );
        self.views(sqlx::query_scalar(AssertSqlSafe(sql)).bind(agent).bind(limit)).await
    }

    /// The agent's rollouts, newest first.
    pub async fn list_rollouts(&self, agent: Uuid, limit: i64) -> Result<Vec<RolloutSummary>, StoreError> {
        let sql = format!(
            "SELECT row_to_json(x) FROM (
               SELECT o.id, r.version, f.version AS from_version, o.state, o.phase, o.phases, {}, {}, o.failure
               FROM rollouts o JOIN releases r ON r.id = o.release_id LEFT JOIN releases f ON f.id = o.from_release_id
               WHERE o.agent_id = $1 ORDER BY r.version DESC, o.created_at DESC, o.id DESC LIMIT $2
             ) x ORDER BY x.version DESC, x.created_at DESC, x.id DESC",
            time("o.created_at"),
            time("o.ended_at"),
        );
        self.views(sqlx::query_scalar(AssertSqlSafe(sql)).bind(agent).bind(limit)).await
    }

    /// The agent's runs that the filter lets pass, newest first.
    pub async fn list_runs(&self, agent: Uuid, filter: RunFilter, limit: i64) -> Result<Vec<RunView>, StoreError> {
        // One statement for each set of conditions, so that each has a plan that fits it; a state stands in
        // its text, because partial indexes want to see it.
        let thread = if filter.thread.is_some() { "AND r.thread_id = $3" } else { "" };
        let status = filter.status.map_or_else(String::new, |word| format!("AND r.status = '{}'", word.as_str()));
        let sql = format!(
            "SELECT row_to_json(x) FROM (
               SELECT {} FROM {RUN_TABLES} WHERE r.agent_id = $1 {thread} {status}
               ORDER BY r.accepted_at DESC, r.id DESC LIMIT $2
             ) x ORDER BY x.accepted_at DESC, x.id DESC",
            run_columns(),
        );
        let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(agent).bind(limit);
        self.views(match filter.thread {
            Some(thread) => query.bind(thread),
            None => query,
        })
        .await
    }

    /// All that is known of a run.
    pub async fn run_detail(&self, run: Uuid) -> Result<Option<RunDetail>, StoreError> {
        type Parts = (String, Json<RunView>, Json<RunRequest>, Json<serde_json::Value>);
        type Rest = (Option<String>, Option<Json<crate::api::problem::RunFault>>, Json<Vec<AttemptView>>);
        let sql = format!(
            "SELECT a.name, row_to_json(x), r.request, r.metadata, r.answer::text, r.fault,
               coalesce((SELECT json_agg(y ORDER BY y.number) FROM (
                 SELECT number, replica, state, {}, {}, note FROM attempts WHERE run_id = $1
               ) y), '[]')
             FROM runs r JOIN agents a ON a.id = r.agent_id
             CROSS JOIN LATERAL (SELECT {} FROM {RUN_TABLES} WHERE r.id = $1) x
             WHERE r.id = $1",
            time("started_at"),
            time("ended_at"),
            run_columns(),
        );
        let row = sqlx::query(AssertSqlSafe(sql)).bind(run).fetch_optional(self.pool()).await?;
        let Some(row) = row else { return Ok(None) };
        let (agent, view, request, metadata): Parts =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        let (answer, fault, attempts): Rest = (row.try_get(4)?, row.try_get(5)?, row.try_get(6)?);
        let request = serde_json::to_value(request.0)
            .map_err(|source| StoreError::Stored { what: "request of a run", source })?;
        Ok(Some(RunDetail {
            agent,
            run: view.0,
            request,
            metadata: metadata.0,
            // What is nested too deep to be parsed is shown as the text that it is.
            answer: answer.map(|text| serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text))),
            fault: fault.map(|fault| fault.0),
            attempts: attempts.0,
        }))
    }

    /// Notes at the run's last attempt why its replica was replaced for it.
    pub async fn note_attempt(&self, run: Uuid, note: &str) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE attempts a SET note = $2, noted_at = clock_timestamp() FROM runs r
             WHERE r.id = $1 AND a.run_id = r.id AND a.number = r.attempt",
        )
        .bind(run)
        .bind(note)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// The agent's threads, those that ran last first.
    pub async fn list_threads(&self, agent: Uuid, limit: i64) -> Result<Vec<ThreadView>, StoreError> {
        let sql = format!(
            "SELECT row_to_json(x) FROM (
               SELECT {} FROM (
                 SELECT * FROM threads WHERE agent_id = $1 ORDER BY updated_at DESC, id DESC LIMIT $2
               ) t
             ) x ORDER BY x.updated_at DESC, x.thread_id DESC",
            thread_columns(),
        );
        self.views(sqlx::query_scalar(AssertSqlSafe(sql)).bind(agent).bind(limit)).await
    }

    /// One thread.
    pub async fn find_thread(&self, agent: Uuid, thread: Uuid) -> Result<Option<ThreadView>, StoreError> {
        let columns = thread_columns();
        let sql = format!(
            "SELECT row_to_json(x) FROM (SELECT {columns} FROM threads t WHERE t.agent_id = $1 AND t.id = $2) x"
        );
        Ok(self.views(sqlx::query_scalar(AssertSqlSafe(sql)).bind(agent).bind(thread)).await?.pop())
    }

    async fn views<T>(
        &self,
        query: sqlx::query::QueryScalar<'_, sqlx::Postgres, Json<T>, sqlx::postgres::PgArguments>,
    ) -> Result<Vec<T>, StoreError>
    where
        T: serde::de::DeserializeOwned + Send + Unpin + 'static,
    {
        Ok(query.fetch_all(self.pool()).await?.into_iter().map(|view| view.0).collect())
    }
}

#[cfg(test)]
mod tests;
