//! What replicas sent, many runs of it, committed in one statement: the attempts are locked and checked, what
//! the live ones wrote is stored, what they ended ends. One round trip and one commit, whatever is in it.

use super::checkpoints::{self, Op, Schema};
use super::postgres::HotConnection;
use super::runs::{ENDS, Ending, EndingColumns, ending_sql};
use super::{Store, StoreError};
use sqlx::{Connection as _, PgExecutor, Row as _};
use std::collections::HashSet;
use uuid::Uuid;

/// Run and number of an attempt.
type Key = (Uuid, i32);

/// What is committed together, of runs of one agent.
#[derive(Debug)]
pub struct Batch<'a> {
    schema: &'a Schema,
    attempts: Vec<Key>,
    saves: Vec<(i32, &'a Op)>,
    endings: Vec<&'a Ending>,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Committed {
    /// The attempts that were live: what the others sent was dropped.
    pub live: HashSet<Key>,
    /// The runs that ended.
    pub ended: HashSet<Uuid>,
}

impl<'a> Batch<'a> {
    /// An empty one.
    pub fn new(schema: &'a Schema) -> Self {
        Self { schema, attempts: Vec::new(), saves: Vec::new(), endings: Vec::new() }
    }

    /// Adds what an attempt wrote, behind what it wrote before.
    pub fn save(&mut self, key: Key, op: &'a Op) {
        let attempt = self.number(key);
        self.saves.push((attempt, op));
    }

    /// Adds an attempt's end.
    pub fn end(&mut self, ending: &'a Ending) {
        self.number((ending.run, ending.attempt));
        self.endings.push(ending);
    }

    /// Which of the batch's attempts it is, counted from 1.
    fn number(&mut self, key: Key) -> i32 {
        let place = self.attempts.iter().position(|known| *known == key).unwrap_or_else(|| {
            self.attempts.push(key);
            self.attempts.len() - 1
        });
        i32::try_from(place + 1).unwrap_or(i32::MAX)
    }

    async fn commit(&self, executor: impl PgExecutor<'_>, committed: &mut Committed) -> Result<(), StoreError> {
        let rows = checkpoints::Rows::of(self.saves.iter().copied())?;
        let (ids, numbers): (Vec<Uuid>, Vec<i32>) = self.attempts.iter().copied().unzip();
        let endings = EndingColumns::of(self.endings.iter().copied());
        let query = rows.bind(sqlx::query(self.schema.statements().commit.clone())).bind(ids).bind(numbers);
        let row = endings.bind(query).fetch_one(executor).await?;
        let live: Vec<i32> = row.try_get::<Option<_>, _>(0)?.unwrap_or_default();
        let ended: Vec<Uuid> = row.try_get::<Option<_>, _>(1)?.unwrap_or_default();
        let key = |n: i32| self.attempts.get(usize::try_from(n - 1).ok()?).copied();
        committed.live.extend(live.into_iter().filter_map(key));
        committed.ended.extend(ended);
        Ok(())
    }
}

/// The statement, for one agent's schema `{s}`. What is in `WITH` is carried out whether or not it is read.
pub(super) fn commit_sql() -> String {
    let attempts = checkpoints::PARAMETERS + 1;
    let numbers = attempts + 1;
    let changes = checkpoints::changes("new.attempt = ANY((SELECT which FROM live)::int4[])");
    let ending = ending_sql(numbers + 1, "(run, number) IN (SELECT run_id, number FROM locked WHERE state = 'live')");
    format!(
        "WITH locked AS (
  SELECT a.run_id, a.number, a.state, asked.n
  FROM unnest(${attempts}::uuid[], ${numbers}::int4[]) WITH ORDINALITY AS asked (run, number, n)
  JOIN attempts a ON a.run_id = asked.run AND a.number = asked.number
  ORDER BY a.run_id, a.number FOR NO KEY UPDATE OF a
), live AS (
  -- Whoever reads this has locked all of them: nobody takes a run away meanwhile.
  SELECT array_agg(n::int4) AS which FROM locked WHERE state = 'live'
), {changes}, {ending}, {ENDS}
SELECT (SELECT which FROM live), (SELECT array_agg(id) FROM run)"
    )
}

impl Store {
    /// Commits batches, one an agent: all or none of them.
    pub async fn commit(&self, batches: &[Batch<'_>]) -> Result<Committed, StoreError> {
        let question = async |connection: &mut HotConnection| {
            let mut committed = Committed::default();
            match batches {
                [] => {}
                [batch] => batch.commit(&mut **connection, &mut committed).await?,
                batches => {
                    let mut transaction = connection.begin().await?;
                    for batch in batches {
                        batch.commit(&mut *transaction, &mut committed).await?;
                    }
                    transaction.commit().await?;
                }
            }
            Ok(committed)
        };
        self.commits.ask(question).await
    }
}
