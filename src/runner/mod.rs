//! The runner: the Python package that executes graphs in a replica, and the typed client of its contract.

pub mod codec;
pub mod connection;
pub mod embed;
pub mod protocol;
pub mod session;
