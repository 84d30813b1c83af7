//! What people see. Only this room writes: data on stdout, everything else on stderr.

mod build;
mod progress;
mod screen;
mod table;

pub use build::BuildLines;
pub use progress::Progress;
pub use screen::Screen;
pub use table::table;

use super::args::Global;
use super::exit::Failure;
use crate::base::env;
use owo_colors::OwoColorize as _;
use serde::Serialize;
use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

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
    is_server: AtomicBool,
    /// Whether Ctrl-C is how the command is ended.
    is_endless: AtomicBool,
}

#[expect(clippy::unused_self, reason = "who has no printer writes nothing")]
impl Printer {
    /// Looks at the terminal and the environment once.
    pub fn new(global: &Global) -> Self {
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
            animated: stderr && !ci && !global.quiet,
            is_server: AtomicBool::new(false),
            is_endless: AtomicBool::new(false),
        }
    }

    /// How data are printed.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether somebody can be asked.
    pub fn is_interactive(&self) -> bool {
        self.interactive
    }

    /// Says that this process is a server: it stops by its own rules.
    pub fn become_server(&self) {
        self.is_server.store(true, Ordering::Relaxed);
    }

    /// Whether this process is a server.
    pub fn is_server(&self) -> bool {
        self.is_server.load(Ordering::Relaxed)
    }

    /// Says that the command goes on until somebody ends it: that is no failure to tell.
    pub fn become_endless(&self) {
        self.is_endless.store(true, Ordering::Relaxed);
    }

    /// Whether the command goes on until somebody ends it.
    pub fn is_endless(&self) -> bool {
        self.is_endless.load(Ordering::Relaxed)
    }

    /// Data: a line on stdout. A reader that has gone away is no error.
    pub fn line(&self, text: impl AsRef<str>) {
        let _ = writeln!(anstream::stdout(), "{}", text.as_ref());
    }

    /// Data: one JSON document on stdout.
    pub fn json(&self, value: &impl Serialize) {
        self.line(serde_json::to_string_pretty(value).unwrap_or_default());
    }

    /// Data: one of many JSON documents, a line each.
    pub fn json_line(&self, value: &impl Serialize) {
        self.line(serde_json::to_string(value).unwrap_or_default());
    }

    /// What goes on: a line on stderr.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            let _ = writeln!(anstream::stderr(), "{}", text.as_ref());
        }
    }

    /// Something that should be looked at.
    pub fn warn(&self, text: impl AsRef<str>) {
        let _ = writeln!(anstream::stderr(), "{} {}", "warning:".yellow().bold(), text.as_ref());
    }

    /// Text as it is, on stderr (diagnostics).
    pub fn text(&self, text: impl AsRef<str>) {
        let _ = writeln!(anstream::stderr(), "{}", text.as_ref().trim_end());
    }

    /// A moving line for what takes long.
    pub fn progress(&self) -> Progress {
        Progress::new(self.animated, self.quiet)
    }

    /// A failure: evidence, error, causes, hints.
    pub fn failure(&self, failure: &Failure) {
        let mut err = anstream::stderr().lock();
        if let Some(evidence) = &failure.evidence {
            let _ = writeln!(err, "{}", evidence.trim_end());
        }
        let mut last = failure.error.to_string();
        let _ = writeln!(err, "{} {last}", "error:".red().bold());
        for cause in failure.error.chain().skip(1) {
            let text = cause.to_string();
            // A wrapper that says its source's words again adds nothing.
            if text != last {
                let _ = writeln!(err, "{} {text}", "caused by:".red());
            }
            last = text;
        }
        if !failure.hints.is_empty() && !self.quiet {
            let _ = writeln!(err);
            for hint in &failure.hints {
                let _ = writeln!(err, "{} {hint}", "hint:".cyan().bold());
            }
        }
    }
}
