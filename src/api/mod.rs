//! Wire types that server and client share: the control API and the agents' API. No IO.

pub mod access;
pub mod builds;
pub mod chat;
pub mod control;
pub mod history;
pub mod images;
pub mod logs;
pub mod openapi;
pub mod payload;
pub mod problem;
pub mod routes;
pub mod tokens;
pub mod version;

pub use problem::Problem;
