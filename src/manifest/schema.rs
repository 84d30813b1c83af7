//! The JSON Schema of a manifest, for editors. It says what a schema can say of the rules of this room;
//! `tests/it/manifest/corpus.rs` holds the two together.

/// The schema (draft 2020-12), as it is printed.
pub const TEXT: &str = include_str!("schema.json");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_knows_the_keys_that_the_reader_knows() {
        let schema: serde_json::Value = serde_json::from_str(TEXT).unwrap();
        let known: Vec<&str> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        for key in crate::manifest::langgraph::KNOWN {
            assert!(known.contains(&key), "{key}");
        }
        // `$schema` is everybody's.
        assert_eq!(known.len(), crate::manifest::langgraph::KNOWN.len() + 1);
    }
}
