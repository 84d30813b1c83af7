//! Checkpoints: the tables of `langgraph-checkpoint-postgres`, one schema an agent.
//!
//! LangGraph's own `PostgresSaver` can open them (with the schema in its `search_path`), so that
//! anyone can leave; what each function does to them is what that saver does. Which attempt may write
//! is the caller's affair: everything that writes takes his connection, to run in his transaction.

mod batch;
mod document;
mod error;
mod frames;
mod manage;
mod read;
mod schema;
#[cfg(test)]
mod tests;

pub use batch::Op;
#[cfg(test)]
pub use batch::apply;
pub(in crate::store) use batch::{PARAMETERS, Rows, changes};
pub use document::{Document, document};
pub use error::CheckpointError;
pub use frames::{Change, Page, change, read};
pub use manage::{Strategy, copy_thread, delete_for_runs, delete_thread, prune};
pub use read::{Filter, Head, get, head, list};
pub(in crate::store) use schema::Frequent;
pub use schema::{Schema, ensure_schema};
