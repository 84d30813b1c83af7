//! Where a build is, as the builder tells it, and what its error is where it ends.

use super::error::BuildError;
use super::output::{Event, begins_resolution, resolution_failure};
use super::plan::Plan;
use super::report::BuildReporter;
use super::steps_left::Steps;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// How many lines of what a resolver says are kept: its head says what is in conflict.
const RESOLUTION_LINES: usize = 400;
/// How many of the last lines of a failed step an error holds.
const LAST_LINES: usize = 50;

/// Where the build is.
pub(super) struct Progress<'a> {
    /// What is built.
    pub plan: &'a Plan,
    /// Who hears of it.
    pub reporter: &'a dyn BuildReporter,
    /// What the steps come to.
    pub steps: &'a Mutex<Steps>,
    /// Number, total, instruction.
    pub step: Option<(usize, usize, String)>,
    /// Steps that come after those of the builder.
    pub more: usize,
    /// The last lines of the step.
    pub lines: VecDeque<String>,
    /// What a resolver said in it, from its first line on.
    pub resolution: Vec<String>,
}

impl Progress<'_> {
    fn title(&self) -> &str {
        let instruction = self.step.as_ref().map(|(_, _, text)| text.as_str());
        instruction.and_then(|text| self.plan.layer(text)).map_or("", |layer| &layer.title)
    }

    fn steps(&self) -> std::sync::MutexGuard<'_, Steps> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that the builder said.
    pub fn take(&mut self, event: Event) {
        match event {
            Event::Step { number, total, instruction } => {
                self.lines.clear();
                self.resolution.clear();
                self.steps().begins(&instruction);
                let total = total + self.more;
                self.step = Some((number, total, instruction));
                self.reporter.step_started(number, total, self.title());
            }
            Event::Image(image) => self.steps().made(&image),
            Event::Cached => {
                self.steps().is_cached();
                if let Some((number, total, _)) = &self.step {
                    self.reporter.step_cached(*number, *total, self.title());
                }
            }
            Event::Output(line) => {
                self.reporter.output(&line);
                let goes_on = !self.resolution.is_empty() || begins_resolution(&line);
                if goes_on && self.resolution.len() < RESOLUTION_LINES {
                    self.resolution.push(line.clone());
                }
                if self.lines.len() == LAST_LINES {
                    self.lines.pop_front();
                }
                self.lines.push_back(line);
            }
        }
    }

    /// The error of the step that it is at.
    pub fn failure(&self, message: String) -> BuildError {
        let instruction = self.step.as_ref().map_or("", |(_, _, text)| text.as_str());
        let layer = self.plan.layer(instruction);
        let last_lines: Vec<String> = self.lines.iter().cloned().collect();
        if layer.is_some_and(|layer| layer.dependencies)
            && let Some(said) = resolution_failure(&self.resolution, &last_lines)
        {
            return BuildError::Dependencies(said);
        }
        let title = layer.map(|layer| &*layer.title).filter(|title| !title.is_empty() && *title != "dockerfile_lines");
        let step = title.map_or_else(|| instruction.to_owned(), ToOwned::to_owned);
        let step = if step.is_empty() { "reading the Dockerfile".to_owned() } else { step };
        // The engine repeats the whole instruction; of that only the end tells anything.
        let message = match message.rsplit_once("returned a non-zero code: ") {
            Some((_, code)) => format!("exit code {code}"),
            None => message,
        };
        BuildError::Step { step, message, last_lines }
    }
}
