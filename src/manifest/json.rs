//! Plain JSON with a place for every value: what Python's `json` reads, this reads; comments,
//! trailing commas and the like are errors with their position.

use crate::manifest::diagnostic::{Diagnostic, Severity, Source, Span};
use jsonc_parser::ast;
use jsonc_parser::common::Ranged as _;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde_json::{Map, Number, Value};

/// How deep arrays and objects may nest.
pub(crate) const MAX_DEPTH: usize = 64;

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub span: Span,
    pub kind: Kind,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Node>),
    /// Names are unique: of duplicates the last stays, as in Python.
    Object(Vec<Member>),
}

#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub name: String,
    pub name_span: Span,
    pub value: Node,
}

impl Node {
    pub(crate) fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Null => "null",
            Kind::Bool(_) => "a boolean",
            Kind::Number(_) => "a number",
            Kind::String(_) => "a string",
            Kind::Array(_) => "an array",
            Kind::Object(_) => "an object",
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::String(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_object(&self) -> Option<&[Member]> {
        match &self.kind {
            Kind::Object(members) => Some(members),
            _ => None,
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        self.as_object()?.iter().find(|member| member.name == name).map(|member| &member.value)
    }

    /// What Python takes for false: `null`, `false`, 0, "", [] and {}.
    pub(crate) fn is_falsy(&self) -> bool {
        match &self.kind {
            Kind::Null => true,
            Kind::Bool(value) => !value,
            Kind::Number(number) => number.as_f64() == Some(0.0),
            Kind::String(text) => text.is_empty(),
            Kind::Array(items) => items.is_empty(),
            Kind::Object(members) => members.is_empty(),
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.kind, Kind::Null)
    }

    pub(crate) fn to_value(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Number(number) => Value::Number(number.clone()),
            Kind::String(text) => Value::String(text.clone()),
            Kind::Array(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Kind::Object(members) => Value::Object(
                members.iter().map(|member| (member.name.clone(), member.value.to_value())).collect::<Map<_, _>>(),
            ),
        }
    }
}

/// Parses `source`; the faults that do not stop (duplicates, NaN) are added to `faults`.
pub(crate) fn parse(source: &mut Source, faults: &mut Vec<Diagnostic>) -> Option<Node> {
    let text = source.text().to_owned();
    if text.trim().is_empty() {
        faults.push(source.diagnostic(Severity::Error, "syntax", &(0..0), "the file is empty".into(), None));
        return None;
    }
    // NaN and Infinity pass Python's json, so that they are warnings here.
    let options = ParseOptions {
        allow_comments: false,
        allow_loose_object_property_names: false,
        allow_trailing_commas: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: true,
        allow_extended_string_escapes: false,
    };
    match parse_to_ast(&text, &CollectOptions::default(), &options) {
        Ok(parsed) => {
            let mut converter = Converter { source, text: &text, faults, failed: false };
            let node = converter.node(parsed.value.as_ref()?, 1);
            let failed = converter.failed;
            node.filter(|_| !failed)
        }
        Err(error) => {
            hide_values_near(source, &text, error.range().start);
            let message = error.kind().to_string();
            let message = message[..1].to_lowercase() + &message[1..];
            let span = error.range().start..error.range().end;
            let fix = match message.as_str() {
                "comments are not allowed" => Some("langgraph.json is plain JSON: remove the comment".to_owned()),
                "trailing commas are not allowed" => Some("remove the comma".to_owned()),
                _ => None,
            };
            faults.push(source.diagnostic(Severity::Error, "syntax", &span, message, fix));
            None
        }
    }
}

/// A line that does not parse may hold a value of `env`: its strings after colons are not shown.
fn hide_values_near(source: &mut Source, text: &str, at: usize) {
    let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    if !text.contains("\"env\"") {
        return;
    }
    let start = text[..at].rfind('\n').map_or(0, |index| index + 1);
    let end = text[at..].find('\n').map_or(text.len(), |index| at + index);
    let mut from = start;
    while let Some(colon) = text[from..end].find(':').map(|index| from + index + 1) {
        let value = &text[colon..end];
        let lead = value.len() - value.trim_start().len();
        from = colon;
        if value.trim_start().starts_with('"') {
            let open = colon + lead + 1;
            let close = text[open..end].find('"').map_or(end, |index| open + index);
            source.hide(open..close);
            from = close;
        }
    }
}

struct Converter<'a> {
    source: &'a Source,
    text: &'a str,
    faults: &'a mut Vec<Diagnostic>,
    failed: bool,
}

impl Converter<'_> {
    fn fault(&mut self, severity: Severity, code: &'static str, span: &Span, message: String) {
        self.failed |= severity == Severity::Error;
        self.faults.push(self.source.diagnostic(severity, code, span, message, None));
    }

    fn string(&mut self, literal: &ast::StringLit<'_>) -> String {
        let span = literal.range.start..literal.range.end;
        if let Some(offset) = self.text[span.clone()].find(|character: char| character < ' ') {
            let at = span.start + offset;
            let message = "a control character in a string; write it as an escape".to_owned();
            self.fault(Severity::Error, "syntax", &(at..at + 1), message);
        }
        literal.value.to_string()
    }

    fn node(&mut self, value: &ast::Value<'_>, depth: usize) -> Option<Node> {
        let span = value.range().start..value.range().end;
        if depth > MAX_DEPTH {
            self.fault(Severity::Error, "too-deep", &span, format!("nested deeper than {MAX_DEPTH} levels"));
            return None;
        }
        let kind = match value {
            ast::Value::NullKeyword(_) => Kind::Null,
            ast::Value::BooleanLit(literal) => Kind::Bool(literal.value),
            ast::Value::StringLit(literal) => Kind::String(self.string(literal)),
            ast::Value::NumberLit(literal) => match serde_json::from_str::<Number>(literal.value) {
                Ok(number) => Kind::Number(number),
                Err(_) if literal.value.trim_start_matches('-').starts_with(['N', 'I']) => {
                    let message = format!("{} is not JSON; it is read as null", literal.value);
                    self.fault(Severity::Warning, "non-finite-number", &span, message);
                    Kind::Null
                }
                Err(_) => {
                    self.fault(Severity::Error, "syntax", &span, format!("{} is not a number", literal.value));
                    Kind::Null
                }
            },
            ast::Value::Array(array) => {
                Kind::Array(array.elements.iter().filter_map(|item| self.node(item, depth + 1)).collect())
            }
            ast::Value::Object(object) => {
                let mut members: Vec<Member> = Vec::with_capacity(object.properties.len());
                for property in &object.properties {
                    let name = match &property.name {
                        ast::ObjectPropName::String(literal) => self.string(literal),
                        ast::ObjectPropName::Word(word) => word.value.to_owned(),
                    };
                    let name_span = property.name.range().start..property.name.range().end;
                    let Some(value) = self.node(&property.value, depth + 1) else { continue };
                    if let Some(earlier) = members.iter().position(|member| member.name == name) {
                        let message = format!("`{name}` is given twice; the last one counts");
                        self.fault(Severity::Warning, "duplicate-key", &name_span, message);
                        members.remove(earlier);
                    }
                    members.push(Member { name, name_span, value });
                }
                Kind::Object(members)
            }
        };
        Some(Node { span, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<Node>, Vec<Diagnostic>) {
        let mut faults = Vec::new();
        let node = parse(&mut Source::new("f", text), &mut faults);
        (node, faults)
    }

    #[test]
    fn what_is_not_plain_json_is_refused_with_its_position() {
        for text in [
            "",
            "{",
            "{\"a\":1,}",
            "[1 2]",
            "{'a':1}",
            "[0x1]",
            "[+1]",
            "[01]",
            "[.5]",
            "[1.]",
            "// c\n{}",
            "{} {}",
            "{a:1}",
            "[\"a\nb\"]",
            "[\"\\x41\"]",
            "[1,]",
            "[tru]",
            "]",
            "{\"a\" 1}",
            "\"\\ud800\"",
        ] {
            let (node, faults) = read(text);
            assert!(node.is_none() && faults.iter().any(Diagnostic::is_error), "{text:?} passed");
        }
        let (_, faults) = read("{\n // c\n}");
        assert_eq!((faults[0].line, faults[0].column, faults[0].code), (2, 2, "syntax"));
    }

    #[test]
    fn duplicates_and_nan_are_warnings() {
        let (node, faults) = read("{\"a\": 1, \"b\": NaN, \"a\": -Infinity}");
        assert_eq!(node.unwrap().to_value(), serde_json::json!({"b": null, "a": null}));
        let codes: Vec<_> = faults.iter().map(|fault| (fault.severity, fault.code)).collect();
        assert_eq!(codes.len(), 3);
        assert!(codes.iter().all(|(severity, _)| *severity == Severity::Warning), "{codes:?}");
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(read(&deep(MAX_DEPTH)).0.is_some());
        assert_eq!(read(&deep(MAX_DEPTH + 1)).1[0].code, "too-deep");
        assert!(read(&deep(5000)).0.is_none());
    }

    #[test]
    fn a_broken_line_of_env_is_not_shown() {
        let (_, faults) = read("{\"env\": {\n \"KEY\": \"sk-secret\",}}");
        assert!(!faults[0].to_string().contains("sk-secret"), "{}", faults[0]);
        let (_, faults) = read("{\"env\": {\n \"KEY\": \"sk-secret}}");
        assert!(!faults[0].to_string().contains("sk-secret"), "{}", faults[0]);
    }
}
