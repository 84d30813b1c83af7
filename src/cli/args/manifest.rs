//! Where the manifest is, for every command that reads one.

use clap::Args;
use std::path::PathBuf;

/// Where the manifest is.
#[derive(Debug, Clone, Args)]
pub struct ManifestArg {
    /// The manifest
    #[arg(long, short, value_name = "FILE", default_value = "langgraph.json")]
    pub manifest: PathBuf,
}
