//! Floor 2: from a project to an image. `context` finds the files, `requirements` what they depend
//! on (`pyproject`, `spec`, `lock`, `described`), `plan` writes the Dockerfile (`steps`), `archive` the tar, `build` has the engine build it, `append` lays
//! the code on what is built already; `names` says what images are called, `steps_left` and `tidy` take away what is of no use.

mod append;
pub mod archive;
pub mod base;
pub mod build;
pub mod context;
mod described;
pub mod error;
mod hashing;
mod lock;
pub mod names;
mod output;
mod package;
pub mod plan;
mod progress;
pub mod push;
pub mod pyproject;
pub mod requirements;
mod revision;
pub mod spec;
pub mod steps;
mod steps_left;
pub mod tidy;
pub use revision::find_revision;

pub use append::can_append;
pub use build::{BuildOptions, BuildReporter, Built, Deployed, build, inputs_digest};
pub use context::{Context, ContextError, Project};
pub use error::BuildError;
pub use names::is_builders_tag;
pub use plan::{Plan, PlanError};
pub use tidy::{forget, tidy};
