//! Where replicas run.

pub mod docker;
