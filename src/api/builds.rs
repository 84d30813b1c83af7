//! Builds that a server makes: what the command line sends, and what it hears.
//!
//! `POST /v1/agents/NAME/build/check` asks with a [`BuildRequest`]; nothing of the files' contents is sent for it.
//! `POST /v1/agents/NAME/build` has a tar in gzip as its body: the same request as `build.json`, then each content
//! that it names once, under its SHA-256. The answer is a line of JSON for each [`BuildEvent`], the last one
//! [`BuildEvent::Done`] or [`BuildEvent::Failed`]; empty lines say that the build goes on.

use crate::base::secret::{ExposeSecret as _, SecretString};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::borrow::Cow;

/// The name of the request in the archive, which is its first file.
pub const REQUEST_FILE: &str = "build.json";

/// The image that is asked for.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct BuildRequest {
    /// The manifest as it was read, without the values of an inline `env`.
    pub manifest: Value,
    /// What is built on, as the engine shall look for it.
    pub base_image: String,
    /// `linux/amd64`; absent: whatever the base image is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Whether nothing of earlier builds is used.
    #[serde(default)]
    pub no_cache: bool,
    /// Whether the base image is fetched anew.
    #[serde(default)]
    pub pull: bool,
    /// The commit of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The manifest's pip.conf, whose logins only the steps that install see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pip_config: Option<PipConfig>,
    /// How it is made.
    pub recipe: Recipe,
    /// How it is made where a package cannot be described without its code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with_code: Option<Recipe>,
}

/// A pip.conf: never shown by `Debug`.
#[derive(Debug, Clone)]
pub struct PipConfig(pub SecretString);

impl Serialize for PipConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose_secret())
    }
}

impl<'de> Deserialize<'de> for PipConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SecretString::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for PipConfig {
    fn schema_name() -> Cow<'static, str> {
        "PipConfig".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "A pip.conf", "writeOnly": true })
    }
}

/// The steps of an image and the files that they copy.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Recipe {
    /// The instructions of the Dockerfile, in order.
    pub steps: Vec<RecipeStep>,
    /// How many of them come before the code.
    pub ready: usize,
    /// All files but the Dockerfile, by path.
    pub files: Vec<RecipeFile>,
    /// The image's working directory.
    pub workdir: String,
    /// What should be said.
    pub notes: Vec<String>,
    /// What the packages ask of Python, beside their folders' names.
    pub pythons: Vec<(String, String)>,
    /// Whether build backends describe packages without their code.
    pub described: bool,
}

/// An instruction.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RecipeStep {
    /// What it does, for people; empty where it is not worth a word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// As the Dockerfile has it.
    pub instruction: String,
    /// Whether it installs the project's dependencies.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dependencies: bool,
}

/// A file, a link or an empty folder.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RecipeFile {
    /// Where it is for the steps.
    pub path: String,
    /// Whether it may be executed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
    /// What it is.
    pub kind: RecipeKind,
}

/// What a file of a recipe is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecipeKind {
    /// A file.
    File {
        /// SHA-256 of what it holds: 64 hexadecimal digits.
        sha256: String,
        /// Bytes.
        size: u64,
    },
    /// A symbolic link to this.
    Link(String),
    /// A folder with nothing in it.
    Folder,
}

/// Answer to a check: what the server has already.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct BuildCheck {
    /// The image, where it is there: then nothing has to be sent.
    pub image: Option<BuildDone>,
    /// The digest that its image would have; absent where the base image is not there yet.
    pub inputs_digest: Option<String>,
}

/// What a build says as it goes on.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum BuildEvent {
    /// Others are built first: so many.
    Waiting {
        /// How many.
        before: usize,
    },
    /// A step began.
    Step {
        /// From 1.
        number: usize,
        /// How many there are.
        total: usize,
        /// What it does; empty where it is not worth a word.
        title: String,
    },
    /// The step that began is the same as in an earlier build.
    Cached {
        /// From 1.
        number: usize,
        /// How many there are.
        total: usize,
        /// What it does.
        title: String,
    },
    /// A line that the step printed.
    Output {
        /// As it was printed, without control sequences.
        line: String,
    },
    /// The image is there.
    Done(BuildDone),
    /// There is no image.
    Failed(BuildFault),
}

/// An image in the server's engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BuildDone {
    /// The engine's id of it.
    pub image: String,
    /// Its tag.
    pub tag: String,
    /// The digest of all that it was made from.
    pub inputs_digest: String,
    /// Whether it was there already.
    pub cached: bool,
    /// The Python in it; empty where it is not known.
    pub python: String,
    /// What should be said.
    pub notes: Vec<String>,
    /// How long it took, without the time in the queue, in seconds.
    pub seconds: f64,
    /// How long it waited for others, in seconds.
    #[serde(default)]
    pub waited: f64,
}

/// Why there is no image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BuildFault {
    /// Stable.
    pub code: String,
    /// What failed.
    pub message: String,
    /// Why, outermost first.
    #[serde(default)]
    pub causes: Vec<String>,
    /// What to do next.
    #[serde(default)]
    pub hints: Vec<String>,
    /// The last lines of the step that failed.
    #[serde(default)]
    pub last_lines: Vec<String>,
}
