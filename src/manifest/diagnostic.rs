//! Faults of a manifest with their positions, and how they read on a terminal (without colour).

use serde::Serialize;
use std::fmt;
use std::ops::Range;

/// How bad a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing can be deployed with it.
    Error,
    /// It works, and probably not as meant.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One fault: what is wrong, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Stable name of the kind of fault, in kebab-case.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// The file as the user named it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Length in characters, on that line, at least 1.
    pub length: usize,
    /// What to write instead.
    pub fix: Option<String>,
    /// The line at fault, with what may be secret starred out.
    #[serde(skip)]
    pub snippet: Option<String>,
}

impl Diagnostic {
    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    /// The fault as it is shown: head, place, line with carets, help. No newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]: {}", self.severity.as_str(), self.code, self.message)?;
        write!(f, "\n --> {}:{}:{}", self.file, self.line, self.column)?;
        if let Some(snippet) = &self.snippet {
            let gutter = self.line.to_string();
            let blank = " ".repeat(gutter.len());
            let (shown, before) = window(snippet, self.column - 1);
            let pad: String =
                shown.chars().take(before).map(|character| if character == '\t' { '\t' } else { ' ' }).collect();
            let room = shown.chars().count().saturating_sub(before).max(1);
            let carets = "^".repeat(self.length.clamp(1, room));
            write!(f, "\n{blank} |\n{gutter} | {shown}\n{blank} | {pad}{carets}")?;
        }
        if let Some(fix) = &self.fix {
            write!(f, "\nhelp: {fix}")?;
        }
        Ok(())
    }
}

/// The part of a long line around `column` (from 0), and where the column lies in it.
fn window(line: &str, column: usize) -> (String, usize) {
    const WIDTH: usize = 160;
    const LEAD: usize = 60;
    if line.chars().count() <= WIDTH {
        return (line.to_owned(), column);
    }
    let start = column.saturating_sub(LEAD);
    (line.chars().skip(start).take(WIDTH).collect(), column - start)
}

/// All faults, one after the other with an empty line between.
pub fn render(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n")
}

/// A place in the text, in bytes.
pub type Span = Range<usize>;

/// The text of a manifest: knows its lines, and what in it must not be shown.
#[derive(Debug, Clone)]
pub struct Source {
    file: String,
    text: String,
    line_starts: Vec<usize>,
    secret: Vec<Span>,
}

impl Source {
    /// Takes the text of `file`.
    pub fn new(file: &str, text: &str) -> Self {
        let line_starts =
            std::iter::once(0).chain(text.match_indices('\n').map(|(index, _)| index + 1)).collect::<Vec<_>>();
        Self { file: file.to_owned(), text: text.to_owned(), line_starts, secret: Vec::new() }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The file's name.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Stars this place out wherever its line is shown.
    pub(crate) fn hide(&mut self, span: Span) {
        self.secret.push(span);
    }

    /// A fault at `span`.
    pub fn diagnostic(
        &self,
        severity: Severity,
        code: &'static str,
        span: &Span,
        message: String,
        fix: Option<String>,
    ) -> Diagnostic {
        let start = self.floor(span.start);
        let index = self.line_starts.partition_point(|line| *line <= start) - 1;
        let line_start = self.line_starts[index];
        let line_end = self.line_end(index);
        let end = self.floor(span.end).clamp(start, line_end.max(start));
        Diagnostic {
            severity,
            code,
            message,
            file: self.file.clone(),
            line: index + 1,
            column: self.text[line_start..start].chars().count() + 1,
            length: self.text[start..end].chars().count().max(1),
            fix,
            snippet: Some(self.shown(line_start, line_end)),
        }
    }

    fn floor(&self, mut at: usize) -> usize {
        at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }

    fn line_end(&self, index: usize) -> usize {
        let end = self.line_starts.get(index + 1).map_or(self.text.len(), |next| next - 1);
        let line = &self.text[self.line_starts[index]..end];
        self.line_starts[index] + line.trim_end_matches('\r').len()
    }

    fn shown(&self, start: usize, end: usize) -> String {
        self.text[start..end]
            .char_indices()
            .map(|(offset, character)| {
                let at = start + offset;
                if self.secret.iter().any(|span| span.contains(&at)) { '*' } else { character }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_shows_its_line_and_points_at_the_value() {
        let source = Source::new("langgraph.json", "{\n  \"naïve\": 12,\n}");
        let at = source.text().find("12").unwrap();
        let fault = source.diagnostic(Severity::Error, "some-code", &(at..at + 2), "no".into(), Some("yes".into()));
        assert_eq!((fault.line, fault.column, fault.length), (2, 12, 2));
        assert_eq!(
            fault.to_string(),
            "error[some-code]: no\n --> langgraph.json:2:12\n  |\n2 |   \"naïve\": 12,\n  |            ^^\nhelp: yes"
        );
    }

    #[test]
    fn hidden_places_are_starred_out_and_long_lines_are_cut() {
        let text = format!("{}\"sk-1\": 5", " ".repeat(300));
        let mut source = Source::new("f", &text);
        source.hide(301..305);
        let fault = source.diagnostic(Severity::Warning, "c", &(308..309), "m".into(), None);
        let shown = fault.to_string();
        assert!(shown.contains("\"****\": 5") && !shown.contains("sk-1"), "{shown}");
        assert!(shown.lines().all(|line| line.len() < 180));
    }
}
