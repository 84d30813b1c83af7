//! Reads typed values out of a tree of places and collects every fault on the way.

use crate::manifest::diagnostic::{Diagnostic, Severity, Source, Span};
use crate::manifest::json::{Kind, Member, Node};
use crate::manifest::units;
use std::time::Duration;

/// Collects faults.
pub(crate) struct Faults<'a> {
    pub source: &'a Source,
    pub list: Vec<Diagnostic>,
}

impl Faults<'_> {
    pub(crate) fn error(&mut self, code: &'static str, span: &Span, message: impl Into<String>, fix: Option<String>) {
        self.list.push(self.source.diagnostic(Severity::Error, code, span, message.into(), fix));
    }

    pub(crate) fn warn(&mut self, code: &'static str, span: &Span, message: impl Into<String>, fix: Option<String>) {
        self.list.push(self.source.diagnostic(Severity::Warning, code, span, message.into(), fix));
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.list.iter().any(Diagnostic::is_error)
    }

    /// Faults for the members that are not in `known`. One of `section` was meant for the `rapidclaw` section.
    pub(crate) fn unknown(
        &mut self,
        severity: Severity,
        path: &str,
        members: &[Member],
        known: &[&str],
        section: &[&str],
    ) {
        for member in members.iter().filter(|member| !known.contains(&member.name.as_str())) {
            let place = if path.is_empty() { String::new() } else { format!(" in `{path}`") };
            let fix = match nearest(&member.name, known) {
                _ if section.contains(&member.name.as_str()) => {
                    Some(format!("did you mean `rapidclaw.{}`?", member.name))
                }
                near => near.map(|name| format!("did you mean `{name}`?")),
            };
            let message = format!("unknown key `{}`{place}", member.name);
            self.list.push(self.source.diagnostic(severity, "unknown-key", &member.name_span, message, fix));
        }
    }
}

/// The name of `known` that is most like `given`, where one is like enough.
pub(crate) fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let given = given.to_lowercase().replace('-', "_");
    known
        .iter()
        .map(|name| (strsim::jaro_winkler(&given, name), strsim::damerau_levenshtein(&given, name), *name))
        .filter(|(likeness, distance, name)| *distance <= 2.min(name.len() / 2) || *likeness > 0.85)
        .min_by(|one, other| one.1.cmp(&other.1).then(other.0.total_cmp(&one.0)))
        .map(|(_, _, name)| name)
}

/// The members of one object of the `rapidclaw` section. `null` counts as not given.
pub(crate) struct Fields<'n> {
    path: String,
    node: Option<&'n Node>,
}

impl<'n> Fields<'n> {
    /// The object at `path`; anything else than an object is a fault. Unknown keys are faults too.
    pub(crate) fn of(faults: &mut Faults<'_>, path: &str, node: Option<&'n Node>, known: &[&str]) -> Self {
        let node = node.filter(|node| !node.is_null());
        if let Some(node) = node {
            if let Some(members) = node.as_object() {
                faults.unknown(Severity::Error, path, members, known, &[]);
            } else {
                mistyped(faults, path, node, "an object");
                return Self { path: path.to_owned(), node: None };
            }
        }
        Self { path: path.to_owned(), node }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'n Node> {
        self.node?.get(name).filter(|node| !node.is_null())
    }

    /// The dotted name of a key, as messages name it.
    pub(crate) fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    /// A fault at the value of `key`.
    pub(crate) fn invalid(&self, faults: &mut Faults<'_>, key: &str, message: &str, fix: Option<String>) {
        if let Some(node) = self.get(key) {
            faults.error("invalid-value", &node.span, format!("`{}` {message}", self.name(key)), fix);
        }
    }

    pub(crate) fn bool(&self, faults: &mut Faults<'_>, key: &str) -> Option<bool> {
        let node = self.get(key)?;
        match node.kind {
            Kind::Bool(value) => Some(value),
            _ => wrong_type(faults, &self.name(key), node, "true or false"),
        }
    }

    pub(crate) fn string(&self, faults: &mut Faults<'_>, key: &str) -> Option<&'n str> {
        let node = self.get(key)?;
        match &node.kind {
            Kind::String(text) => Some(text),
            _ => wrong_type(faults, &self.name(key), node, "a string"),
        }
    }

    /// A whole number within `range`.
    pub(crate) fn integer(
        &self,
        faults: &mut Faults<'_>,
        key: &str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        let node = self.get(key)?;
        let Kind::Number(number) = &node.kind else {
            return wrong_type(faults, &self.name(key), node, "a whole number");
        };
        match number.as_u64() {
            Some(value) if range.contains(&value) => Some(value),
            _ => {
                let bounds = match (*range.start(), *range.end()) {
                    (least, u64::MAX) => format!("must be a whole number, {least} or more"),
                    (least, most) => format!("must be a whole number from {least} to {most}"),
                };
                self.invalid(faults, key, &bounds, None);
                None
            }
        }
    }

    /// [`Fields::integer`] for counts.
    pub(crate) fn count(&self, faults: &mut Faults<'_>, key: &str, least: u32) -> Option<u32> {
        let most = u64::from(i32::MAX.unsigned_abs());
        self.integer(faults, key, u64::from(least)..=most).and_then(|value| u32::try_from(value).ok())
    }

    /// A number above zero.
    pub(crate) fn positive(&self, faults: &mut Faults<'_>, key: &str) -> Option<f64> {
        let node = self.get(key)?;
        let Kind::Number(number) = &node.kind else {
            return wrong_type(faults, &self.name(key), node, "a number");
        };
        let value = number.as_f64().filter(|value| value.is_finite() && *value > 0.0);
        if value.is_none() {
            self.invalid(faults, key, "must be more than 0", None);
        }
        value
    }

    /// A duration, or `0` for none.
    pub(crate) fn duration_or_zero(&self, faults: &mut Faults<'_>, key: &str) -> Option<Duration> {
        match &self.get(key)?.kind {
            Kind::String(text) if units::is_zero(text) => Some(Duration::ZERO),
            Kind::Number(number) if number.as_f64() == Some(0.0) => Some(Duration::ZERO),
            _ => self.duration(faults, key),
        }
    }

    /// `"120s"`, `"1h30m"` or a number of seconds; more than zero.
    pub(crate) fn duration(&self, faults: &mut Faults<'_>, key: &str) -> Option<Duration> {
        let node = self.get(key)?;
        let parsed = match &node.kind {
            Kind::String(text) => units::parse_duration(text),
            Kind::Number(number) => {
                number.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok().map(units::bounded))
            }
            _ => return wrong_type(faults, &self.name(key), node, "a duration such as \"15m\""),
        };
        let parsed = parsed.filter(|value| !value.is_zero());
        if parsed.is_none() {
            let fix = "write a duration such as \"90s\", \"15m\" or \"1h30m\", or a number of seconds".to_owned();
            self.invalid(faults, key, "is not a duration above zero", Some(fix));
        }
        parsed
    }

    /// `"4MiB"` or a number of bytes.
    pub(crate) fn size(&self, faults: &mut Faults<'_>, key: &str) -> Option<u64> {
        let node = self.get(key)?;
        let parsed = match &node.kind {
            Kind::String(text) => units::parse_size(text),
            Kind::Number(number) => number.as_u64(),
            _ => return wrong_type(faults, &self.name(key), node, "a size such as \"512MiB\""),
        };
        let parsed = parsed.filter(|value| *value > 0);
        if parsed.is_none() {
            let fix = "write a size such as \"512MiB\" or \"1GiB\", or a number of bytes".to_owned();
            self.invalid(faults, key, "is not a size above zero", Some(fix));
        }
        parsed
    }

    /// One of the words of `choices`.
    pub(crate) fn choice<T: Copy>(&self, faults: &mut Faults<'_>, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let node = self.get(key)?;
        let text = self.string(faults, key)?;
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(*value);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let listed = names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        let fix = nearest(text, &names).map(|name| format!("did you mean \"{name}\"?"));
        let message = format!("`{}` must be one of {listed}", self.name(key));
        faults.error("invalid-value", &node.span, message, fix);
        None
    }

    /// An object that is kept as it is.
    pub(crate) fn map(&self, faults: &mut Faults<'_>, key: &str) -> serde_json::Map<String, serde_json::Value> {
        let Some(node) = self.get(key) else { return serde_json::Map::new() };
        match node.to_value() {
            serde_json::Value::Object(map) => map,
            _ => wrong_type(faults, &self.name(key), node, "an object").unwrap_or_default(),
        }
    }
}

/// The fault "`name` must be …, it is …".
pub(crate) fn mistyped(faults: &mut Faults<'_>, name: &str, node: &Node, wanted: &str) {
    faults.error("wrong-type", &node.span, format!("`{name}` must be {wanted}, it is {}", node.kind_name()), None);
}

/// [`mistyped`] as a value that is not there.
pub(crate) fn wrong_type<T>(faults: &mut Faults<'_>, name: &str, node: &Node, wanted: &str) -> Option<T> {
    mistyped(faults, name, node, wanted);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_pen_find_their_key() {
        let known = ["min_replicas", "max_replicas", "security", "limits", "name"];
        assert_eq!(nearest("min_replica", &known), Some("min_replicas"));
        assert_eq!(nearest("maxReplicas", &known), Some("max_replicas"));
        assert_eq!(nearest("max-replicas", &known), Some("max_replicas"));
        assert_eq!(nearest("secruity", &known), Some("security"));
        assert_eq!(nearest("zebra", &known), None);
    }
}
