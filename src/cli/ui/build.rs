//! A build as it goes on: one moving line on a terminal, plain lines elsewhere.

use super::Progress;
use crate::image::{BuildReporter, Built};

/// Shows a build.
pub struct BuildLines {
    progress: Progress,
    /// Whether the output of steps is shown, too.
    verbose: bool,
}

impl BuildLines {
    /// Shows a build through `progress`.
    pub fn new(progress: Progress, verbose: bool) -> Self {
        progress.passing("reading the project");
        Self { progress, verbose }
    }

    /// Where it is shown.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }
}

impl BuildReporter for BuildLines {
    fn step_started(&self, number: usize, total: usize, title: &str) {
        if !title.is_empty() {
            self.progress.step(format!("build {number}/{total}: {title}"));
        }
    }

    fn step_cached(&self, number: usize, total: usize, title: &str) {
        if !title.is_empty() {
            self.progress.passing(format!("build {number}/{total}: {title} (cached)"));
        }
    }

    fn output(&self, line: &str) {
        if self.verbose {
            self.progress.keep(format!("  {line}"));
        } else {
            self.progress.passing(format!("build: {line}"));
        }
    }

    fn finished(&self, built: &Built) {
        for note in &built.notes {
            self.progress.keep(note);
        }
    }
}
