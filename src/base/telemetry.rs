//! The server's log: plain lines on stderr, filtered by `RAPIDCLAW_LOG`.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Without a filter; Postgres' notices are of no use to an operator.
const DEFAULT: &str = "info,sqlx=warn";

/// Starts logging. Lines go to stderr; `json` makes each a JSON object. Later calls do nothing.
pub fn init(filter: Option<&str>, json: bool) {
    let filter = EnvFilter::try_new(filter.unwrap_or(DEFAULT)).unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE)
        .with_target(false);
    let _ = if json { builder.json().try_init() } else { builder.with_ansi(false).try_init() };
}

/// An error with its causes, for the log.
pub fn chain(error: &(dyn std::error::Error + '_)) -> String {
    std::iter::successors(error.source(), |cause| cause.source())
        .fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
