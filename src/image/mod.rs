//! Floor 2: from a project to an image. `context` finds the files, `requirements` what they depend
//! on (`pyproject`, `spec`, `lock`, `described`), `plan` writes the Dockerfile (`steps`), `archive` the tar, `build` has the engine build it, `append` lays
//! the code on what is built already; `names` says what images are called, `steps_left` and `tidy` take away what is of no use.

mod append;
pub mod archive;
pub mod base;
mod bounds;
pub mod build;
pub mod context;
mod described;
pub mod error;
mod hashing;
mod lock;
pub mod names;
mod origin;
mod output;
mod package;
pub mod plan;
mod progress;
mod proxies;
pub mod push;
pub mod pyproject;
pub mod requirements;
mod revision;
pub mod sent;
pub mod spec;
pub mod steps;
mod steps_left;
pub mod tidy;
mod unsteady;
mod way;
pub use revision::find_revision;

pub use append::can_append;
pub use bounds::StepBounds;
pub use build::{BuildOptions, BuildReporter, Built, Deployed, build, build_from, find_built, inputs_digest};
pub use context::{Context, ContextError, Project};
pub use error::BuildError;
pub use names::is_builders_tag;
pub use origin::{Origin, Sent};
pub use plan::{Plan, PlanError};
pub use proxies::proxies;
pub use tidy::{forget, tidy};
pub use unsteady::{READINGS, Unsteady};
pub use way::SOCKET as WAY_SOCKET;
