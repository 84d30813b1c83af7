//! What replicas sent, many runs of it, committed in one statement: the attempts are locked and checked, what
//! the live ones wrote is stored, what they ended ends. One round trip and one commit, whatever is in it.

use super::checkpoints::{self, Op, Schema};
use super::postgres::HotConnection;
use super::runs::{ENDING_PARAMETERS, ENDS, Ending, EndingColumns, ending_sql};
use super::{Store, StoreError};
use crate::run::cost::Bill;
use sqlx::{Connection as _, PgExecutor, Row as _};
use std::collections::{BTreeMap, HashSet};
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
    /// What attempts have used until then.
    used: BTreeMap<i32, Bill>,
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
        Self { schema, attempts: Vec::new(), saves: Vec::new(), endings: Vec::new(), used: BTreeMap::new() }
    }

    /// Adds what an attempt wrote, behind what it wrote before; and what it has used until then, where that is news.
    pub fn save(&mut self, key: Key, op: &'a Op, used: Option<Bill>) {
        let attempt = self.number(key);
        self.saves.push((attempt, op));
        if let Some(used) = used {
            self.used.insert(attempt, used);
        }
    }

    /// Adds an attempt's end, and the state that comes with it.
    pub fn end(&mut self, ending: &'a Ending) {
        let attempt = self.number((ending.run, ending.attempt));
        self.endings.push(ending);
        if let Some(document) = ending.document.as_deref() {
            self.saves.push((attempt, document));
        }
        // Its end tells all that it has used, and one statement changes a row once.
        self.used.remove(&attempt);
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
        let query = rows
            .bind(sqlx::query(self.schema.frequent(checkpoints::Frequent::Commit, commit_sql)))
            .bind(ids)
            .bind(numbers);
        let used = |value: fn(&Bill) -> i64| self.used.values().map(value).collect::<Vec<_>>();
        let query = endings
            .bind(query)
            .bind(self.used.keys().copied().collect::<Vec<_>>())
            .bind(used(|used| used.input_tokens))
            .bind(used(|used| used.output_tokens))
            .bind(self.used.values().map(|used| used.cost).collect::<Vec<_>>());
        let row = query.fetch_one(executor).await?;
        let live: Vec<i32> = row.try_get::<Option<_>, _>(0)?.unwrap_or_default();
        let ended: Vec<Uuid> = row.try_get::<Option<_>, _>(1)?.unwrap_or_default();
        let key = |n: i32| self.attempts.get(usize::try_from(n - 1).ok()?).copied();
        committed.live.extend(live.into_iter().filter_map(key));
        committed.ended.extend(ended);
        Ok(())
    }
}

/// The statement, for one agent's schema `{s}`. What is in `WITH` is carried out whether or not it is read.
fn commit_sql() -> String {
    let attempts = checkpoints::PARAMETERS + 1;
    let numbers = attempts + 1;
    let changes = checkpoints::changes("new.attempt = ANY((SELECT which FROM live)::int4[])");
    let ending = ending_sql(numbers + 1, "(run, number) IN (SELECT run_id, number FROM locked WHERE state = 'live')");
    let used = numbers + 1 + ENDING_PARAMETERS;
    let [input, output, cost] = [used + 1, used + 2, used + 3];
    format!(
        "WITH locked AS (
  SELECT a.run_id, a.number, a.state, asked.n
  FROM unnest(${attempts}::uuid[], ${numbers}::int4[]) WITH ORDINALITY AS asked (run, number, n)
  JOIN attempts a ON a.run_id = asked.run AND a.number = asked.number
  ORDER BY a.run_id, a.number FOR NO KEY UPDATE OF a
), live AS (
  -- Whoever reads this has locked all of them: nobody takes a run away meanwhile.
  SELECT array_agg(n::int4) AS which FROM locked WHERE state = 'live'
), {changes}, {ending}, {ENDS}, used AS (
  UPDATE attempts a SET input_tokens = u.input_tokens, output_tokens = u.output_tokens, cost = u.cost
  FROM unnest(${used}::int4[], ${input}::int8[], ${output}::int8[], ${cost}::float8[])
      AS u (n, input_tokens, output_tokens, cost)
    JOIN locked l ON l.n = u.n AND l.state = 'live'
  WHERE a.run_id = l.run_id AND a.number = l.number
)
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
