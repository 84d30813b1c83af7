//! A moving line on a terminal, plain lines elsewhere.

use super::record::Record;
use crate::base::text;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// What goes on, one step at a time.
pub struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    record: Arc<Record>,
}

impl Progress {
    pub(super) fn new(animated: bool, quiet: bool, record: Arc<Record>) -> Self {
        let bar = animated.then(|| {
            // A message that is too long for its line is cut: one that wraps could not be replaced.
            let style = ProgressStyle::with_template("{spinner:.cyan} {elapsed:.dim} {wide_msg}");
            let bar = ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar, quiet, record }
    }

    /// Shows what goes on now; on a terminal it replaces what was shown.
    pub fn step(&self, text: impl AsRef<str>) {
        self.record.event("progress", json!({ "message": text.as_ref() }));
        match &self.bar {
            Some(bar) => bar.set_message(text::escaped(text.as_ref()).into_owned()),
            None => self.show(text),
        }
    }

    /// Shows a line that moves and is of no use later.
    pub fn passing(&self, text: impl AsRef<str>) {
        if let Some(bar) = &self.bar {
            bar.set_message(text::escaped(text.as_ref()).into_owned());
        }
    }

    /// Writes a line that stays.
    pub fn keep(&self, text: impl AsRef<str>) {
        self.record.event("progress", json!({ "message": text.as_ref() }));
        self.show(text);
    }

    /// Writes a line that stays, for people alone.
    pub fn show(&self, text: impl AsRef<str>) {
        let text = text::escaped_lines(text.as_ref());
        match &self.bar {
            Some(bar) => bar.println(text),
            None if !self.quiet => super::on_stderr(&text),
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
