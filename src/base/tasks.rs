//! Long-lived tasks by name: how often each has failed, how, and whether it runs again.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The pause before a task that has ended early begins again: doubled for each time in a row.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// One that has run for so long has not failed in a row.
const SETTLED: Duration = Duration::from_secs(60);
/// How long a failure that healed is told.
const REMEMBERED: Duration = Duration::from_secs(3_600);

/// How a long-lived task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// There is nothing left for it to do.
    Done,
    /// It should not have: it begins again.
    Early,
}

impl From<()> for End {
    fn from((): ()) -> Self {
        Self::Early
    }
}

/// What is known of a task that has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// The task.
    pub name: String,
    /// How often it has failed since the process began.
    pub failures: u64,
    /// How it did the last time.
    pub how: String,
    /// Whether it runs again.
    pub runs: bool,
}

#[derive(Debug, Default)]
struct Record {
    failures: u64,
    in_a_row: u32,
    how: String,
    runs: bool,
    begun: Option<Instant>,
    failed: Option<Instant>,
}

/// The tasks of one process. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Tasks(Arc<Mutex<BTreeMap<String, Record>>>);

impl Tasks {
    /// Those that have failed lately, or have not begun again.
    pub fn failing(&self) -> Vec<Failing> {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_told = |record: &Record| {
            record.failures > 0 && (!record.runs || record.failed.is_some_and(|at| at.elapsed() < REMEMBERED))
        };
        let told = records.iter().filter(|(_, record)| is_told(record));
        told.map(|(name, record)| Failing {
            name: name.clone(),
            failures: record.failures,
            how: record.how.clone(),
            runs: record.runs,
        })
        .collect()
    }

    /// A task begins, or begins again.
    pub fn begins(&self, name: &str) {
        self.with(name, |record| {
            record.runs = true;
            record.begun = Some(Instant::now());
        });
    }

    /// A task is done with.
    pub(super) fn done(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// A task has failed. Says after which pause it may begin again.
    pub fn failed(&self, name: &str, how: &str) -> Duration {
        tracing::error!(task = name, how, "a task has failed");
        self.with(name, |record| {
            let settled = record.begun.is_some_and(|at| at.elapsed() >= SETTLED);
            record.in_a_row = if settled { 0 } else { record.in_a_row.saturating_add(1) };
            record.failures += 1;
            how.clone_into(&mut record.how);
            record.runs = false;
            record.failed = Some(Instant::now());
            PAUSE.saturating_mul(1 << record.in_a_row.min(12)).min(LONGEST_PAUSE)
        })
    }

    fn with<T>(&self, name: &str, change: impl FnOnce(&mut Record) -> T) -> T {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(records.entry(name.to_owned()).or_default())
    }
}

/// What a panic said.
pub fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    text.map_or_else(|| "it panicked".to_owned(), |text| format!("it panicked: {text}"))
}
