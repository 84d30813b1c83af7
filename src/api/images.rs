//! Images on their way to the server: what of one it has.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `POST /v1/agents/NAME/image`: which of an image's layers the server's registry has. Those that it has
/// belong to the agent's repository from then on.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct LayersRequest {
    /// Digests of what the layers hold, uncompressed; bottom first.
    pub diff_ids: Vec<String>,
}

/// Answer to [`LayersRequest`].
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct LayersAnswer {
    /// The repository that the agent's images belong into.
    pub repository: String,
    /// One for each that was asked for.
    pub layers: Vec<Option<LayerBlob>>,
}

/// A layer as a registry keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LayerBlob {
    /// How it is packed.
    pub media_type: String,
    /// Of the packed bytes.
    pub digest: String,
    /// How many there are.
    pub size: u64,
}
