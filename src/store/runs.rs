//! Runs, threads, attempts and leases. A run is a row before it is work; a claim is one short
//! statement; a run ends in the transaction that commits its last checkpoint.

mod request;

use super::checkpoints::Op;
use super::{Store, StoreError, violates};
use crate::api::problem::RunFault;
use crate::run::cost::Bill;
use crate::run::loss::{Loss, MOST_DEATHS, MOST_LOSSES};
use serde_json::value::RawValue;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, FromRow, PgConnection, Postgres, Row as _};
use std::sync::{Arc, LazyLock};
use uuid::Uuid;

pub use request::{ChatMore, Resume, RunRequest};

/// How often a run that others got in the way of is offered to the table again.
const MOST_TRIES: u32 = 16;

/// A run on its way into the table.
#[derive(Debug, Clone)]
pub struct NewRun<'a> {
    /// Its id.
    pub id: Uuid,
    /// Whose.
    pub agent: Uuid,
    /// The release that serves.
    pub release: Uuid,
    /// Its thread.
    pub thread: Uuid,
    /// The thread as the client named it.
    pub given: &'a str,
    /// Which graph.
    pub graph: &'a str,
    /// What to do.
    pub request: &'a RunRequest,
    /// Kept with the run (`user_id`).
    pub metadata: &'a serde_json::Value,
    /// The client's `Idempotency-Key`: a second run with the same one is the first.
    pub idempotency_key: Option<&'a str>,
    /// So many of the agent's runs may wait; none: any number.
    pub queue_limit: Option<u32>,
}

/// Where an attempt is made.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The gateway that holds the connection.
    pub gateway: Uuid,
    /// The replica.
    pub replica: Uuid,
}

/// The lease of another gateway, as it is in the table now.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct ForeignLease {
    /// Whose.
    pub gateway: Uuid,
    /// What changes with each renewal; nothing where there is no lease.
    pub lease: Option<String>,
    /// Whether by the database's clock it has ended long ago. A clock can be set.
    pub expired: bool,
}

/// What became of a new run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acceptance {
    /// It is in the table.
    Accepted(Accepted),
    /// A run with the same idempotency key was there before: this one. With the id of the new run: it is
    /// in the table already.
    Repeated(Uuid),
}

/// A run that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Accepted {
    /// Whether the thread was made with it.
    pub created: bool,
    /// The thread's status before (`interrupted`: the message resumes it).
    pub thread_status: String,
    /// Whether attempt 1 has begun; else it waits.
    pub running: bool,
}

/// A run that waited and whose turn has come.
#[derive(Debug, Clone, FromRow)]
pub struct Claimed {
    /// Its id.
    pub id: Uuid,
    /// Its thread.
    pub thread_id: Option<Uuid>,
    /// Which graph.
    pub graph: String,
    /// What to do.
    pub request: Json<RunRequest>,
    /// Kept with the run.
    pub metadata: Json<serde_json::Value>,
    /// The number of the attempt that begins.
    pub attempt: i32,
    /// At which of the places offered it begins, counted from 1.
    pub place: i32,
    /// The thread's status.
    pub thread_status: Option<String>,
    /// Seconds since its first attempt began.
    pub elapsed: f64,
}

/// What became of a lost attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requeued {
    /// The run waits for its next attempt.
    Waiting,
    /// It was lost too often: it is still the attempt's to end.
    GivenUp,
    /// The attempt was not live any more.
    Fenced,
}

/// A run as those see it who ask for its end.
#[derive(Debug, Clone, FromRow)]
pub struct RunRow {
    /// The thread as the client named it.
    pub given: Option<String>,
    /// `pending`, `running`, `success`, `error`, `timeout`.
    pub status: String,
    /// Which graph.
    pub graph: String,
    /// What was asked.
    pub request: Json<RunRequest>,
    /// Kept with the run (`user_id`).
    pub metadata: Json<serde_json::Value>,
    /// What a repeated request gets, unread: it may be nested deeper than can be parsed.
    pub answer: Option<Json<Box<RawValue>>>,
    /// Why it failed.
    pub fault: Option<Json<RunFault>>,
}

/// How runs end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStatus {
    /// The graph reached its end.
    Success,
    /// It waits for a human; LangGraph counts that as a success of the run.
    Interrupted,
    /// It failed.
    Error,
    /// It ran out of time.
    Timeout,
    /// Its request did not fit the thread, which is as it was.
    Refused {
        /// Whether the thread waits for a human.
        waits: bool,
    },
}

impl RunStatus {
    fn run(self) -> &'static str {
        match self {
            Self::Success | Self::Interrupted => "success",
            Self::Error | Self::Refused { .. } => "error",
            Self::Timeout => "timeout",
        }
    }

    fn thread(self) -> &'static str {
        match self {
            Self::Success | Self::Refused { waits: false } => "idle",
            Self::Interrupted | Self::Refused { waits: true } => "interrupted",
            Self::Error | Self::Timeout => "error",
        }
    }
}

/// The end of one attempt at a run.
#[derive(Debug, Clone)]
pub struct Ending {
    /// Which run.
    pub run: Uuid,
    /// Which attempt; an older one than the run's changes nothing.
    pub attempt: i32,
    /// How.
    pub status: RunStatus,
    /// What a repeated request gets: JSON text, unread.
    pub answer: Option<String>,
    /// Why it failed.
    pub fault: Option<RunFault>,
    /// What the attempt has used.
    pub used: Bill,
    /// Whether that is all that the attempt has used; else what its row says comes to it. What the run's other
    /// attempts have used comes to it in any case.
    pub whole: bool,
    /// The thread's state, where it is a document that is committed with the run's end.
    pub document: Option<Box<Op>>,
}

/// The statement of [`Store::accept_run`].
pub(super) const ACCEPT: &str = "
WITH thread AS (
   INSERT INTO threads (agent_id, id, given) VALUES ($1, $2, $3)
   ON CONFLICT (agent_id, id) DO UPDATE SET updated_at = now()
   RETURNING id, status, xmax = 0 AS created
 ), place AS (
   -- By the thread's id, so that it is asked when the thread is ours.
   SELECT p.status, p.ready FROM thread, place_run($1, thread.id, $9::uuid IS NOT NULL, $12) p
 ), run AS (
   INSERT INTO runs (id, agent_id, release_id, thread_id, graph, turn, request, metadata, idempotency_key, status, ready, attempt, started_at)
   SELECT $4, $1, $5, $2, $6, true, $7, $8, $11, status, ready,
     CASE WHEN status = 'running' THEN 1 ELSE 0 END, CASE WHEN status = 'running' THEN clock_timestamp() END
   FROM place
   ON CONFLICT (agent_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
   RETURNING status = 'running' AS running
 ), attempt AS (
   INSERT INTO attempts (run_id, number, gateway_id, replica) SELECT $4, 1, $9, $10 FROM run WHERE running
 )
 SELECT thread.created, thread.status AS thread_status, run.running FROM thread, run";

/// The statement of [`Store::claim_runs`].
pub(super) const CLAIM: &str = "
WITH next AS (
   SELECT id, accepted_at FROM runs r
   WHERE agent_id = $1 AND status = 'pending' AND ready AND alone = $5
     -- As a lookup for each: joined, it might read all that run.
     AND (SELECT true FROM runs o WHERE o.agent_id = r.agent_id AND o.thread_id = r.thread_id
            AND o.status = 'running' LIMIT 1) IS NULL
   ORDER BY accepted_at, id LIMIT cardinality($4::uuid[]) FOR UPDATE SKIP LOCKED
 ), picked AS (
   SELECT array_agg(id ORDER BY accepted_at, id) AS ids FROM next
 ), run AS (
   UPDATE runs SET status = 'running', attempt = attempt + 1, release_id = $2,
     started_at = coalesce(started_at, clock_timestamp())
   FROM picked WHERE runs.id = ANY(picked.ids)
   RETURNING runs.id, thread_id, graph, request, metadata, attempt, array_position(picked.ids, runs.id) AS place,
     greatest(extract(epoch FROM clock_timestamp() - started_at)::float8, 0) AS elapsed
 ), attempt AS (
   INSERT INTO attempts (run_id, number, gateway_id, replica) SELECT id, attempt, $3, ($4::uuid[])[place] FROM run
 )
 SELECT run.*, (SELECT t.status FROM threads t WHERE t.agent_id = $1 AND t.id = run.thread_id) AS thread_status
 FROM run ORDER BY place";

impl Ending {
    /// One without an answer, of an attempt whose use of models is not known.
    pub fn new(run: Uuid, attempt: i32, status: RunStatus) -> Self {
        let used = Bill { cost: None, ..Bill::default() };
        Self { run, attempt, status, answer: None, fault: None, used, whole: true, document: None }
    }

    /// Roughly the bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.answer.as_ref().map_or(0, String::len) + self.document.as_ref().map_or(0, |op| op.bytes()) + 512
    }
}

impl Store {
    /// Accepts a run: its thread is ensured, and it begins at once at `place` when nothing else runs or
    /// waits on the thread. Without a place it waits.
    pub async fn accept_run(&self, new: &NewRun<'_>, place: Option<Place>) -> Result<Acceptance, StoreError> {
        if let Some(known) = self.run_of_key(new).await? {
            return Ok(Acceptance::Repeated(known));
        }
        let mut tries = 0;
        let accepted = loop {
            match self.insert_run(new, place).await {
                // Another run of the thread began in the same moment; now it is there to be seen. It may
                // have ended and yet another begun since, so once more may not be enough.
                Err(error) if violates(&error, "runs_one_on_a_thread") && tries < MOST_TRIES => tries += 1,
                // It was offered before, and taken.
                Err(error) if violates(&error, "runs_pkey") => return Ok(Acceptance::Repeated(new.id)),
                // Or it is in the queue already, and was offered again.
                Err(error) if is_queue_full(&error) => {
                    return if self.find_run(new.id).await?.is_some() {
                        Ok(Acceptance::Repeated(new.id))
                    } else {
                        Err(StoreError::QueueFull(new.queue_limit.unwrap_or_default()))
                    };
                }
                accepted => break accepted?,
            }
        };
        match accepted {
            Some(accepted) => Ok(Acceptance::Accepted(accepted)),
            // The same request came twice in the same moment.
            None => Ok(Acceptance::Repeated(self.run_of_key(new).await?.ok_or(sqlx::Error::RowNotFound)?)),
        }
    }

    async fn run_of_key(&self, new: &NewRun<'_>) -> Result<Option<Uuid>, StoreError> {
        let Some(key) = new.idempotency_key else { return Ok(None) };
        Ok(sqlx::query_scalar("SELECT id FROM runs WHERE agent_id = $1 AND idempotency_key = $2")
            .bind(new.agent)
            .bind(key)
            .fetch_optional(self.pool())
            .await?)
    }

    /// The run, with its end where it has one.
    pub async fn find_run(&self, run: Uuid) -> Result<Option<RunRow>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT given, r.status, graph, request, r.metadata, answer, fault FROM runs r
             LEFT JOIN threads t ON t.agent_id = r.agent_id AND t.id = r.thread_id WHERE r.id = $1",
        )
        .bind(run)
        .fetch_optional(self.pool())
        .await?)
    }

    /// Of these runs, those that have ended or are gone.
    pub async fn ended_among(&self, runs: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
        Ok(sqlx::query_scalar(
            "SELECT asked.id FROM UNNEST($1::uuid[]) AS asked (id) LEFT JOIN runs r ON r.id = asked.id
             WHERE r.id IS NULL OR r.status NOT IN ('pending', 'running')",
        )
        .bind(runs)
        .fetch_all(self.pool())
        .await?)
    }

    async fn insert_run(&self, new: &NewRun<'_>, place: Option<Place>) -> Result<Option<Accepted>, sqlx::Error> {
        let accept = sqlx::query_as(ACCEPT)
            .bind(new.agent)
            .bind(new.thread)
            .bind(new.given)
            .bind(new.id)
            .bind(new.release)
            .bind(new.graph)
            .bind(Json(new.request))
            .bind(Json(new.metadata))
            .bind(place.map(|place| place.gateway))
            .bind(place.map(|place| place.replica))
            .bind(new.idempotency_key)
            .bind(new.queue_limit.map(|limit| i32::try_from(limit).unwrap_or(i32::MAX)));
        self.beginnings.ask(async |connection| accept.fetch_optional(&mut **connection).await).await
    }

    /// The agent's oldest waiting runs whose threads are free, begun at these places of `gateway`: one a
    /// replica named, at most. Costs the same however many wait, and on however many threads.
    /// With `alone` those that are to have a replica for themselves, else the others.
    pub async fn claim_runs(
        &self,
        agent: Uuid,
        release: Uuid,
        gateway: Uuid,
        mut replicas: &[Uuid],
        alone: bool,
    ) -> Result<Vec<Claimed>, StoreError> {
        for _ in 0..MOST_TRIES {
            match self.try_claim(agent, release, gateway, replicas, alone).await {
                // Somebody else's claim on one of the threads came first. One at a time, nobody stands in his own way.
                Err(error) if violates(&error, "runs_one_on_a_thread") => replicas = &replicas[..1.min(replicas.len())],
                claimed => return Ok(claimed?),
            }
        }
        Ok(Vec::new())
    }

    async fn try_claim(
        &self,
        agent: Uuid,
        release: Uuid,
        gateway: Uuid,
        replicas: &[Uuid],
        alone: bool,
    ) -> Result<Vec<Claimed>, sqlx::Error> {
        let claim = sqlx::query_as(CLAIM).bind(agent).bind(release).bind(gateway).bind(replicas).bind(alone);
        self.beginnings.ask(async |connection| claim.fetch_all(&mut **connection).await).await
    }

    /// Whether a run of the agent waits for a replica for itself, and its thread is free.
    pub async fn has_suspect(&self, agent: Uuid) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar(
            "SELECT EXISTS (
               SELECT FROM runs r WHERE agent_id = $1 AND status = 'pending' AND ready AND alone AND NOT EXISTS (
                 SELECT FROM runs o WHERE o.agent_id = r.agent_id AND o.thread_id = r.thread_id AND o.status = 'running'))",
        )
        .bind(agent)
        .fetch_one(self.pool())
        .await?)
    }

    /// Agents that have runs waiting.
    pub async fn agents_with_waiting_runs(&self) -> Result<Vec<Uuid>, StoreError> {
        Ok(sqlx::query_scalar(
            "SELECT id FROM agents a WHERE EXISTS (SELECT FROM runs WHERE agent_id = a.id AND status = 'pending')",
        )
        .fetch_all(self.pool())
        .await?)
    }

    /// Ends attempts outside of a batch: a replica was lost, a time-out passed. Says which runs ended by it.
    pub async fn end_runs(&self, endings: &[Ending]) -> Result<Vec<Uuid>, StoreError> {
        static SQL: LazyLock<Arc<str>> =
            LazyLock::new(|| format!("WITH {}, {ENDS} SELECT id FROM run", ending_sql(1, "true")).into());
        let query = EndingColumns::of(endings).bind(sqlx::query(AssertSqlSafe(Arc::clone(&SQL))));
        let rows = query.fetch_all(self.pool()).await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    /// Renews the gateway's lease.
    pub async fn renew_lease(&self, gateway: Uuid, seconds: f64) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO gateways (id, lease_until) VALUES ($1, clock_timestamp() + make_interval(secs => $2))
             ON CONFLICT (id) DO UPDATE SET lease_until = EXCLUDED.lease_until",
        )
        .bind(gateway)
        .bind(seconds)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Ends the lease at once: a gateway that stops in order.
    pub async fn drop_lease(&self, gateway: Uuid) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM gateways WHERE id = $1").bind(gateway).execute(self.pool()).await?;
        Ok(())
    }

    /// Leases of other gateways than `own` that live attempts depend on.
    pub async fn foreign_leases(&self, own: Uuid, silence: f64) -> Result<Vec<ForeignLease>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT a.gateway_id AS gateway, g.lease_until::text AS lease,
               coalesce(g.lease_until < clock_timestamp() - make_interval(secs => $2), true) AS expired
             FROM (SELECT DISTINCT gateway_id FROM attempts WHERE state = 'live' AND gateway_id <> $1) a
             LEFT JOIN gateways g ON g.id = a.gateway_id",
        )
        .bind(own)
        .bind(silence)
        .fetch_all(self.pool())
        .await?)
    }

    /// Live attempts of these gateways: run and number.
    pub async fn live_attempts_of(&self, gateways: &[Uuid]) -> Result<Vec<(Uuid, i32)>, StoreError> {
        Ok(sqlx::query_as("SELECT run_id, number FROM attempts WHERE gateway_id = ANY($1) AND state = 'live'")
            .bind(gateways)
            .fetch_all(self.pool())
            .await?)
    }

    /// How many live attempts other gateways than `own` have on each replica.
    pub async fn places_of_others(&self, own: Uuid) -> Result<Vec<(Uuid, usize)>, StoreError> {
        let rows: Vec<(Uuid, i64)> = sqlx::query_as(
            "SELECT replica, count(*) FROM attempts WHERE state = 'live' AND gateway_id <> $1 GROUP BY replica",
        )
        .bind(own)
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(|(replica, count)| (replica, usize::try_from(count).unwrap_or_default())).collect())
    }

    /// Takes a run away from an attempt: it waits for its next one, before all later runs of its thread.
    /// `loss` says what is held against it; when that is enough the run is given up. `used` is what the attempt has
    /// used, where more is known than its row says.
    pub async fn requeue_run(
        &self,
        run: Uuid,
        attempt: i32,
        loss: Loss,
        used: Option<Bill>,
    ) -> Result<Requeued, StoreError> {
        let state: Option<bool> = sqlx::query_scalar(
            "WITH live AS (
               -- Attempts before runs, as batches lock them.
               SELECT FROM attempts WHERE run_id = $1 AND number = $2 AND state = 'live' FOR NO KEY UPDATE
             ), run AS (
               UPDATE runs SET losses = losses + $3::int, deaths = deaths + $4::int,
                 alone = alone OR $5 OR $4::int > 0 AND deaths + $4::int >= $8,
                 status = CASE WHEN $6 OR $3::int > 0 AND losses + $3::int >= $7 THEN status ELSE 'pending' END
               WHERE id = $1 AND attempt = $2 AND status = 'running' AND EXISTS (SELECT FROM live)
               RETURNING status = 'pending' AS waits
             ), attempt AS (
               UPDATE attempts SET state = CASE WHEN waits THEN 'lost' ELSE state END,
                 ended_at = CASE WHEN waits THEN clock_timestamp() END,
                 input_tokens = coalesce($9, input_tokens), output_tokens = coalesce($10, output_tokens),
                 cost = CASE WHEN $9::int8 IS NULL THEN cost ELSE $11 END
               FROM run WHERE run_id = $1 AND number = $2
             )
             SELECT waits FROM run",
        )
        .bind(run)
        .bind(attempt)
        .bind(i32::from(loss.counts))
        .bind(i32::from(loss.died))
        .bind(loss.alone)
        .bind(loss.last)
        .bind(MOST_LOSSES)
        .bind(MOST_DEATHS)
        .bind(used.map(|used| used.input_tokens))
        .bind(used.map(|used| used.output_tokens))
        .bind(used.and_then(|used| used.cost))
        .fetch_optional(self.pool())
        .await?;
        Ok(match state {
            Some(true) => Requeued::Waiting,
            Some(false) => Requeued::GivenUp,
            None => Requeued::Fenced,
        })
    }
}

/// Whether an error is `place_run`'s refusal (migration 7).
fn is_queue_full(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|code| code == "RC001")
}

/// Of the attempts given, those that are live; their rows stay locked until the transaction ends, so
/// that nobody takes the run away meanwhile.
pub async fn live_attempts(
    connection: &mut PgConnection,
    attempts: &[(Uuid, i32)],
) -> Result<Vec<(Uuid, i32)>, StoreError> {
    let (runs, numbers): (Vec<Uuid>, Vec<i32>) = attempts.iter().copied().unzip();
    Ok(sqlx::query_as(
        "SELECT run_id, number FROM attempts
         WHERE state = 'live' AND (run_id, number) IN (SELECT * FROM UNNEST($1::uuid[], $2::int[]))
         ORDER BY run_id, number FOR SHARE",
    )
    .bind(runs)
    .bind(numbers)
    .fetch_all(connection)
    .await?)
}

/// The rows `ending` of a statement whose parameters from `first` on are [`EndingColumns`]; those that `filter`
/// lets pass.
pub(super) fn ending_sql(first: usize, filter: &str) -> String {
    let types = ["uuid", "int4", "text", "text", "text", "text", "int8", "int8", "float8", "bool"];
    let columns: Vec<String> = types.iter().zip(first..).map(|(kind, n)| format!("${n}::{kind}[]")).collect();
    format!(
        "ending AS (
  SELECT * FROM unnest({})
    AS e (run, number, status, thread_status, answer, fault, input_tokens, output_tokens, cost, whole)
  WHERE {filter}
)",
        columns.join(", ")
    )
}

/// The parts of a statement that end what is in `ending`; `run` holds the runs that ended.
pub(super) const ENDS: &str = "free AS (
  -- Threads before runs, as they are accepted: else the two wait for each other.
  SELECT t.id FROM ending e JOIN runs r ON r.id = e.run
    JOIN threads t ON t.agent_id = r.agent_id AND t.id = r.thread_id
  ORDER BY t.agent_id, t.id FOR NO KEY UPDATE OF t
), attempt AS (
  UPDATE attempts SET state = 'ended', ended_at = clock_timestamp() FROM ending
  WHERE run_id = run AND attempts.number = ending.number AND state = 'live'
), run AS (
  UPDATE runs SET status = e.status, ended_at = clock_timestamp(), answer = e.answer::json, fault = e.fault::json,
    input_tokens = e.input_tokens + b.input_tokens, output_tokens = e.output_tokens + b.output_tokens,
    cost = e.cost + b.cost
  FROM ending e CROSS JOIN LATERAL (
    SELECT coalesce(sum(a.input_tokens), 0)::int8 AS input_tokens, coalesce(sum(a.output_tokens), 0)::int8 AS output_tokens,
      CASE WHEN count(*) = count(a.cost) THEN coalesce(sum(a.cost), 0) END AS cost
    FROM attempts a WHERE a.run_id = e.run AND (a.number <> e.number OR NOT e.whole)
  ) b, (SELECT count(*) FROM free) AS after_locking
  WHERE runs.id = e.run AND runs.attempt = e.number AND runs.status = 'running'
  RETURNING runs.id, agent_id, thread_id, e.thread_status
), thread AS (
  UPDATE threads SET status = run.thread_status, updated_at = now() FROM run
  WHERE threads.agent_id = run.agent_id AND threads.id = run.thread_id
)";

/// The parameters of [`EndingColumns`].
pub(super) const ENDING_PARAMETERS: usize = 10;

/// Endings as parameters: each column an array.
pub(super) struct EndingColumns<'a> {
    endings: Vec<&'a Ending>,
}

impl<'a> EndingColumns<'a> {
    pub(super) fn of(endings: impl IntoIterator<Item = &'a Ending>) -> Self {
        Self { endings: endings.into_iter().collect() }
    }

    fn column<T>(&self, value: impl Fn(&Ending) -> T) -> Vec<T> {
        self.endings.iter().map(|end| value(end)).collect()
    }

    pub(super) fn bind<'q>(&self, query: Query<'q, Postgres, PgArguments>) -> Query<'q, Postgres, PgArguments> {
        query
            .bind(self.column(|end| end.run))
            .bind(self.column(|end| end.attempt))
            .bind(self.column(|end| end.status.run()))
            .bind(self.column(|end| end.status.thread()))
            // As text: JSON with NUL characters is fine in a json column, and in a jsonb parameter it is not.
            .bind(self.column(|end| end.answer.clone()))
            .bind(self.column(|end| end.fault.as_ref().and_then(|fault| serde_json::to_string(fault).ok())))
            .bind(self.column(|end| end.used.input_tokens))
            .bind(self.column(|end| end.used.output_tokens))
            .bind(self.column(|end| end.used.cost))
            .bind(self.column(|end| end.whole))
    }
}
