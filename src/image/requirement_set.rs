//! What a root of a project depends on, as all readers of it say it.

use crate::image::archive::Entry;
use crate::image::package::Package;
use crate::manifest::lower_bound;
use crate::manifest::workspace::PyprojectError;
use std::io;
use std::path::PathBuf;

/// Where the requirements lie in the stage that installs them.
pub const BUILD_DIR: &str = "/opt/build";

/// What one root depends on.
#[derive(Debug, Default, PartialEq)]
pub struct Requirements {
    /// Lines of a requirements file.
    pub lines: Vec<String>,
    /// Files that the lines refer to, below [`BUILD_DIR`].
    pub files: Vec<Entry>,
    /// Folders for `sys.path`, relative to the root, `""` for itself.
    pub search: Vec<String>,
    /// The packages in it.
    pub packages: Vec<Package>,
    /// How its `uv.lock` is installed, where that is what counts.
    pub lock: Option<Lock>,
    /// What its build backend describes.
    pub described: Option<Described>,
    /// A file of versions that hold, below [`BUILD_DIR`].
    pub constraints: Option<String>,
    /// A file that uv itself asks what to install (`pyproject.toml`, `setup.py`), below [`BUILD_DIR`].
    pub project: Option<String>,
    /// Packages that are imported by another name than their folder's: name and folder, relative to the root.
    pub renamed: Vec<(String, String)>,
    /// What it asks of Python (`requires-python`).
    pub python: Option<String>,
    /// Whether something comes from a Git repository.
    pub git: bool,
    /// What should be known.
    pub notes: Vec<String>,
}

/// Why it cannot be said.
#[derive(Debug, thiserror::Error)]
pub enum RequirementsError {
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A pyproject.toml says nothing.
    #[error(transparent)]
    Pyproject(#[from] PyprojectError),
    /// A file that another one includes is not there, or outside of its folder.
    #[error("{} includes {included}, which is not in its folder", path.display())]
    Include {
        /// Which file.
        path: PathBuf,
        /// What it includes.
        included: String,
    },
    /// A lock holds a LangGraph that the runner does not serve.
    #[error("{} locks langgraph {version}; {} or newer is needed: `uv lock --upgrade-package langgraph`", path.display(), lower_bound::lowest())]
    Langgraph {
        /// The lock.
        path: PathBuf,
        /// What it holds.
        version: String,
    },
}

/// How a root's lock is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// The root's name.
    pub root: String,
    /// The package of the workspace; none: the root's own.
    pub package: Option<String>,
    /// Packages that are folders of the project: they come with the code.
    pub folders: Vec<String>,
    /// Versions that hold whatever packages ask for (`override-dependencies`): the lock was made with them.
    pub overrides: Vec<String>,
}

/// A package that its backend describes, as the installation finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Where its code will be in the image.
    pub target: String,
}
