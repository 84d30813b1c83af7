//! Which Pythons a project says it runs on: `requires-python` of its pyproject.toml (PEP 440's specifiers),
//! or Poetry's own form of it (`^3.11`, `~3.11`).

use crate::manifest::workspace::{project, tool};
use toml::{Table, Value};

/// A minor version of Python: `(3, 12)`.
pub type Minor = (u64, u64);

/// The newest patch release that is thought of.
const LAST_PATCH: u64 = 120;
/// Where a version is looked for that would do.
const KNOWN: std::ops::RangeInclusive<u64> = 11..=20;
/// The longer ones first.
const OPERATORS: [&str; 10] = ["===", "==", "!=", "<=", ">=", "~=", "<", ">", "^", "~"];
/// What says which builds of one release are meant (`3.13.0rc1`, `3.14.dev0`).
const SUFFIXES: [&str; 6] = ["a", "b", "rc", "dev", "post", "+"];

/// What a pyproject.toml asks of Python, as it is written.
pub fn python_of(table: &Table) -> Option<&str> {
    let standard = project(table).and_then(|project| project.get("requires-python"));
    let poetry = || tool(table, &["poetry", "dependencies"]).and_then(|named| named.get("python"));
    standard.or_else(poetry).and_then(Value::as_str)
}

/// `3.12`, `3.12.4`
pub fn minor(text: &str) -> Option<Minor> {
    let mut parts = text.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// Whether some release of this minor version is among those asked for; none where the text is not understood.
pub fn admits(asked: &str, minor: Minor) -> Option<bool> {
    let clauses = asked.split(',').map(str::trim).filter(|clause| !clause.is_empty());
    let clauses = clauses.map(Clause::parse).collect::<Option<Vec<_>>>()?;
    let admitted = |patch| clauses.iter().all(|clause| clause.admits([minor.0, minor.1, patch]));
    Some((0..=LAST_PATCH).any(admitted))
}

/// The oldest Python that LangGraph takes and that would do.
pub fn lowest(asked: &str) -> Option<Minor> {
    KNOWN.map(|minor| (3, minor)).find(|minor| admits(asked, *minor) == Some(true))
}

struct Clause {
    operator: &'static str,
    version: Vec<u64>,
    /// `3.12.*`
    any_below: bool,
}

impl Clause {
    fn parse(text: &str) -> Option<Self> {
        let operator = OPERATORS.into_iter().find(|operator| text.starts_with(operator)).unwrap_or("");
        let version = text[operator.len()..].trim();
        let (version, any_below) = version.strip_suffix(".*").map_or((version, version == "*"), |head| (head, true));
        let mut parts = Vec::new();
        for part in version.trim_start_matches('v').split('.').filter(|part| *part != "*") {
            let end = part.find(|one: char| !one.is_ascii_digit()).unwrap_or(part.len());
            if end > 0 {
                parts.push(part[..end].parse().ok()?);
            }
            if end < part.len() {
                if !SUFFIXES.iter().any(|suffix| part[end..].starts_with(suffix)) {
                    return None;
                }
                break;
            }
        }
        (any_below || !parts.is_empty()).then_some(Self { operator, version: parts, any_below })
    }

    fn admits(&self, version: [u64; 3]) -> bool {
        let asked = &self.version;
        let padded: Vec<u64> = asked.iter().copied().chain([0, 0, 0]).take(asked.len().max(3)).collect();
        let order = version.as_slice().cmp(padded.as_slice());
        let begins = |count: usize| asked.iter().take(count).zip(version).all(|(one, other)| *one == other);
        match self.operator {
            "<" => order.is_lt(),
            "<=" => order.is_le(),
            ">" => order.is_gt(),
            ">=" => order.is_ge(),
            "!=" if self.any_below => !begins(asked.len()),
            "!=" => order.is_ne(),
            "~=" => order.is_ge() && begins(asked.len().saturating_sub(1)),
            // The first part that is not zero stays (Poetry's documentation, "Caret requirements").
            "^" => order.is_ge() && begins(asked.iter().take_while(|part| **part == 0).count() + 1),
            "~" => order.is_ge() && begins(asked.len().min(2)),
            _ if self.any_below => begins(asked.len()),
            _ => order.is_eq(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifiers_of_real_projects_are_understood() {
        for (asked, yes, no) in [
            (">=3.11", &[(3, 11), (3, 14)][..], &[(3, 10)][..]),
            (">=3.11,<4.0", &[(3, 11), (3, 13)], &[(3, 10), (4, 0)]),
            (">= 3.12, < 3.14", &[(3, 12), (3, 13)], &[(3, 11), (3, 14)]),
            (">3.10,!=3.12.*", &[(3, 11), (3, 13)], &[(3, 12)]),
            ("~=3.12", &[(3, 12), (3, 13)], &[(3, 11), (4, 0)]),
            ("~=3.12.1", &[(3, 12)], &[(3, 13)]),
            ("==3.12.*", &[(3, 12)], &[(3, 11), (3, 13)]),
            ("==3.12.4", &[(3, 12)], &[(3, 13)]),
            (">=3.12.4", &[(3, 12)], &[(3, 11)]),
            (">=3.13.0rc1,<3.14.dev0", &[(3, 13)], &[(3, 12), (3, 14)]),
            ("^3.11", &[(3, 11), (3, 13)], &[(3, 10), (4, 0)]),
            ("~3.11", &[(3, 11)], &[(3, 12)]),
            ("3.12.*", &[(3, 12)], &[(3, 11)]),
            ("*", &[(3, 11)], &[]),
            ("", &[(3, 11)], &[]),
        ] {
            assert!(yes.iter().all(|minor| admits(asked, *minor) == Some(true)), "{asked}");
            assert!(no.iter().all(|minor| admits(asked, *minor) == Some(false)), "{asked}");
        }
        assert_eq!((lowest(">=3.12,<4"), lowest("<3.11"), lowest("==3.13.*")), (Some((3, 12)), None, Some((3, 13))));
        for text in ["^3.11 || ^3.12", "python", ">=", "3.x", ">=99999999999999999999.1"] {
            assert_eq!(admits(text, (3, 11)), None, "{text}");
        }
        assert_eq!((minor("3.12.4"), minor("3.12"), minor("3"), minor("")), (Some((3, 12)), Some((3, 12)), None, None));
    }

    #[test]
    fn the_standards_form_comes_before_poetrys() {
        let read = |text: &str| python_of(&toml::from_str(text).unwrap()).map(ToOwned::to_owned);
        assert_eq!(read("[tool.poetry.dependencies]\npython = '^3.11'\n").as_deref(), Some("^3.11"));
        let both = "[project]\nrequires-python = '>=3.12'\n[tool.poetry.dependencies]\npython = '^3.11'\n";
        assert_eq!(read(both).as_deref(), Some(">=3.12"));
        assert_eq!(read("[project]\nname = 'x'\n"), None);
    }
}
