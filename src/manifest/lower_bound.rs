//! rapidclaw's own lower bound of LangGraph, in what locks and packages ask for: named before a resolver does.

use super::diagnostic::{Diagnostic, Severity, Source};
use super::requires::{self, Minor};
use super::workspace::{self, normalized_name};
use std::path::Path;
use toml::{Table, Value};

/// The oldest LangGraph that the runner serves.
pub const LOWEST: Minor = (0, 6);
/// The files that lock versions, and how each is renewed.
const LOCKS: [(&str, &str); 2] =
    [("uv.lock", "uv lock --upgrade-package langgraph"), ("poetry.lock", "poetry update langgraph")];

/// Looks into the folder of a dependency, which is called `shown`.
pub(super) fn check(folder: &Path, shown: &str) -> Vec<Diagnostic> {
    let mut faults = Vec::new();
    if let Ok(Some(table)) = workspace::read_pyproject(folder)
        && let Some(asked) = asked(&table).into_iter().find(|asked| admits_older_alone(asked))
    {
        let fix = "ask for a newer one: `langgraph>=1,<2`";
        let message = format!("rapidclaw itself needs LangGraph {} or newer, and this asks for {asked}", lowest());
        faults.extend(fault(folder, shown, "pyproject.toml", "langgraph", message, fix.to_owned()));
    }
    for (file, command) in LOCKS {
        let Ok(text) = std::fs::read_to_string(folder.join(file)) else { continue };
        let Some((version, at)) = locked(&text) else { continue };
        if requires::minor(version).is_some_and(|minor| minor < LOWEST) {
            let message = format!("rapidclaw itself needs LangGraph {} or newer, and this locks {version}", lowest());
            let fix = Some(format!("`{command}`"));
            let source = Source::new(&place(shown, file), &text);
            let span = at..at + version.len();
            faults.push(source.diagnostic(Severity::Error, "langgraph-too-old", &span, message, fix));
        }
    }
    faults
}

fn fault(folder: &Path, shown: &str, file: &str, word: &str, message: String, fix: String) -> Option<Diagnostic> {
    let text = std::fs::read_to_string(folder.join(file)).ok()?;
    // The line that names it and no other package of that beginning.
    let mut at = 0;
    let line = text.split_inclusive('\n').find_map(|line| {
        let begin = at;
        at += line.len();
        let inner = line.find(word)?;
        let after = line[inner + word.len()..].chars().next();
        after
            .is_none_or(|one| !(one.is_alphanumeric() || one == '-' || one == '_' || one == '.'))
            .then_some(begin + inner)
    })?;
    let source = Source::new(&place(shown, file), &text);
    Some(source.diagnostic(Severity::Error, "langgraph-too-old", &(line..line + word.len()), message, Some(fix)))
}

fn place(shown: &str, file: &str) -> String {
    Path::new(shown).join(file).display().to_string().trim_start_matches("./").to_owned()
}

/// `0.6`
pub fn lowest() -> String {
    format!("{}.{}", LOWEST.0, LOWEST.1)
}

/// `langgraph>=0.6`: what every image asks for beside what its project does.
pub fn requirement() -> String {
    format!("langgraph>={}", lowest())
}

/// What a pyproject.toml asks of LangGraph: of the standard's dependencies and of Poetry's.
fn asked(table: &Table) -> Vec<&str> {
    let standard = workspace::project(table).and_then(|project| project.get("dependencies")?.as_array());
    let standard = standard.into_iter().flatten().filter_map(Value::as_str).filter_map(specifier);
    let poetry = workspace::tool(table, &["poetry", "dependencies"]).and_then(|named| named.get("langgraph"));
    let poetry = poetry.and_then(|one| one.as_str().or_else(|| one.get("version")?.as_str()));
    standard.chain(poetry).collect()
}

/// The version that a requirement of LangGraph asks for, `langgraph[x]>=0.2 ; marker`.
pub(super) fn specifier(line: &str) -> Option<&str> {
    let line = line.split([';', '#']).next().unwrap_or_default().trim();
    let end = line.find(|one: char| !(one.is_ascii_alphanumeric() || "._-".contains(one))).unwrap_or(line.len());
    let (name, asked) = line.split_at(end);
    // Extras say nothing of versions; a URL is its own.
    let asked = asked.split_once(']').map_or(asked, |(_, asked)| asked).trim();
    let asked = asked.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')).unwrap_or(asked);
    (normalized_name(name) == "langgraph" && !asked.is_empty() && !asked.starts_with('@')).then_some(asked)
}

/// `<0.6`, `==0.2.*`, `^0.5`: something older is admitted, and nothing from the lowest on. What is not understood, and
/// a version that nobody knows (`==99`), is left to the resolver.
pub(super) fn admits_older_alone(asked: &str) -> bool {
    let newer =
        (LOWEST.1..20).map(|minor| (0, minor)).chain((1..4).flat_map(|major| (0..30).map(move |minor| (major, minor))));
    let mut newer = newer.map(|version| requires::admits(asked, version));
    let mut older = (0..LOWEST.1).map(|minor| requires::admits(asked, (0, minor)));
    newer.all(|admitted| admitted == Some(false)) && older.any(|admitted| admitted == Some(true))
}

/// The version of LangGraph that a lock holds, and where it stands. Locks are large: the text is looked through for
/// the one package, as uv and Poetry write it.
fn locked(text: &str) -> Option<(&str, usize)> {
    let head = "name = \"langgraph\"\n";
    let (before, rest) = text.split_once(head).filter(|(before, _)| before.ends_with("[[package]]\n"))?;
    let version = rest.strip_prefix("version = \"")?.split_once('"')?.0;
    Some((version, before.len() + head.len() + "version = \"".len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(files: &[(&str, &str)]) -> Vec<(String, usize, String)> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let found = check(folder.path(), "./app");
        assert!(found.iter().all(|one| one.code == "langgraph-too-old" && one.message.contains("rapidclaw itself")));
        found.into_iter().map(|one| (one.file, one.line, one.fix.unwrap())).collect()
    }

    #[test]
    fn an_old_langgraph_is_named_where_it_is_asked_for_or_locked() {
        let old = "[project]\nname = 'x'\ndependencies = [\n  'langgraph-sdk>=0.1',\n  'langgraph<0.6',\n]\n";
        let asks = ("app/pyproject.toml".to_owned(), 5, "ask for a newer one: `langgraph>=1,<2`".to_owned());
        assert_eq!(faults(&[("pyproject.toml", old)]), [asks]);
        let poetry = "[tool.poetry.dependencies]\npython = '^3.11'\nlanggraph = '^0.5.1'\n";
        assert_eq!(faults(&[("pyproject.toml", poetry)]).remove(0).1, 3);
        let lock =
            "version = 1\n\n[[package]]\nname = \"langgraph\"\nversion = \"0.5.4\"\nsource = { registry = \"x\" }\n";
        let uv = ("app/uv.lock".to_owned(), 5, "`uv lock --upgrade-package langgraph`".to_owned());
        assert_eq!(faults(&[("uv.lock", lock)]), [uv]);
        assert_eq!(faults(&[("poetry.lock", lock)]).remove(0).2, "`poetry update langgraph`");
        for (asked, older) in
            [("==0.2.74", true), ("<=0.5", true), ("==99.0.0", false), (">1,<0.5", false), ("~=0.5", false)]
        {
            assert_eq!(admits_older_alone(asked), older, "{asked}");
        }
        let new = lock.replace("0.5.4", "0.6.0");
        let fine = "[project]\nname = 'x'\ndependencies = ['langgraph>=0.5', 'langgraph-prebuilt<0.5']\n";
        assert_eq!(faults(&[("uv.lock", &new), ("pyproject.toml", fine)]), []);
    }
}
