//! `FILE:ATTRIBUTE` and `MODULE:ATTRIBUTE`, as `graphs` names what is deployed.

use super::GraphTarget;
use super::langgraph::is_javascript;

/// Splits "FILE:ATTRIBUTE" at its first colon. What has a slash (or, as a convenience, the extension
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
}
