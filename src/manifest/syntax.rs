//! How the texts in a manifest read: import paths, versions, URLs. By langgraph-cli 0.4.40.

use crate::manifest::model::{GraphTarget, is_javascript};

/// Whether a Git URL over HTTP in `text` carries a user or password.
pub(super) fn has_credentials(text: &str) -> bool {
    let lower = text.to_lowercase();
    let authority_has_user = |rest: &str| {
        let end =
            rest.find(|character: char| character == '/' || character.is_whitespace() || "\"'".contains(character));
        rest[..end.unwrap_or(rest.len())].contains('@')
    };
    ["git+https://", "git+http://"]
        .iter()
        .any(|scheme| lower.match_indices(scheme).any(|(at, _)| authority_has_user(&lower[at + scheme.len()..])))
        || lower.match_indices("git").any(|(at, _)| {
            // `git = "https://user@host/…"`, as pyproject.toml writes it
            let word_before = lower[..at].chars().next_back().is_some_and(|one| one.is_alphanumeric() || one == '_');
            let rest = lower[at + 3..].trim_start();
            let rest = rest.strip_prefix('=').map(str::trim_start).and_then(|rest| rest.strip_prefix(['"', '\'']));
            let rest = rest.and_then(|rest| rest.strip_prefix("https://").or_else(|| rest.strip_prefix("http://")));
            !word_before && rest.is_some_and(authority_has_user)
        })
}

/// Splits `FILE:ATTRIBUTE` at its first colon. What has a slash (or, as a convenience, the extension
/// of a source file) is a file; backslashes become slashes.
pub(super) fn parse_target(text: &str) -> Option<GraphTarget> {
    let (place, attribute) = text.split_once(':')?;
    if place.is_empty() || attribute.is_empty() {
        return None;
    }
    let attribute = attribute.to_owned();
    let is_source = is_javascript(place) || place.strip_suffix(".py").is_some();
    Some(if is_source || place.contains(['/', '\\']) {
        GraphTarget::File { path: place.replace('\\', "/"), attribute }
    } else {
        GraphTarget::Module { module: place.to_owned(), attribute }
    })
}

/// `0.8`, `0.8.1rc1`, `~=0.8`, `>~=0.15`; langgraph-cli's `_API_VERSION_PATTERN`.
pub(super) fn is_api_version(text: &str) -> bool {
    let text = text.strip_prefix(">~=").or_else(|| text.strip_prefix("~=")).map_or(text, str::trim);
    let core = text.split('-').next().unwrap_or_default();
    let mut rest = core;
    let mut numbers = 0;
    while numbers < 3 {
        let digits = rest.len() - rest.trim_start_matches(|one: char| one.is_ascii_digit()).len();
        if digits == 0 {
            return false;
        }
        numbers += 1;
        rest = &rest[digits..];
        match rest.strip_prefix('.') {
            Some(after) if after.starts_with(|one: char| one.is_ascii_digit()) && numbers < 3 => rest = after,
            _ => break,
        }
    }
    let suffix = rest.strip_prefix('.').unwrap_or(rest);
    rest.is_empty()
        || (suffix.starts_with(|one: char| one.is_ascii_alphabetic())
            && suffix.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_files_or_modules() {
        let file =
            |path: &str, attribute: &str| Some(GraphTarget::File { path: path.into(), attribute: attribute.into() });
        assert_eq!(parse_target("./a/b.py:graph"), file("./a/b.py", "graph"));
        assert_eq!(parse_target(".\\a\\b.py:graph"), file("./a/b.py", "graph"));
        assert_eq!(parse_target("agent.py:graph"), file("agent.py", "graph"));
        let module = GraphTarget::Module { module: "pkg.mod".into(), attribute: "attr".into() };
        assert_eq!(parse_target("pkg.mod:attr"), Some(module));
        for text in ["", ":", "x", "x:", ":x"] {
            assert_eq!(parse_target(text), None, "{text}");
        }
    }

    #[test]
    fn api_versions() {
        for text in ["0.8", "1", "0.8.1rc1", "0.8.1.rc1", "~=0.15", ">~= 0.15", "0.8-dev", "0.2.dev"] {
            assert!(is_api_version(text), "{text}");
        }
        for text in ["", ">=0.8", "v1", "0.8.1.2", "0.", "latest", "0.8 rc"] {
            assert!(!is_api_version(text), "{text}");
        }
    }

    #[test]
    fn credentials_in_git_urls() {
        for text in ["git+https://token@github.com/a/b.git", "x @ GIT+HTTPS://u:p@h/x", "a\ngit = \"https://u@h/x\""] {
            assert!(has_credentials(text), "{text}");
        }
        for text in
            ["git+https://github.com/a/b.git@main", "git+ssh://git@github.com/a/b.git", "digit = \"https://u@h/x\""]
        {
            assert!(!has_credentials(text), "{text}");
        }
    }
}
