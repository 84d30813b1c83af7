//! How a run ended, for whoever waits for it and for its row.

use crate::api::problem::RunFault;
use crate::base::redact::Redactor;
use crate::run::cost::{self, Bill, Tokens};
use crate::runner::protocol::{End, EndError, EndStatus, Json, Usage};
use crate::store::runs::{Ending, RunRow, RunStatus};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use uuid::Uuid;

/// Codes with which a replica may say that the request does not fit the thread.
const REFUSALS: [&str; 4] = ["several-interrupts", "no-such-interrupt", "nothing-to-resume", "graph-not-chat"];

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
        Self::Fault(RunFault { kind: kind.to_owned(), message: Some(message.into()), ..RunFault::default() })
    }
}

/// The row's end for an outcome that no replica reported. `used` is what the attempt has told of itself, where that is
/// known here; else its row has it.
pub fn ending(run: Uuid, attempt: i32, outcome: &Outcome, used: Option<Bill>) -> Ending {
    let (status, fault) = match outcome {
        Outcome::Answer(_) => (RunStatus::Success, None),
        Outcome::Fault(fault) => (RunStatus::Error, Some(fault.clone())),
        Outcome::TimedOut => (RunStatus::Timeout, Some(timeout_fault())),
    };
    // What it has used beside that is not known.
    let told = Bill { cost: None, ..used.unwrap_or_default() };
    Ending { fault, used: told, whole: used.is_some(), ..Ending::new(run, attempt, status) }
}

/// How a run ended, from its row; nothing while it has not.
pub fn stored(row: &RunRow) -> Option<Outcome> {
    match row.status.as_str() {
        "pending" | "running" => None,
        "timeout" => Some(Outcome::TimedOut),
        "success" => {
            let answer = row.answer.as_ref().and_then(|answer| serde_json::from_str::<Stored<'_>>(answer.0.get()).ok());
            let answer = answer.unwrap_or_default();
            Some(Outcome::Answer(Box::new(Answer {
                result: answer.result.map(Cow::into_owned),
                interrupts: answer.interrupts.map(Cow::into_owned),
                messages: answer.messages.map(Cow::into_owned),
                values: answer.values.map(Cow::into_owned),
                replica: None,
            })))
        }
        _ => Some(Outcome::Fault(row.fault.as_ref().map(|fault| fault.0.told()).unwrap_or_default())),
    }
}

/// An answer as its row keeps it. Its parts go to text and come from it without being parsed: foreign JSON
/// may be nested deeper than a parser goes.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Stored<'a> {
    result: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interrupts: Option<Cow<'a, RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Cow<'a, RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Cow<'a, RawValue>>,
}

impl Answer {
    fn stored(&self) -> Option<String> {
        let stored = Stored {
            result: self.result.as_deref().map(Cow::Borrowed),
            interrupts: self.interrupts.as_deref().map(Cow::Borrowed),
            messages: self.messages.as_deref().map(Cow::Borrowed),
            values: self.values.as_deref().map(Cow::Borrowed),
        };
        serde_json::to_string(&stored).ok()
    }
}

/// What a replica's `end` means: for the row and for the client.
pub fn judge(run: Uuid, attempt: i32, replica: Uuid, end: End, redactor: &Redactor) -> (Ending, Outcome) {
    let used = bill_of(&end);
    let raw = |json: Option<Json>| json.and_then(|json| serde_json::from_slice::<Box<RawValue>>(&json).ok());
    let (status, fault) = match end.status {
        EndStatus::Success => (RunStatus::Success, None),
        EndStatus::Interrupted => (RunStatus::Interrupted, None),
        EndStatus::Timeout => (RunStatus::Timeout, Some(timeout_fault())),
        EndStatus::Drained | EndStatus::Cancelled => {
            let message = Some("the run was cancelled".to_owned());
            (RunStatus::Error, Some(RunFault { kind: "RunCancelled".to_owned(), message, ..RunFault::default() }))
        }
        EndStatus::Error => {
            let fault = end.error.map_or_else(unknown_fault, |error| fault_of(error, redactor));
            let status = match fault.code.as_deref() {
                None => RunStatus::Error,
                Some(_) => RunStatus::Refused { waits: !fault.interrupts.is_empty() },
            };
            (status, Some(fault))
        }
    };
    let (answer, outcome) = match (status, &fault) {
        (RunStatus::Timeout, _) => (None, Outcome::TimedOut),
        (_, Some(fault)) => (None, Outcome::Fault(fault.told())),
        (_, None) => {
            let answer = Answer {
                result: end.result,
                interrupts: raw(end.interrupts),
                messages: raw(end.messages),
                values: raw(end.values),
                replica: Some(replica),
            };
            (answer.stored(), Outcome::Answer(Box::new(answer)))
        }
    };
    (Ending { answer, fault, used, ..Ending::new(run, attempt, status) }, outcome)
}

/// Why a run failed: the caller gets the message where it may, the operator in any case; neither gets a secret.
fn fault_of(error: EndError, redactor: &Redactor) -> RunFault {
    let message = redactor.redact(error.message);
    let (message, reason) = if error.public { (Some(message), None) } else { (None, Some(message)) };
    RunFault {
        kind: error.kind,
        message,
        code: error.code.filter(|code| REFUSALS.contains(&code.as_str())),
        interrupts: error.interrupts,
        reason: reason.filter(|reason| !reason.is_empty()),
        hint: error.hint.map(|hint| redactor.redact(hint)),
    }
}

fn unknown_fault() -> RunFault {
    RunFault { kind: "UnknownError".to_owned(), ..RunFault::default() }
}

fn timeout_fault() -> RunFault {
    let message = Some("the run took longer than its run_timeout".to_owned());
    RunFault { kind: "RunTimeout".to_owned(), message, ..RunFault::default() }
}

/// What an attempt has used, by its end: what it cost is known only when every AI message bears usage.
pub fn bill_of(end: &End) -> Bill {
    let bill = bill(&end.usage);
    Bill { cost: bill.cost.filter(|_| !end.unmetered), ..bill }
}

/// What these calls have used; what they cost is known only when every model has a price.
pub fn bill(calls: &[Usage]) -> Bill {
    let count = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
    calls.iter().fold(Bill::default(), |bill, call| {
        let tokens = Tokens {
            input: call.input,
            output: call.output,
            cache_read: call.cache_read,
            cache_write: call.cache_write,
        };
        let cost = cost::price(call.model.as_deref(), call.provider.as_deref(), tokens);
        bill.plus(Bill { input_tokens: count(call.input), output_tokens: count(call.output), cost })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::protocol::Usage;
    use serde_bytes::ByteBuf;

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
            document: None,
        }
    }

    #[test]
    fn one_call_without_a_price_makes_the_cost_unknown() {
        let known = Usage { model: Some("gpt-4o-mini".into()), input: 1000, output: 100, ..Usage::default() };
        let unknown = Usage { model: Some("our-own".into()), input: 1, output: 1, ..Usage::default() };
        let mut both = end(EndStatus::Success);
        both.usage = vec![known.clone(), unknown];
        let (ending, _) = judge(Uuid::nil(), 1, Uuid::nil(), both, &Redactor::default());
        assert_eq!(ending.used, Bill { input_tokens: 1001, output_tokens: 101, cost: None });
        let mut one = end(EndStatus::Success);
        one.usage = vec![known];
        let cost = judge(Uuid::nil(), 1, Uuid::nil(), one, &Redactor::default()).0.used.cost.unwrap();
        assert!((cost - (1000.0 * 0.15 + 100.0 * 0.6) / 1e6).abs() < 1e-12);
    }

    #[test]
    fn a_message_that_may_not_leave_is_for_the_operator_and_no_message_holds_a_secret() {
        let secrets = [("KEY".to_owned(), crate::base::secret::SecretString::from("sk-123456"))];
        let redactor = Redactor::new(&secrets.into());
        let failed = |public| {
            let message = "no sk-123456 here".to_owned();
            let hint = Some("add sk-123456 to allowed_hosts".to_owned());
            let error = EndError { kind: "DbError".into(), message, public, hint, ..EndError::default() };
            judge(Uuid::nil(), 1, Uuid::nil(), End { error: Some(error), ..end(EndStatus::Error) }, &redactor)
        };

        let (ending, outcome) = failed(false);
        let told = RunFault { kind: "DbError".into(), ..RunFault::default() };
        let hint = Some("add *** to allowed_hosts".to_owned());
        let kept = RunFault { reason: Some("no *** here".into()), hint: hint.clone(), ..told.clone() };
        assert_eq!(ending.fault, Some(kept));
        assert!(matches!(outcome, Outcome::Fault(fault) if fault == told));

        let (ending, outcome) = failed(true);
        let told = RunFault { message: Some("no *** here".into()), ..told };
        assert_eq!(ending.fault, Some(RunFault { hint, ..told.clone() }));
        assert!(matches!(outcome, Outcome::Fault(fault) if fault == told));
    }

    #[test]
    fn an_answer_of_any_depth_is_stored_and_read_again_as_it_was_sent() {
        for depth in [1, 126, 254, 20_000] {
            let deep = format!("{}1.50{}", "[".repeat(depth), "]".repeat(depth));
            let nested = ByteBuf::from(deep.clone().into_bytes());
            let asked = End { interrupts: Some(nested.clone()), values: Some(nested), ..end(EndStatus::Interrupted) };

            let (ending, outcome) = judge(Uuid::nil(), 1, Uuid::nil(), asked, &Redactor::default());

            let text = ending.answer.unwrap();
            let stored: Stored<'_> = serde_json::from_str(&text).unwrap();
            assert_eq!(stored.interrupts.unwrap().get(), deep);
            assert!(matches!(outcome, Outcome::Answer(answer) if answer.values.as_ref().unwrap().get() == deep));
        }
    }

    #[test]
    fn only_known_codes_refuse_a_request() {
        let refused = |code: &str, interrupts: &[&str]| {
            let interrupts = interrupts.iter().map(|id| (*id).to_owned()).collect();
            let error = EndError { code: Some(code.into()), interrupts, public: true, ..EndError::default() };
            let end = End { error: Some(error), ..end(EndStatus::Error) };
            judge(Uuid::nil(), 1, Uuid::nil(), end, &Redactor::default()).0.status
        };
        assert_eq!(refused("several-interrupts", &["a", "b"]), RunStatus::Refused { waits: true });
        assert_eq!(refused("nothing-to-resume", &[]), RunStatus::Refused { waits: false });
        assert_eq!(refused("not-authenticated", &[]), RunStatus::Error);
    }
}
