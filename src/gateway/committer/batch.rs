//! One batch: committed whole, or taken apart until what the database does not take is found.

use super::item::{Ended, Item, Key, TAKEN_OVER, patiently, reply};
use crate::api::problem::RunFault;
use crate::base::telemetry::chain;
use crate::runner::protocol::Reply;
use crate::store::batches::{Batch, Committed};
use crate::store::runs::{Ending, RunStatus};
use crate::store::{Store, StoreError};
use std::collections::{BTreeMap, HashMap};

/// Attempts that sent what could not be committed, until they end: their later checkpoints would leave a
/// hole, and their end may not be a success.
pub type Rejected = HashMap<Key, RunFault>;

/// Commits all of a batch. What the database does not take is the fault of one of its items, and one run ends for
/// it: the batch is taken apart, by runs and then in halves. What only took too long has a second chance first.
pub async fn commit(store: &Store, batch: Vec<Item>, rejected: &mut Rejected) {
    let mut parts = vec![(batch, false)];
    while let Some((part, again)) = parts.pop() {
        let (refused, part): (Vec<Item>, Vec<Item>) =
            part.into_iter().partition(|item| rejected.contains_key(&item.key()));
        reject(store, refused, rejected).await;
        if part.is_empty() {
            continue;
        }
        match patiently(|| persist(store, &part)).await {
            Ok(committed) => tell(part, &committed),
            Err(error) if error.is_out_of_time() && !again => parts.push((part, true)),
            Err(error) => match take_apart(part) {
                Ok(smaller) => parts.extend(smaller.into_iter().rev().map(|part| (part, false))),
                Err(guilty) => {
                    let key = guilty.key();
                    tracing::error!(run_id = %key.0, attempt = key.1, bytes = guilty.bytes(), error = %chain(&error),
                        "the database does not take what the run sent");
                    rejected.insert(key, fault(reason(&error)));
                    reject(store, vec![*guilty], rejected).await;
                }
            },
        }
    }
}

/// Each run's items alone; of one run's the halves, in their order; or what it is that cannot be taken apart.
fn take_apart(mut part: Vec<Item>) -> Result<Vec<Vec<Item>>, Box<Item>> {
    if part.len() == 1
        && let Some(guilty) = part.pop()
    {
        return Err(Box::new(guilty));
    }
    let mut runs: BTreeMap<_, Vec<Item>> = BTreeMap::new();
    for item in part {
        runs.entry(item.run()).or_default().push(item);
    }
    let mut runs: Vec<Vec<Item>> = runs.into_values().collect();
    if let [alone] = runs.as_mut_slice() {
        let behind = alone.split_off(alone.len() / 2);
        runs.push(behind);
    }
    Ok(runs)
}

async fn persist(store: &Store, items: &[Item]) -> Result<Committed, StoreError> {
    let mut batches: BTreeMap<&str, Batch<'_>> = BTreeMap::new();
    for item in items {
        match item {
            Item::Save { schema, key, op, used, .. } => {
                batches.entry(schema.name()).or_insert_with(|| Batch::new(schema)).save(*key, op, *used);
            }
            Item::End { schema, ending, .. } => {
                batches.entry(schema.name()).or_insert_with(|| Batch::new(schema)).end(ending);
            }
            // Questions are never among a batch.
            Item::Read { .. } | Item::Change { .. } | Item::Requeue { .. } => {}
        }
    }
    store.commit(&batches.into_values().collect::<Vec<_>>()).await
}

fn tell(batch: Vec<Item>, committed: &Committed) {
    for item in batch {
        let live = committed.live.contains(&item.key());
        match item {
            Item::Save { op, sender, .. } => {
                let error = (!live).then(|| TAKEN_OVER.to_owned());
                reply(&sender, Reply { id: op.id(), error, ..Reply::default() });
            }
            Item::End { ending, done, .. } => {
                let ended = committed.ended.contains(&ending.run);
                let _ = done.send(if ended { Ended::Committed } else { Ended::Fenced });
            }
            Item::Read { .. } | Item::Change { .. } | Item::Requeue { .. } => {}
        }
    }
}

/// Refuses what rejected attempts sent; a run whose end is among it ends with its fault.
async fn reject(store: &Store, items: Vec<Item>, rejected: &mut Rejected) {
    for item in items {
        match item {
            Item::Save { op, sender, .. } => {
                let error = Some("the database does not take it".to_owned());
                reply(&sender, Reply { id: op.id(), error, ..Reply::default() });
            }
            Item::End { ending, done, .. } => {
                let key = (ending.run, ending.attempt);
                let fault = rejected.remove(&key).unwrap_or_default();
                let failed = Ending { status: RunStatus::Error, answer: None, fault: Some(fault.clone()), ..*ending };
                let ended = match patiently(|| store.end_runs(std::slice::from_ref(&failed))).await {
                    Ok(ended) if ended.is_empty() => Ended::Fenced,
                    Ok(_) => Ended::Rejected(fault),
                    Err(error) => {
                        tracing::error!(run_id = %key.0, error = %chain(&error), "a run could not be ended");
                        Ended::Rejected(fault)
                    }
                };
                let _ = done.send(ended);
            }
            Item::Read { .. } | Item::Change { .. } | Item::Requeue { .. } => {}
        }
    }
}

/// What a run ends with whose state cannot be stored.
pub fn fault(reason: &str) -> RunFault {
    RunFault { kind: "CheckpointRejected".to_owned(), message: Some(reason.to_owned()), ..RunFault::default() }
}

/// For the client: Postgres' own words may hold the run's.
fn reason(error: &StoreError) -> &'static str {
    if error.is_out_of_time() {
        "the database took too long to store the run's state"
    } else if error.is_too_large() {
        "the run's state is too large for the database"
    } else {
        "the run's state could not be stored"
    }
}
