//! How a run ended, for whoever waits for it and for its row.

use crate::api::problem::RunFault;
use crate::run::cost::{self, Tokens};
use crate::runner::protocol::{End, EndStatus, Json};
use crate::store::runs::{Ending, RunRow, RunStatus};
use serde_json::json;
use serde_json::value::RawValue;
use uuid::Uuid;

/// How a run ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The graph ended or waits for a human.
    Answer(Box<Answer>),
    /// It failed.
    Fault(RunFault),
    /// It ran out of time.
    TimedOut,
}

/// What a graph answered.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Text of the last AI message.
    pub result: Option<String>,
    /// What the graph waits for.
    pub interrupts: Option<Box<RawValue>>,
    /// All messages.
    pub messages: Option<Box<RawValue>>,
    /// All values.
    pub values: Option<Box<RawValue>>,
    /// Which replica answered.
    pub replica: Option<Uuid>,
}

impl Outcome {
    /// A fault of ours, with its text.
    pub fn fault(kind: &str, message: impl Into<String>) -> Self {
        Self::Fault(RunFault { kind: kind.to_owned(), message: Some(message.into()) })
    }
}

/// The row's end for an outcome that no replica reported.
pub fn ending(run: Uuid, attempt: i32, outcome: &Outcome) -> Ending {
    let (status, fault) = match outcome {
        Outcome::Answer(_) => (RunStatus::Success, None),
        Outcome::Fault(fault) => (RunStatus::Error, Some(fault.clone())),
        Outcome::TimedOut => (RunStatus::Timeout, Some(timeout_fault())),
    };
    Ending { run, attempt, status, answer: None, fault, input_tokens: 0, output_tokens: 0, cost: None }
}

/// How a run ended, from its row; nothing while it has not.
pub fn stored(row: &RunRow) -> Option<Outcome> {
    match row.status.as_str() {
        "pending" | "running" => None,
        "timeout" => Some(Outcome::TimedOut),
        "success" => {
            let answer = row.answer.as_ref().map(|answer| &answer.0);
            let raw = |name: &str| {
                let value = answer?.get(name).filter(|value| !value.is_null())?;
                serde_json::value::to_raw_value(value).ok()
            };
            Some(Outcome::Answer(Box::new(Answer {
                result: answer.and_then(|answer| answer["result"].as_str()).map(str::to_owned),
                interrupts: raw("interrupts"),
                messages: raw("messages"),
                values: raw("values"),
                replica: None,
            })))
        }
        _ => Some(Outcome::Fault(row.fault.as_ref().map(|fault| fault.0.clone()).unwrap_or_default())),
    }
}

/// What a replica's `end` means: for the row and for the client.
pub fn judge(run: Uuid, attempt: i32, replica: Uuid, end: End) -> (Ending, Outcome) {
    let (input_tokens, output_tokens, cost) = bill(&end);
    let raw = |json: Option<Json>| json.and_then(|json| serde_json::from_slice::<Box<RawValue>>(&json).ok());
    let interrupts = raw(end.interrupts);
    let (status, fault) = match end.status {
        EndStatus::Success => (RunStatus::Success, None),
        EndStatus::Interrupted => (RunStatus::Interrupted, None),
        EndStatus::Timeout => (RunStatus::Timeout, Some(timeout_fault())),
        EndStatus::Drained | EndStatus::Cancelled => (
            RunStatus::Error,
            Some(RunFault { kind: "RunCancelled".to_owned(), message: Some("the run was cancelled".to_owned()) }),
        ),
        EndStatus::Error => {
            let error = end.error.unwrap_or_else(|| crate::runner::protocol::EndError {
                kind: "UnknownError".to_owned(),
                message: String::new(),
                public: false,
            });
            let message = error.public.then_some(error.message);
            (RunStatus::Error, Some(RunFault { kind: error.kind, message }))
        }
    };
    let (messages, values) = (raw(end.messages), raw(end.values));
    let answer = match status {
        RunStatus::Success | RunStatus::Interrupted => {
            let mut answer = json!({ "result": end.result });
            for (name, part) in [("interrupts", &interrupts), ("messages", &messages), ("values", &values)] {
                if let Some(part) = part {
                    answer[name] = json!(part);
                }
            }
            Some(answer)
        }
        RunStatus::Error | RunStatus::Timeout => None,
    };
    let outcome = match (status, &fault) {
        (RunStatus::Timeout, _) => Outcome::TimedOut,
        (_, Some(fault)) => Outcome::Fault(fault.clone()),
        (_, None) => Outcome::Answer(Box::new(Answer {
            result: end.result,
            interrupts,
            messages,
            values,
            replica: Some(replica),
        })),
    };
    (Ending { run, attempt, status, answer, fault, input_tokens, output_tokens, cost }, outcome)
}

fn timeout_fault() -> RunFault {
    RunFault { kind: "RunTimeout".to_owned(), message: Some("the run took longer than its run_timeout".to_owned()) }
}

/// Tokens in, tokens out, and dollars: known only when every AI message bears usage and every model has a price.
fn bill(end: &End) -> (i64, i64, Option<f64>) {
    let count = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
    let mut total = (!end.unmetered).then_some(0.0);
    let (mut input, mut output) = (0_i64, 0_i64);
    for call in &end.usage {
        input = input.saturating_add(count(call.input));
        output = output.saturating_add(count(call.output));
        let tokens = Tokens {
            input: call.input,
            output: call.output,
            cache_read: call.cache_read,
            cache_write: call.cache_write,
        };
        let price = cost::price(call.model.as_deref(), call.provider.as_deref(), tokens);
        total = total.zip(price).map(|(total, price)| total + price);
    }
    (input, output, total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::protocol::{EndError, Usage};

    fn end(status: EndStatus) -> End {
        End {
            run: String::new(),
            attempt: 1,
            status,
            result: Some("hi".into()),
            values: None,
            messages: None,
            interrupts: None,
            error: None,
            usage: vec![],
            unmetered: false,
            steps: 1,
        }
    }

    #[test]
    fn one_call_without_a_price_makes_the_cost_unknown() {
        let known = Usage { model: Some("gpt-4o-mini".into()), input: 1000, output: 100, ..Usage::default() };
        let unknown = Usage { model: Some("our-own".into()), input: 1, output: 1, ..Usage::default() };
        let mut both = end(EndStatus::Success);
        both.usage = vec![known.clone(), unknown];
        let (ending, _) = judge(Uuid::nil(), 1, Uuid::nil(), both);
        assert_eq!((ending.input_tokens, ending.output_tokens, ending.cost), (1001, 101, None));
        let mut one = end(EndStatus::Success);
        one.usage = vec![known];
        let cost = judge(Uuid::nil(), 1, Uuid::nil(), one).0.cost.unwrap();
        assert!((cost - (1000.0 * 0.15 + 100.0 * 0.6) / 1e6).abs() < 1e-12);
    }

    #[test]
    fn a_message_that_may_not_leave_stays() {
        let mut failed = end(EndStatus::Error);
        failed.error = Some(EndError { kind: "DbError".into(), message: "password=x".into(), public: false });
        let (ending, outcome) = judge(Uuid::nil(), 1, Uuid::nil(), failed);
        assert_eq!(ending.fault, Some(RunFault { kind: "DbError".into(), message: None }));
        assert!(matches!(outcome, Outcome::Fault(fault) if fault.message.is_none()));
    }
}
