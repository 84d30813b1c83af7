//! Layer 2: from a project to an image. `context` finds the files, `requirements` what they depend
//! on (`requirement_set`, `pyproject`, `spec`, `lock`, `described`), `plan` writes the Dockerfile (`steps`), `archive` the tar, `build` has the engine build it, `append` lays
//! the code on what is built already; `steps_left` and `tidy` take away what is of no use.

mod append;
pub mod archive;
pub mod base;
mod bounds;
pub mod build;
pub mod context;
mod described;
pub mod error;
mod hashing;
mod layout;
mod lock;
mod origin;
mod output;
mod package;
pub mod plan;
mod progress;
mod proxies;
pub mod push;
pub mod pyproject;
mod report;
pub mod requirement_set;
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

pub use bounds::StepBounds;
pub use build::{BuildOptions, Deployed, build, build_from, find_built, inputs_digest};
pub use context::{Context, ContextError, Project};
pub use error::BuildError;
pub use origin::{Origin, Sent};
pub use plan::{Plan, PlanError};
pub use proxies::proxies;
pub use report::{BuildReporter, Built};
pub use tidy::{forget, tidy};
pub use unsteady::{READINGS, Unsteady};
pub use way::SOCKET as WAY_SOCKET;
