//! Wire types that server and client share: the control API and the agents' API. No IO.

pub mod builds;
pub mod chat;
pub mod control;
pub mod history;
pub mod images;
pub mod logs;
pub mod problem;
pub mod version;

pub use problem::Problem;
