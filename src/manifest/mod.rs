//! Layer 1: `langgraph.json`. Parses it with positions, says every fault at once, and checks the
//! project behind it. LangGraph's own keys mean what `langgraph-cli` means by them: a manifest
//! that it accepts and can build, this accepts.

mod asked;
mod code;
pub mod database;
mod diagnostic;
pub mod dotenv;
mod elsewhere;
mod files;
pub mod folders;
mod host;
pub mod ignore;
mod json;
mod langgraph;
mod later;
pub mod left_out;
pub mod lower_bound;
mod model;
pub mod name;
pub mod project;
pub mod python;
mod reader;
pub mod requirement_line;
mod requirements;
pub mod requires;
pub mod schema;
mod section;
mod sources;
mod store;
mod syntax;
mod tokens;
mod tracked;
pub mod turns;
pub mod units;
mod versions;
pub mod workspace;

pub use diagnostic::{Diagnostic, Severity, Source, Span, render};
pub use host::{AllowedHost, HostError};
pub use model::{DEFAULT_PYTHON, EnvSource, Graph, GraphTarget, Loaded, Manifest, Places, UvSource};
pub use name::{is_name, to_name};
pub use section::LOG_RETENTION;
pub use section::{
    Checkpointer, Checkpoints, Egress, Limits, MIN_MEMORY_BYTES, Models, Observability, OwnDatabase, Resources,
    Rollout, ScalingMetric, Section, Security,
};

use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};

/// The largest manifest that is read.
pub const MAX_BYTES: u64 = 1 << 20;

/// Why there is no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// No such file.
    #[error("there is no {}", .0.display())]
    Missing(PathBuf),
    /// A folder, where the file in it is meant.
    #[error("{} is a folder", .0.display())]
    Directory(PathBuf),
    /// It cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is larger than [`MAX_BYTES`].
    #[error("{} is larger than 1 MiB", .0.display())]
    TooLarge(PathBuf),
    /// It is not UTF-8 text without a byte order mark.
    #[error("{} is not UTF-8 text without a byte order mark ({found})", path.display())]
    Encoding {
        /// Which file.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// It has faults, warnings among them.
    #[error("{} in the manifest", count(.0))]
    Invalid(Vec<Diagnostic>),
}

impl ManifestError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing(_) => Some("go to the project's folder, or name the file with --manifest".into()),
            Self::Directory(path) => {
                Some(format!("name the file: --manifest {}", path.join("langgraph.json").display()))
            }
            Self::Encoding { .. } => Some("save the file as UTF-8 without a byte order mark".into()),
            Self::Unreadable { .. } | Self::TooLarge(_) | Self::Invalid(_) => None,
        }
    }

    /// The faults of an invalid manifest.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            Self::Invalid(faults) => faults,
            _ => &[],
        }
    }
}

fn count(faults: &[Diagnostic]) -> String {
    match faults.iter().filter(|fault| fault.is_error()).count() {
        1 => "1 error".into(),
        errors => format!("{errors} errors"),
    }
}

/// Reads and parses the manifest at `path`.
pub fn load(path: &Path) -> Result<Loaded, ManifestError> {
    let unreadable = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ManifestError::Missing(path.to_owned()),
        _ => ManifestError::Unreadable { path: path.to_owned(), source },
    };
    let meta = std::fs::metadata(path).map_err(unreadable)?;
    if meta.is_dir() {
        return Err(ManifestError::Directory(path.to_owned()));
    }
    if !meta.is_file() {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
        return Err(ManifestError::Unreadable { path: path.to_owned(), source });
    }
    if meta.len() > MAX_BYTES {
        return Err(ManifestError::TooLarge(path.to_owned()));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ManifestError::TooLarge(path.to_owned()));
    }
    let text = decode(&bytes).map_err(|found| ManifestError::Encoding { path: path.to_owned(), found })?;
    let folder = std::path::absolute(path).ok().and_then(|path| std::fs::canonicalize(path.parent()?).ok());
    let folder = folder.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    parse(text, &path.display().to_string(), &folder.unwrap_or_default()).map_err(ManifestError::Invalid)
}

fn decode(bytes: &[u8]) -> Result<&str, String> {
    match bytes {
        [0xEF, 0xBB, 0xBF, ..] => Err("it begins with a byte order mark".into()),
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] | [0, _, ..] | [_, 0, ..] => Err("it looks like UTF-16".into()),
        _ => std::str::from_utf8(bytes).map_err(|error| format!("byte {} is not UTF-8", error.valid_up_to() + 1)),
    }
}

/// Parses a manifest. `file_name` is what faults name, `folder_name` the last resort for the agent's
/// name. All faults at once, in the order of the text.
pub fn parse(text: &str, file_name: &str, folder_name: &str) -> Result<Loaded, Vec<Diagnostic>> {
    let mut source = Source::new(file_name, text);
    let mut faults = Vec::new();
    let root = json::parse(&mut source, &mut faults);
    let read = root.and_then(|root| langgraph::read(&root, &mut source, folder_name, &mut faults));
    faults.sort_by_key(|fault| (fault.line, fault.column));
    match read {
        Some((manifest, places)) if !faults.iter().any(Diagnostic::is_error) => {
            Ok(Loaded { manifest, warnings: faults, source, places })
        }
        _ => Err(faults),
    }
}

impl Manifest {
    /// Reads what [`Manifest::raw`] holds, as a server gets it. `name` is the name that the sender
    /// resolved; it counts where the manifest itself names none.
    pub fn from_json(raw: &Value, name: &str) -> Result<Self, Vec<Diagnostic>> {
        let text = serde_json::to_string_pretty(raw).unwrap_or_default();
        let mut manifest = parse(&text, "langgraph.json", name)?.manifest;
        if manifest.section.name.is_none() && is_name(name) {
            name.clone_into(&mut manifest.name);
        }
        Ok(manifest)
    }

    /// What the manifest asks for and this version does not carry out yet: dotted keys of the section
    /// (`max_replicas`, `observability.otel`) and LangGraph's own keys (`store`). `deploy` prints a
    /// line for each: nothing is passed over in silence.
    pub fn not_enforced(&self) -> Vec<String> {
        let mut names = self.section.unenforced();
        names.extend(langgraph::not_enforced(&self.raw));
        names.extend(
            self.graphs.iter().filter(|graph| graph.is_javascript()).map(|graph| format!("graphs.{}", graph.id)),
        );
        names
    }

    /// [`Manifest::not_enforced`] as lines for people: each key, and what happens instead.
    pub fn notes_of_later(&self) -> Vec<String> {
        let keys = self.not_enforced();
        keys.iter().map(|key| format!("not enforced yet: {key} ({})", later::consequence(key))).collect()
    }

    /// Whether any graph is JavaScript.
    pub fn has_javascript(&self) -> bool {
        self.graphs.iter().any(Graph::is_javascript)
    }
}

#[cfg(test)]
mod tests;
