//! rapidclaw takes a LangGraph project from a laptop or CI to production.
//!
//! One binary holds the command line, the control plane, the gateway that agents are called through,
//! the model gateway and the egress proxy. ARCHITECTURE.md says which module owns what; a module imports
//! from its own layer or below.

pub mod api;
pub mod base;
pub mod cli;
pub mod client;
pub mod control;
pub mod egress;
pub mod engine;
pub mod gateway;
pub mod image;
pub mod manifest;
pub mod models;
pub mod registry;
pub mod release;
pub mod run;
pub mod runner;
pub mod runtime;
pub mod server;
pub mod store;
