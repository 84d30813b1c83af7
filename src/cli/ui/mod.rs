//! What people see. Only this room writes: data on stdout, everything else on stderr.

pub mod ask;
mod build;
mod github;
mod graphs;
mod progress;
mod record;
mod screen;
mod table;
mod terminal;

pub use build::BuildLines;
pub use graphs::ways;
pub use progress::Progress;
pub use record::Record;
pub use screen::Screen;
pub use table::{table, words};

use super::args::Global;
use super::exit::{Exit, Failure};
use crate::base::shutdown::CancellationToken;
use crate::base::{env, text};
use crate::manifest::Diagnostic;
use github::Github;
use owo_colors::OwoColorize as _;
use record::value;
use serde::Serialize;
use serde_json::{Value, json};
use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How data are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Table,
    /// One stable line each.
    Line,
    /// For programs.
    Json,
}

/// Writes for one command.
pub struct Printer {
    format: Format,
    quiet: bool,
    /// Whether somebody can be asked.
    interactive: bool,
    /// Whether progress may move.
    animated: bool,
    /// Whether Ctrl-C is how the command is ended.
    is_endless: AtomicBool,
    record: Arc<Record>,
    github: Option<Github>,
    /// The command that runs.
    command: Mutex<&'static str>,
    /// What goes on when the command is interrupted.
    goes_on: Mutex<Option<String>>,
    /// Cancelled when it is.
    interrupted: CancellationToken,
    /// How many parts of the command put something in order before they end.
    clearing: AtomicUsize,
}

/// While it is there an interruption waits for what it guards.
pub struct Clearing<'a>(&'a Printer);

impl Clearing<'_> {
    /// Cancelled by the interruption.
    pub fn interrupted(&self) -> &CancellationToken {
        &self.0.interrupted
    }
}

impl Drop for Clearing<'_> {
    fn drop(&mut self) {
        self.0.clearing.fetch_sub(1, Ordering::Relaxed);
    }
}

#[expect(clippy::unused_self, reason = "who has no printer writes nothing")]
impl Printer {
    /// Looks at the terminal and the environment once. The file that programs read may not be had: then what
    /// is wrong with it comes beside a printer without it.
    pub fn new(global: &Global) -> (Self, Option<Failure>) {
        let file = env::var(env::OUTPUT_FILE);
        match Record::new(global.json, file.as_deref().map(Path::new)) {
            Ok(record) => (Self::with(global, record), None),
            Err(error) => {
                let text = format!("the file {} of {}", file.unwrap_or_default(), env::OUTPUT_FILE);
                let failure = Failure::new(Exit::Usage, anyhow::Error::new(error).context(text))
                    .hint("name a file in a folder that is there and that you may write to");
                (Self::with(global, Record::only_stdout(global.json)), Some(failure))
            }
        }
    }

    fn with(global: &Global, record: Record) -> Self {
        let ci = env::var(env::CI).is_some();
        let (stdin, stdout, stderr) =
            (std::io::stdin().is_terminal(), std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
        let format = match (global.json, stdout) {
            (true, _) => Format::Json,
            (false, true) => Format::Table,
            (false, false) => Format::Line,
        };
        Self {
            format,
            quiet: global.quiet,
            interactive: stdin && stderr && !global.no_input && !ci,
            animated: stderr && !ci && !global.quiet && !terminal::is_dumb(),
            is_endless: AtomicBool::new(false),
            record: Arc::new(record),
            github: Github::here(),
            command: Mutex::new("rapidclaw"),
            goes_on: Mutex::new(None),
            interrupted: CancellationToken::new(),
            clearing: AtomicUsize::new(0),
        }
    }

    /// Names the command that runs; one that streams says in JSON what it does while it does it.
    pub fn begin(&self, command: &'static str, streams: bool) {
        *self.command.lock().unwrap_or_else(PoisonError::into_inner) = command;
        self.record.begin(command, streams);
    }

    fn command(&self) -> &'static str {
        *self.command.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened, for programs.
    pub fn event(&self, kind: &str, fields: Value) {
        self.record.event(kind, fields);
    }

    /// Says what goes on when the command is interrupted from here on.
    pub fn goes_on(&self, hint: impl Into<String>) {
        *self.goes_on.lock().unwrap_or_else(PoisonError::into_inner) = Some(hint.into());
    }

    /// Ctrl-C.
    pub fn interrupted(&self) -> Failure {
        let hint = self.goes_on.lock().unwrap_or_else(PoisonError::into_inner).take();
        hint.into_iter().fold(Failure::interrupted(), Failure::hint)
    }

    /// A value that CI systems shall blot out of their logs.
    pub fn mask(&self, value: &str) {
        if let Some(github) = &self.github {
            github.mask(value);
        }
    }

    /// Faults of a manifest.
    pub fn faults(&self, faults: &[Diagnostic]) {
        if let Some(github) = &self.github {
            for fault in faults {
                github.fault(fault);
            }
        }
    }

    /// What came of a command that changes something: for programs, and for the steps behind it in CI. People
    /// are told apart, where [`Printer::format`] is theirs.
    pub fn result(&self, fields: Value) {
        if let Some(github) = &self.github {
            let mut shown = fields.clone();
            if shown["exit"].is_null() {
                shown["exit"] = json!(0);
            }
            github.result(self.command(), &shown);
        }
        self.record.result(fields);
    }

    /// The command has ended.
    pub fn finish(&self, exit: Exit) {
        self.record.finish(exit.code());
    }

    /// How data are printed.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether nothing but data and errors is wanted.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether somebody can be asked.
    pub fn is_interactive(&self) -> bool {
        self.interactive
    }

    /// Says that the command goes on until somebody ends it: that is no failure to tell.
    pub fn become_endless(&self) {
        self.is_endless.store(true, Ordering::Relaxed);
    }

    /// From now on an interruption is told, and waited with, until the guard is dropped.
    pub fn clears_up(&self) -> Clearing<'_> {
        self.clearing.fetch_add(1, Ordering::Relaxed);
        Clearing(self)
    }

    /// Tells of an interruption. Says whether something is to be put in order first.
    pub fn interrupt(&self) -> bool {
        self.interrupted.cancel();
        self.clearing.load(Ordering::Relaxed) > 0
    }

    /// Whether the command goes on until somebody ends it.
    pub fn is_endless(&self) -> bool {
        self.is_endless.load(Ordering::Relaxed)
    }

    /// Waits until nobody reads what an endless command prints.
    pub async fn reader_gone(&self) {
        self.record.reader_gone().await;
        if !self.is_endless() {
            std::future::pending::<()>().await;
        }
    }

    /// Data: a line on stdout, or several. What others have put into it moves no cursor. A reader that has gone away
    /// is no error.
    pub fn line(&self, text: impl AsRef<str>) {
        self.record.on_stdout(&text::escaped_lines(text.as_ref()));
    }

    /// Data: a line that a program of somebody else's wrote. A terminal obeys nothing in it; a file or a pipe gets it
    /// as it is, as from `docker logs`.
    pub fn foreign_line(&self, text: &str) {
        if self.format == Format::Line {
            self.record.on_stdout(text);
        } else {
            self.record.on_stdout(&text::escaped(text));
        }
    }

    /// Data: one JSON document on stdout, an object with its `schema`.
    pub fn json(&self, fields: &impl Serialize) {
        self.record.result(value(fields));
    }

    /// Data: a list as a JSON document, under its name.
    pub fn json_list(&self, name: &str, list: &impl Serialize) {
        self.record.result(json!({ name: list }));
    }

    /// What goes on: a line on stderr.
    pub fn note(&self, text: impl AsRef<str>) {
        self.event("note", json!({ "message": text.as_ref() }));
        if !self.quiet {
            terminal::on_stderr(&text::escaped_lines(text.as_ref()));
        }
    }

    /// Something that should be looked at.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.event("warning", json!({ "message": text.as_ref() }));
        terminal::on_stderr(&format!("{} {}", "warning:".yellow().bold(), text::escaped_lines(text.as_ref())));
    }

    /// Text as it is, on stderr (diagnostics).
    pub fn text(&self, text: impl AsRef<str>) {
        terminal::on_stderr(&text::escaped_lines(text.as_ref().trim_end()));
    }

    /// A moving line for what takes long.
    pub fn progress(&self) -> Progress {
        Progress::new(self.animated, self.quiet, Arc::clone(&self.record))
    }

    /// A failure: evidence, error, causes, hints; for programs as their last line.
    pub fn failure(&self, failure: &Failure) {
        let said = failure.to_json();
        self.faults(&failure.more.faults);
        if let Some(github) = &self.github {
            if failure.more.faults.is_empty() {
                github.error(self.command(), said["message"].as_str().unwrap_or_default());
            }
            if self.record.streams() {
                github.result(self.command(), &said);
            }
        }
        self.record.failure(said);
        let mut lines = Vec::new();
        lines.extend(failure.evidence.as_ref().map(|evidence| text::escaped_lines(evidence.trim_end()).into_owned()));
        let safe = |text: String| text::escaped_lines(&text).into_owned();
        let mut last = safe(failure.error.to_string());
        lines.push(format!("{} {last}", "error:".red().bold()));
        for cause in failure.error.chain().skip(1) {
            let text = safe(cause.to_string());
            // A wrapper that says its source's words again adds nothing.
            if text != last {
                lines.push(format!("{} {text}", "caused by:".red()));
            }
            last = text;
        }
        if !failure.hints.is_empty() && !self.quiet {
            lines.push(String::new());
            lines.extend(
                failure.hints.iter().map(|hint| format!("{} {}", "hint:".cyan().bold(), text::escaped_lines(hint))),
            );
        }
        terminal::on_stderr(&lines.join("\n"));
    }
}
