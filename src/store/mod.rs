//! The store room: all SQL.

pub mod checkpoints;
pub mod postgres;
#[doc(hidden)]
pub mod test_database;
