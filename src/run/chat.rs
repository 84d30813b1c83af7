//! What `/v1/chat` makes of a graph's input schema (DESIGN.md 10).

use serde_json::{Map, Value, json};
use uuid::Uuid;

/// Why a graph cannot be talked to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChatInputError {
    /// The graph's input has no `messages`.
    #[error("the graph's input has no `messages`, but {}; send it as `input`", names(.0))]
    NoMessages(Vec<String>),
    /// Which graph is meant is not clear.
    #[error("the agent has several graphs: {}; name one in `graph`", names(.0))]
    WhichGraph(Vec<String>),
    /// There is no such graph.
    #[error("there is no graph {asked:?}, but {}", names(.known))]
    NoSuchGraph {
        /// What the body named.
        asked: String,
        /// What there is.
        known: Vec<String>,
    },
}

impl ChatInputError {
    /// What the graph's input holds, where it takes no messages.
    pub fn keys(&self) -> &[String] {
        match self {
            Self::NoMessages(keys) => keys,
            Self::WhichGraph(_) | Self::NoSuchGraph { .. } => &[],
        }
    }
}

fn names(keys: &[String]) -> String {
    if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") }
}

/// The graph of a turn: the only one, else the one that bears the agent's name, else the one the body names.
pub fn choose_graph<'a>(graphs: &'a [String], agent: &str, asked: Option<&str>) -> Result<&'a str, ChatInputError> {
    if let Some(asked) = asked {
        let found = graphs.iter().find(|graph| graph.as_str() == asked);
        return found
            .map(String::as_str)
            .ok_or_else(|| ChatInputError::NoSuchGraph { asked: asked.to_owned(), known: graphs.to_vec() });
    }
    match graphs {
        [only] => Ok(only),
        _ => graphs
            .iter()
            .find(|graph| graph.as_str() == agent)
            .map(String::as_str)
            .ok_or_else(|| ChatInputError::WhichGraph(graphs.to_vec())),
    }
}

/// How a graph's input is filled, worked out once a release from its input schema.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatShape {
    /// What a new thread's input gets beside `messages`.
    first: Map<String, Value>,
}

impl ChatShape {
    /// Reads the graph's input JSON Schema. One that is not known is tried with messages.
    pub fn of(schema: &Value, tokens_budget: Option<u64>) -> Result<Self, ChatInputError> {
        let empty = Map::new();
        let schema = resolve(schema, schema);
        if schema.is_null() {
            return Ok(Self { first: Map::new() });
        }
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        if !properties.contains_key("messages") {
            return Err(ChatInputError::NoMessages(properties.keys().cloned().collect()));
        }
        let first = properties
            .iter()
            .filter(|(name, _)| name.as_str() != "messages")
            .filter_map(|(name, property)| {
                let value = match name.as_str() {
                    "tenant_id" => json!("default"),
                    "status" => json!("running"),
                    "tokens_budget" => json!(tokens_budget.unwrap_or(0)),
                    _ => zero(resolve(schema, property))?,
                };
                Some((name.clone(), value))
            })
            .collect();
        Ok(Self { first })
    }

    /// What the input of a new thread has beside the message.
    pub fn first(&self) -> &Map<String, Value> {
        &self.first
    }
}

/// A message as a graph's input. Its id derives from the run, so that a run that is executed again says
/// nothing twice.
pub fn message_input(run: Uuid, message: &str) -> Value {
    let id = Uuid::new_v5(&run, b"human");
    json!({ "messages": [{ "role": "user", "content": message, "id": id }] })
}

/// Whether a caller's JSON is nested at most `most` deep and holds no NUL character, which Postgres stores in
/// no text. Without recursion.
pub fn is_storable(value: &Value, most: usize) -> bool {
    let mut waiting = vec![(value, 1)];
    while let Some((value, depth)) = waiting.pop() {
        if depth > most {
            return false;
        }
        match value {
            Value::String(text) if text.contains('\0') => return false,
            Value::Array(items) => waiting.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(fields) if fields.keys().any(|key| key.contains('\0')) => return false,
            Value::Object(fields) => waiting.extend(fields.values().map(|item| (item, depth + 1))),
            _ => {}
        }
    }
    true
}

/// Follows one `$ref` into `$defs`, as pydantic writes a root or a nested model.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|reference| reference.strip_prefix('#'))
        .and_then(|pointer| root.pointer(pointer))
        .unwrap_or(schema)
}

/// The zero value of a plain type; nothing for what has a default or is not plain.
fn zero(property: &Value) -> Option<Value> {
    if property.get("default").is_some() {
        return None;
    }
    match property.get("type").and_then(Value::as_str)? {
        "string" if property.get("enum").is_none() => Some(json!("")),
        "integer" | "number" => Some(json!(0)),
        "boolean" => Some(json!(false)),
        "array" => Some(json!([])),
        "object" if property.get("properties").is_none() => Some(json!({})),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Value {
        json!({ "type": "object", "properties": {
            "messages": {"type": "array"}, "tenant_id": {"type": "string"}, "status": {"type": "string"},
            "tokens_budget": {"type": "integer"}, "count": {"type": "integer"}, "tags": {"type": "array"},
            "mode": {"type": "string", "default": "fast"}, "nested": {"$ref": "#/$defs/Nested"}
        }, "$defs": {"Nested": {"type": "object", "properties": {"a": {"type": "string"}}}} })
    }

    #[test]
    fn a_new_thread_gets_zero_values_and_a_known_one_only_the_message() {
        let shape = ChatShape::of(&schema(), Some(9)).unwrap();
        let first = shape.first();
        assert_eq!(first["tenant_id"], "default");
        assert_eq!(first["status"], "running");
        assert_eq!(first["tokens_budget"], 9);
        assert_eq!(first["count"], 0);
        assert_eq!(first["tags"], json!([]));
        assert!(first.get("mode").is_none() && first.get("nested").is_none() && first.get("messages").is_none());
    }

    #[test]
    fn a_message_has_the_same_id_whenever_its_run_is_executed() {
        let run = Uuid::from_u128(7);
        assert_eq!(message_input(run, "hi"), message_input(run, "hi"));
        assert_ne!(message_input(run, "hi"), message_input(Uuid::from_u128(8), "hi"));
    }

    #[test]
    fn a_graph_whose_schema_is_not_known_is_tried_with_messages() {
        assert!(ChatShape::of(&Value::Null, None).unwrap().first().is_empty());
    }

    #[test]
    fn what_is_nested_too_deep_or_holds_a_nul_is_not_stored() {
        let nested =
            |depth| (0..depth).fold(json!(1), |inner, n| if n % 2 == 0 { json!([inner]) } else { json!({"a": inner}) });
        assert!(is_storable(&nested(99), 100) && !is_storable(&nested(100), 100));
        assert!(!is_storable(&json!({"a": ["b\0"]}), 100) && !is_storable(&json!([{"a\0": 1}]), 100));
    }

    #[test]
    fn a_graph_without_messages_names_its_keys() {
        let error = ChatShape::of(&json!({"properties": {"query": {}, "limit": {}}}), None).unwrap_err();
        assert_eq!(error.to_string(), "the graph's input has no `messages`, but query, limit; send it as `input`");
    }

    #[test]
    fn the_graph_is_the_only_one_or_the_agents_or_the_one_asked_for() {
        let one = ["a".to_owned()];
        let two = ["a".to_owned(), "b".to_owned()];
        assert_eq!(choose_graph(&one, "x", None), Ok("a"));
        assert_eq!(choose_graph(&two, "b", None), Ok("b"));
        assert_eq!(choose_graph(&two, "x", Some("a")), Ok("a"));
        assert!(matches!(choose_graph(&two, "x", None), Err(ChatInputError::WhichGraph(_))));
        assert!(matches!(choose_graph(&one, "x", Some("z")), Err(ChatInputError::NoSuchGraph { .. })));
    }
}
