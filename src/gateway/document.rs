//! The state that comes with a run's end, of a target that keeps one document.

use super::outcome::Outcome;
use super::state_size::StateSize;
use crate::runner::protocol::{Json, LARGE_BYTES};
use crate::store::checkpoints::{Document, Op};
use uuid::Uuid;

/// Whose state it is.
pub struct Owner {
    /// The run that has written it.
    pub run: Uuid,
    /// Its thread.
    pub thread_id: String,
    /// Its target.
    pub target: String,
}

/// What is to be committed with the run's end; or what the run ends with, since the document cannot be kept.
pub async fn kept(json: Json, owner: Owner, size: &StateSize) -> Result<Op, Outcome> {
    size.admits(&json).map_err(|error| Outcome::fault(StateSize::FAULT, error.to_string()))?;
    let unreadable = || Outcome::fault("StateUnreadable", "the thread's state is not UTF-8");
    let is_large = json.len() > LARGE_BYTES;
    let encode = move || {
        let Owner { run, thread_id, target } = owner;
        let text = String::from_utf8(json.into_vec()).ok()?;
        Some(Op::from(Document { thread_id, target, run, text }))
    };
    // A large one takes its time, and nobody else on this thread waits for it.
    let encoded = if is_large { tokio::task::spawn_blocking(encode).await.ok().flatten() } else { encode() };
    encoded.ok_or_else(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner { run: Uuid::nil(), thread_id: "t".into(), target: "echo".into() }
    }

    #[tokio::test]
    async fn what_could_not_be_read_back_is_not_kept() {
        let size = StateSize::new(None, Some(10));
        assert!(kept(b"[1, 2, 3]".to_vec().into(), owner(), &size).await.is_ok());
        for (document, kind) in [(&b"[1, 2, 3, 4]"[..], "StateTooLarge"), (b"\"\xff\"", "StateUnreadable")] {
            let refused = kept(document.to_vec().into(), owner(), &size).await;
            assert!(matches!(refused, Err(Outcome::Fault(fault)) if fault.kind == kind), "{kind}");
        }
        let large = format!("\"{}\"", "x".repeat(LARGE_BYTES));
        let bytes = kept(large.into_bytes().into(), owner(), &StateSize::new(None, None)).await.unwrap().bytes();
        assert!(bytes > LARGE_BYTES);
    }
}
