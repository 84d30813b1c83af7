//! GitHub Actions: annotations at file, line and column, masks, outputs and a summary. On stderr, where the
//! runner reads its commands as well: stdout is the command's own.

use crate::base::env;
use crate::manifest::{Diagnostic, Severity};
use rustix::fs::FileType;
use serde_json::Value;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Shorter values are no secrets worth the name: to mask them would blot out half the log.
const SHORTEST_MASKED: usize = 6;
/// What of a result becomes an output.
const OUTPUTS: [&str; 7] = ["agent", "version", "url", "rollout", "image", "outcome", "exit"];

/// A step of GitHub Actions. Who has none says nothing to it.
pub struct Github {
    workspace: Option<PathBuf>,
    output: Option<PathBuf>,
    summary: Option<PathBuf>,
}

#[expect(clippy::unused_self, reason = "who is no step says nothing")]
impl Github {
    /// Where this process is one's step.
    pub fn here() -> Option<Self> {
        let path = |name| env::var(name).map(PathBuf::from);
        (env::var(env::GITHUB_ACTIONS)? == "true").then(|| Self {
            workspace: path(env::GITHUB_WORKSPACE),
            output: path(env::GITHUB_OUTPUT),
            summary: path(env::GITHUB_STEP_SUMMARY),
        })
    }

    /// A fault of the manifest, at its place.
    pub fn fault(&self, fault: &Diagnostic) {
        let level = if fault.severity == Severity::Error { "error" } else { "warning" };
        let file = self.relative(Path::new(&fault.file));
        let end = fault.column + fault.length.saturating_sub(1);
        let text =
            fault.fix.as_ref().map_or_else(|| fault.message.clone(), |fix| format!("{}\nhelp: {fix}", fault.message));
        say(&format!(
            "::{level} file={},line={},col={},endColumn={end},title={}::{}",
            property(&file),
            fault.line,
            fault.column,
            property(fault.code),
            message(&text)
        ));
    }

    /// What failed, where it is no place in a file.
    pub fn error(&self, command: &str, text: &str) {
        say(&format!("::error title={}::{}", property(&format!("rapidclaw {command}")), message(text)));
    }

    /// From now on the runner blots this value out of its log, line by line. Where somebody else reads stderr the
    /// command would only tell them the value.
    pub fn mask(&self, value: &str) {
        if !is_read_by_github() {
            return;
        }
        for line in value.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_MASKED) {
            say(&format!("::add-mask::{}", message(line)));
        }
    }

    /// What came of a command, for the steps behind it and for people.
    pub fn result(&self, command: &str, result: &Value) {
        let text = |name: &str| match &result[name] {
            Value::Null => None,
            Value::String(text) => Some(text.lines().collect::<Vec<_>>().join(" ")),
            other => Some(other.to_string()),
        };
        let outputs: Vec<(&str, String)> = OUTPUTS.iter().filter_map(|name| Some((*name, text(name)?))).collect();
        append(
            self.output.as_deref(),
            &outputs.iter().fold(String::new(), |mut lines, (name, value)| {
                let _ = writeln!(lines, "{name}={value}");
                lines
            }),
        );
        let mut table = format!("### rapidclaw {command}\n\n| | |\n| --- | --- |\n");
        let wanted = ["agent", "version", "outcome", "url", "seconds", "exit", "message"];
        for (name, value) in wanted.iter().filter_map(|name| Some((*name, text(name)?))) {
            let shown = if name == "version" { format!("v{value}") } else { value.replace('|', "\\|") };
            let _ = writeln!(table, "| {name} | {shown} |");
        }
        append(self.summary.as_deref(), &format!("{table}\n"));
    }

    /// As the repository names it: that is where annotations are shown.
    fn relative(&self, path: &Path) -> String {
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let within = self.workspace.as_ref().and_then(|workspace| whole.strip_prefix(workspace).ok());
        within.unwrap_or(path).display().to_string()
    }
}

/// Whether what is said on stderr goes to GitHub's runner: it reads a pipe. A file that stderr goes to is kept, a
/// terminal is read by people, and others that take its workflows (act, Gitea, Forgejo) are known by variables of their own.
fn is_read_by_github() -> bool {
    let is_other = env::OTHER_RUNNERS.iter().any(|name| env::var(name).is_some());
    let is_pipe = rustix::fs::fstat(std::io::stderr())
        .is_ok_and(|stat| matches!(FileType::from_raw_mode(stat.st_mode), FileType::Fifo | FileType::Socket));
    is_pipe && !is_other
}

fn say(command: &str) {
    super::terminal::on_stderr(command);
}

fn append(path: Option<&Path>, text: &str) {
    let Some(path) = path else { return };
    if let Ok(mut file) = File::options().create(true).append(true).open(path) {
        let _ = file.write_all(text.as_bytes());
    }
}

/// <https://github.com/actions/toolkit/blob/main/packages/core/src/command.ts>
fn message(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    message(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_command_is_escaped() {
        assert_eq!(message("50%\nnext"), "50%25%0Anext");
        assert_eq!(property("a:b,c\r"), "a%3Ab%2Cc%0D");
    }

    #[test]
    fn a_file_is_named_as_the_repository_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let github = Github { workspace: Some(folder.path().to_owned()), output: None, summary: None };
        assert_eq!(github.relative(&folder.path().join("sub/langgraph.json")), "sub/langgraph.json");
        assert_eq!(github.relative(Path::new("/elsewhere/x")), "/elsewhere/x");
    }
}
