//! `/openapi.json`: the table of routes as `OpenAPI` 3.1 (spec.openapis.org/oas/v3.1.1). The registry's `/v2/` is not in
//! it: that is the distribution specification's.

use super::access::Permission;
use super::payload::Content;
use super::problem::{MEDIA_TYPE, Problem};
use super::routes::{self, Entry};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The document; `agents_url` is where agents answer.
pub fn document(agents_url: &str) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let problem = json!({
        "description": "A problem (RFC 9457)",
        "content": { MEDIA_TYPE: { "schema": generator.subschema_for::<Problem>() } },
    });
    let mut paths: Map<String, Value> = Map::new();
    for entry in routes::table() {
        let item = paths.entry(entry.path).or_insert_with(|| {
            if entry.path.starts_with("/agents/") { json!({ "servers": [{ "url": agents_url }] }) } else { json!({}) }
        });
        item[entry.method.as_str().to_ascii_lowercase()] = operation(&entry, &mut generator);
    }
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "rapidclaw",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Each operation names the permission that it needs (x-permission). Roles of tokens: admin has all, \
                deployer has view, deploy and invoke, viewer has view, invoke has invoke.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": { "Problem": problem },
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "A token of the control API" },
                "agentKey": { "type": "apiKey", "in": "header", "name": "x-api-key", "description": "A key of the agent" },
                "agentKeyAsBearer": { "type": "http", "scheme": "bearer", "description": "A key of the agent" },
            },
        },
    })
}

fn operation(entry: &Entry, generator: &mut SchemaGenerator) -> Value {
    let security = match entry.permission {
        Permission::Public => json!([]),
        Permission::AgentKey => json!([{ "agentKey": [] }, { "agentKeyAsBearer": [] }]),
        _ => json!([{ "token": [] }]),
    };
    let (status, success) = match (entry.response)(generator) {
        Some(content) => ("200", json!({ "description": "Done", "content": media(&content) })),
        None => ("204", json!({ "description": "Done" })),
    };
    let mut operation = json!({
        "operationId": entry.name,
        "summary": entry.summary,
        "x-permission": entry.permission.as_str(),
        "security": security,
        "parameters": parameters(entry, generator),
        "responses": { status: success, "default": { "$ref": "#/components/responses/Problem" } },
    });
    if let Some(content) = (entry.request)(generator) {
        operation["requestBody"] = json!({ "required": true, "content": media(&content) });
    }
    operation
}

fn media(content: &Content) -> Value {
    json!({ content.media_type: { "schema": content.schema } })
}

/// The values of the path, then the fields of the query.
fn parameters(entry: &Entry, generator: &mut SchemaGenerator) -> Vec<Value> {
    let names = entry.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = names
        .map(|name| {
            let schema =
                if name == "id" { json!({"type": "string", "format": "uuid"}) } else { json!({"type": "string"}) };
            json!({ "name": name, "in": "path", "required": true, "schema": schema })
        })
        .collect();
    let query = (entry.query)(generator).to_value();
    for (name, schema) in query["properties"].as_object().into_iter().flatten() {
        parameters.push(json!({
            "name": name, "in": "query", "required": false, "description": schema["description"], "schema": schema,
        }));
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All places that a document refers to.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn the_document_has_each_route_with_its_permission_and_no_dangling_reference() {
        let document = document("https://agents.example.com");
        for entry in routes::table() {
            let operation = &document["paths"][entry.path][entry.method.as_str().to_ascii_lowercase()];
            assert_eq!(operation["x-permission"], entry.permission.as_str(), "{}", entry.name);
            let values = entry.path.matches('{').count();
            let parameters = operation["parameters"].as_array().unwrap();
            assert_eq!(parameters.iter().filter(|one| one["in"] == "path").count(), values, "{}", entry.name);
        }
        let runs = document["paths"]["/v1/agents/{name}/runs"]["get"]["parameters"].as_array().unwrap();
        let names: Vec<_> = runs.iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["name", "limit", "thread", "status"]);
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 30, "{found:?}");
        for reference in found {
            let there = document.pointer(reference.strip_prefix('#').unwrap());
            assert!(there.is_some(), "{reference} is nowhere in the document");
        }
    }
}
