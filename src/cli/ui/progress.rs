//! A moving line on a terminal, plain lines elsewhere; and where nothing moves, a sign of life at least every ten
//! seconds: what is waited for, and for how long.

use super::record::Record;
use crate::base::text;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long nothing is said at most where nothing moves: CI systems end what is silent, and people wonder.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// What goes on, one step at a time.
pub struct Progress {
    bar: Option<ProgressBar>,
    lines: Arc<Lines>,
    /// What is waited for; without a bar.
    waiting: Option<Arc<Shared>>,
}

/// Where lines go that stay.
struct Lines {
    quiet: bool,
    record: Arc<Record>,
}

impl Lines {
    fn event(&self, text: &str) {
        self.record.event("progress", json!({ "message": text }));
    }

    fn show(&self, text: &str) {
        if !self.quiet {
            super::terminal::on_stderr(&text::escaped_lines(text));
        }
    }
}

/// What is waited for. Times are handed in.
#[derive(Debug)]
struct Waiting {
    /// The step.
    step: Option<String>,
    /// What moves in it.
    detail: Option<String>,
    /// When the step began.
    since: Instant,
    /// When something was said last.
    said: Instant,
}

impl Waiting {
    fn from(now: Instant) -> Self {
        Self { step: None, detail: None, since: now, said: now }
    }

    /// How long until something has to be said, and what, where that is now.
    fn look(&mut self, now: Instant) -> (Duration, Option<String>) {
        let silent = now.saturating_duration_since(self.said);
        if let Some(left) = SIGN_OF_LIFE.checked_sub(silent).filter(|left| !left.is_zero()) {
            return (left, None);
        }
        self.said = now;
        let seconds = now.saturating_duration_since(self.since).as_secs();
        let line = match (&self.step, &self.detail) {
            (Some(step), Some(detail)) => Some(format!("{step}, {seconds}s so far: {detail}")),
            (Some(what), None) | (None, Some(what)) => Some(format!("{what}, {seconds}s so far")),
            (None, None) => None,
        };
        (SIGN_OF_LIFE, line)
    }
}

/// What the thread that gives signs of life shares with who works.
struct Shared {
    /// Nothing once the work has ended.
    waiting: Mutex<Option<Waiting>>,
    ended: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Waiting)) {
        if let Some(waiting) = self.lock().as_mut() {
            change(waiting);
        }
    }

    /// Says what is waited for until the work has ended. Blocks.
    fn keep_saying(&self, lines: &Lines) {
        let mut guard = self.lock();
        while let Some(waiting) = guard.as_mut() {
            let (pause, line) = waiting.look(Instant::now());
            if let Some(line) = line {
                lines.event(&line);
                lines.show(&line);
            }
            guard = self.ended.wait_timeout(guard, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
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
        let lines = Arc::new(Lines { quiet, record });
        let waiting = bar.is_none().then(|| {
            let waiting = Mutex::new(Some(Waiting::from(Instant::now())));
            let shared = Arc::new(Shared { waiting, ended: Condvar::new() });
            let (theirs, lines) = (Arc::clone(&shared), Arc::clone(&lines));
            // A thread, so that it speaks whatever the work does; without one there are fewer lines.
            let _ = std::thread::Builder::new().name("progress".to_owned()).spawn(move || theirs.keep_saying(&lines));
            shared
        });
        Self { bar, lines, waiting }
    }

    /// Shows what goes on now; on a terminal it replaces what was shown.
    pub fn step(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        self.lines.event(text);
        match &self.bar {
            Some(bar) => bar.set_message(text::escaped(text).into_owned()),
            None => self.lines.show(text),
        }
        self.wait(|waiting, now| {
            *waiting = Waiting { step: Some(text.to_owned()), ..Waiting::from(now) };
        });
    }

    /// Shows a line that moves and is of no use later.
    pub fn passing(&self, text: impl AsRef<str>) {
        if let Some(bar) = &self.bar {
            bar.set_message(text::escaped(text.as_ref()).into_owned());
        }
        self.wait(|waiting, _| waiting.detail = Some(text.as_ref().to_owned()));
    }

    /// Writes a line that stays.
    pub fn keep(&self, text: impl AsRef<str>) {
        self.lines.event(text.as_ref());
        self.show(text);
    }

    /// Writes a line that stays, for people alone.
    pub fn show(&self, text: impl AsRef<str>) {
        match &self.bar {
            Some(bar) => bar.println(text::escaped_lines(text.as_ref())),
            None => self.lines.show(text.as_ref()),
        }
        self.wait(|waiting, now| waiting.said = now);
    }

    fn wait(&self, change: impl FnOnce(&mut Waiting, Instant)) {
        if let Some(shared) = &self.waiting {
            shared.change(|waiting| change(waiting, Instant::now()));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(shared) = &self.waiting {
            *shared.lock() = None;
            shared.ended.notify_all();
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_before_ten_seconds_and_then_what_is_waited_for() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut waiting = Waiting::from(began);
        assert_eq!(waiting.look(at(4)), (Duration::from_secs(6), None));
        // Nobody has said what goes on.
        assert_eq!(waiting.look(at(10)), (SIGN_OF_LIFE, None));
        let mut waiting = Waiting { step: Some("build 5/18: installing".to_owned()), ..Waiting::from(began) };
        assert_eq!(waiting.look(at(10)).1.unwrap(), "build 5/18: installing, 10s so far");
        assert_eq!(waiting.look(at(19)).1, None);
        waiting.detail = Some("+ numpy".to_owned());
        assert_eq!(waiting.look(at(20)).1.unwrap(), "build 5/18: installing, 20s so far: + numpy");
        // What was said otherwise counts.
        waiting.said = at(28);
        assert_eq!(waiting.look(at(30)), (Duration::from_secs(8), None));
        let mut moved = Waiting { detail: Some("push to r: 3 MiB".to_owned()), ..Waiting::from(began) };
        assert_eq!(moved.look(at(12)).1.unwrap(), "push to r: 3 MiB, 12s so far");
    }

    #[test]
    fn who_works_without_a_terminal_gives_signs_of_life_and_ends_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let record = Record::new(false, Some(&path)).unwrap();
        record.begin("deploy", true);
        let progress = Progress::new(false, true, Arc::new(record));
        progress.step("installing");
        // As if it had begun ten seconds ago.
        let shared = Arc::clone(progress.waiting.as_ref().unwrap());
        shared.change(|waiting| waiting.said = Instant::now().checked_sub(SIGN_OF_LIFE).unwrap());
        shared.ended.notify_all();
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut said = String::new();
        while !said.contains("so far") {
            assert!(Instant::now() < deadline, "{said}");
            std::thread::sleep(Duration::from_millis(10));
            said = std::fs::read_to_string(&path).unwrap();
        }
        assert!(said.contains("installing, 0s so far"), "{said}");
        drop(progress);
        assert!(shared.lock().is_none());
    }
}
