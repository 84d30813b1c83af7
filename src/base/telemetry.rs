//! The server's log: plain lines on stderr, filtered by `RAPIDCLAW_LOG`. To log costs no time and cannot fail.

mod sink;

use sink::Sink;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Without a filter; Postgres' notices are of no use to an operator.
const DEFAULT: &str = "info,sqlx=warn";

static SINK: OnceLock<Sink> = OnceLock::new();

/// Starts logging. Lines go to stderr; `json` makes each a JSON object. Later calls do nothing.
pub fn init(filter: Option<&str>, json: bool) {
    let lost = |lines| tracing::warn!(lines, "lines of this log could not be written and are lost");
    if let (None, Ok(sink)) = (SINK.get(), Sink::start(io::stderr(), json, lost)) {
        let _ = SINK.set(sink);
    }
    let filter = EnvFilter::try_new(filter.unwrap_or(DEFAULT)).unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| ToSink)
        // It would be told on stderr, and a stderr that is gone would end the task that logs.
        .log_internal_errors(false)
        .with_span_events(FmtSpan::NONE)
        .with_target(false);
    let _ = if json { builder.json().try_init() } else { builder.with_ansi(false).try_init() };
}

/// How many lines could not be written since the process began.
pub fn dropped_lines() -> u64 {
    SINK.get().map_or(0, Sink::dropped)
}

/// Blots these values out of every line from now on.
pub fn conceal<'a>(values: impl Iterator<Item = &'a str>) {
    if let Some(sink) = SINK.get() {
        sink.conceal(values);
    }
}

/// Waits until what was logged is written, `patience` at most: the process is about to end.
pub fn flush(patience: Duration) {
    if let Some(sink) = SINK.get() {
        sink.flush(patience);
    }
}

/// One event's line; it comes in one piece.
struct ToSink;

impl Write for ToSink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(sink) = SINK.get() {
            sink.push(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An error with its causes, for the log.
pub fn chain(error: &(dyn std::error::Error + '_)) -> String {
    std::iter::successors(error.source(), |cause| cause.source())
        .fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
