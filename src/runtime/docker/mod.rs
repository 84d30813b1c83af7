//! Docker Engine.

pub mod engine;
