//! What a manifest says, once it is read.

use super::diagnostic::{Diagnostic, Source, Span};
use super::section::Section;
use crate::base::secret::SecretString;
use serde_json::Value;
use std::collections::BTreeMap;

/// `python_version` where the manifest has none (langgraph-cli 0.4.40).
pub const DEFAULT_PYTHON: &str = "3.11";

/// A manifest that has no errors.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The agent's name: `rapidclaw.name`, else the only graph's, else the folder's.
    pub name: String,
    /// In the order of the file; never empty, ids are unique.
    pub graphs: Vec<Graph>,
    /// Folders (they start with `.`) and requirements, as written.
    pub dependencies: Vec<String>,
    /// Where the agent's environment comes from.
    pub env: EnvSource,
    /// `major.minor`, without a suffix such as `-slim`.
    pub python_version: String,
    /// `base_image`.
    pub base_image: Option<String>,
    /// Whether `pip_installer` is `"pip"`.
    pub installs_with_pip: bool,
    /// `image_distro`, where it is given.
    pub image_distro: Option<String>,
    /// Lines of the Dockerfile right behind `FROM`.
    pub dockerfile_lines: Vec<String>,
    /// A pip.conf for the installation.
    pub pip_config_file: Option<String>,
    /// Which of pip, setuptools and wheel stay in the image.
    pub keep_pkg_tools: Vec<String>,
    /// `source`: the dependencies are those of a `uv.lock`.
    pub source: Option<UvSource>,
    /// `node_version`, where it is given.
    pub node_version: Option<String>,
    /// The `rapidclaw` section, or its defaults.
    pub section: Section,
    /// Whether there is a section.
    pub has_section: bool,
    /// The manifest as it is written, but with the values of an inline `env` taken out.
    pub raw: Value,
}

/// One entry of `graphs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// Its key.
    pub id: String,
    /// Where it is.
    pub target: GraphTarget,
    /// What it says of itself.
    pub description: Option<String>,
}

/// What the part before the colon names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GraphTarget {
    /// A file, relative to the manifest, with forward slashes.
    File {
        /// `./agent/graph.py`
        path: String,
        /// What in it.
        attribute: String,
    },
    /// A module that Python imports.
    Module {
        /// `package.module`
        module: String,
        /// What in it.
        attribute: String,
    },
}

impl Graph {
    /// Whether it is JavaScript or TypeScript (by its file's extension, as langgraph-cli decides).
    pub fn is_javascript(&self) -> bool {
        matches!(&self.target, GraphTarget::File { path, .. } if is_javascript(path))
    }
}

/// Where an agent's environment comes from.
#[derive(Debug, Clone)]
pub enum EnvSource {
    /// The manifest names none.
    None,
    /// A dotenv file, relative to the manifest.
    File(String),
    /// Values in the manifest itself.
    Inline(BTreeMap<String, SecretString>),
}

/// `source` of kind `uv`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UvSource {
    /// The folder of `uv.lock`, relative to the manifest.
    pub root: String,
    /// The package of the workspace.
    pub package: Option<String>,
}

/// Where in the text the values are that the checks of the project may blame.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// One for each of [`Manifest::graphs`].
    pub graphs: Vec<Span>,
    /// One for each of [`Manifest::dependencies`].
    pub dependencies: Vec<Span>,
    /// The value of `env`.
    pub env: Option<Span>,
    /// The value of `pip_config_file`.
    pub pip_config_file: Option<Span>,
    /// The value of `source`.
    pub source: Option<Span>,
    /// The value of `node_version`.
    pub node_version: Option<Span>,
    /// The value of `python_version`.
    pub python_version: Option<Span>,
}

/// A manifest with its text.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it says.
    pub manifest: Manifest,
    /// Faults that are no errors.
    pub warnings: Vec<Diagnostic>,
    /// Its text.
    pub source: Source,
    /// Where its values are.
    pub places: Places,
}

const JAVASCRIPT: [&str; 6] = ["ts", "mts", "cts", "js", "mjs", "cjs"];

/// Whether the file is JavaScript, by its extension.
pub(super) fn is_javascript(path: &str) -> bool {
    let file = path.rsplit(['/', '\\']).next().unwrap_or(path);
    file.rsplit_once('.').is_some_and(|(stem, extension)| !stem.is_empty() && JAVASCRIPT.contains(&extension))
}
