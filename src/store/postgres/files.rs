//! Work on files, and what a log says last.

use super::error::PostgresError;

const LOG_LINES: usize = 15;

/// The last lines that say something.
pub(super) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

/// Work on files, off the runtime's threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PostgresError> + Send + 'static,
) -> Result<T, PostgresError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(PostgresError::Program { program: "a thread for files".into(), source: std::io::Error::other(error) })
    })
}
