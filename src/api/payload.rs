//! What travels in the paths and bodies of routes.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;
use uuid::Uuid;

/// The media type of JSON, and of one JSON value a line.
pub const JSON: &str = "application/json";
/// See [`Lines`].
pub const NDJSON: &str = "application/x-ndjson";
/// See [`Archive`].
pub const GZIP: &str = "application/gzip";

/// A body as `/openapi.json` describes it.
#[derive(Debug, Clone)]
pub struct Content {
    /// Its media type.
    pub media_type: &'static str,
    /// Its schema; of a line where it has lines.
    pub schema: Schema,
}

/// A body that can be described.
pub trait Described: Send + Sync + 'static {
    /// Its media type and schema; `None`: there is no body.
    fn content(generator: &mut SchemaGenerator) -> Option<Content>;
}

/// A body that is in memory as a whole.
pub trait Payload: Described {
    /// What it holds.
    type Value: Send;

    /// Its bytes; `None`: there is no body.
    fn encode(value: &Self::Value) -> Option<serde_json::Result<Vec<u8>>>;

    /// Reads its bytes.
    fn decode(bytes: &[u8]) -> serde_json::Result<Self::Value>;
}

/// No body.
#[derive(Debug)]
pub struct Empty;

/// One JSON value.
#[derive(Debug)]
pub struct Json<T>(PhantomData<fn() -> T>);

/// One JSON value, with a status and headers of the handler's.
#[derive(Debug)]
pub struct Reply<T>(PhantomData<fn() -> T>);

/// A JSON value a line as it comes about; an empty line says that the stream lives.
#[derive(Debug)]
pub struct Lines<T>(PhantomData<fn() -> T>);

/// A tar in gzip.
#[derive(Debug)]
pub struct Archive;

impl Described for Empty {
    fn content(_: &mut SchemaGenerator) -> Option<Content> {
        None
    }
}

impl<T: JsonSchema + 'static> Described for Json<T> {
    fn content(generator: &mut SchemaGenerator) -> Option<Content> {
        Some(Content { media_type: JSON, schema: generator.subschema_for::<T>() })
    }
}

impl<T: JsonSchema + 'static> Described for Reply<T> {
    fn content(generator: &mut SchemaGenerator) -> Option<Content> {
        Json::<T>::content(generator)
    }
}

impl<T: JsonSchema + 'static> Described for Lines<T> {
    fn content(generator: &mut SchemaGenerator) -> Option<Content> {
        Some(Content { media_type: NDJSON, schema: generator.subschema_for::<T>() })
    }
}

impl Described for Archive {
    fn content(_: &mut SchemaGenerator) -> Option<Content> {
        Some(Content { media_type: GZIP, schema: Schema::default() })
    }
}

impl Payload for Empty {
    type Value = ();

    fn encode((): &()) -> Option<serde_json::Result<Vec<u8>>> {
        None
    }

    fn decode(_: &[u8]) -> serde_json::Result<()> {
        Ok(())
    }
}

impl<T: Serialize + DeserializeOwned + JsonSchema + Send + 'static> Payload for Json<T> {
    type Value = T;

    fn encode(value: &T) -> Option<serde_json::Result<Vec<u8>>> {
        Some(serde_json::to_vec(value))
    }

    fn decode(bytes: &[u8]) -> serde_json::Result<T> {
        serde_json::from_slice(bytes)
    }
}

/// A query that asks for nothing.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
pub struct NoQuery {}

/// The values of a path, in their order.
pub trait PathValues: DeserializeOwned + Send + Sync + 'static {
    /// As the path has them, without percent signs.
    fn values(&self) -> Vec<String>;
}

impl PathValues for () {
    fn values(&self) -> Vec<String> {
        Vec::new()
    }
}

impl PathValues for String {
    fn values(&self) -> Vec<String> {
        vec![self.clone()]
    }
}

impl PathValues for Uuid {
    fn values(&self) -> Vec<String> {
        vec![self.to_string()]
    }
}

impl PathValues for (String, String) {
    fn values(&self) -> Vec<String> {
        vec![self.0.clone(), self.1.clone()]
    }
}

impl PathValues for (String, Uuid) {
    fn values(&self) -> Vec<String> {
        vec![self.0.clone(), self.1.to_string()]
    }
}
