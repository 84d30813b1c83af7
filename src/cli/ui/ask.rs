//! What waits for a person, or for the end of a pipe: on a thread of its own, so that Ctrl-C ends the command
//! meanwhile.

use crate::cli::exit::{Exit, Failure};
use std::io::{ErrorKind, Read as _};

/// Prompts hide the cursor, and one that is interrupted leaves it so.
struct Cursor;

impl Drop for Cursor {
    fn drop(&mut self) {
        let _ = dialoguer::console::Term::stderr().show_cursor();
    }
}

/// Asks on the terminal. Exit 130 when the answer is Ctrl-C.
pub async fn ask<T: Send + 'static>(
    question: impl FnOnce() -> dialoguer::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let _cursor = Cursor;
    let answer = tokio::task::spawn_blocking(question).await.map_err(|error| Failure::new(Exit::Failed, error))?;
    answer.map_err(|dialoguer::Error::IO(error)| match error.kind() {
        ErrorKind::Interrupted => Failure::interrupted(),
        _ => Failure::new(Exit::Failed, error),
    })
}

/// The text that stdin holds. An error where it has more than `most` bytes.
pub async fn read_stdin(most: u64) -> Result<String, Failure> {
    let read = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        std::io::stdin().take(most + 1).read_to_string(&mut text).map(|_| text)
    });
    let text = read.await.map_err(|error| Failure::new(Exit::Failed, error))?;
    let text = text.map_err(|error| Failure::new(Exit::Usage, error))?;
    if text.len() as u64 > most {
        return Err(Failure::said(Exit::Usage, format!("stdin holds more than {} KiB", most >> 10)));
    }
    Ok(text)
}
