//! The Python runner: its contract with the server, its checkpointer, what a project finds around it.

mod conformance;
mod contract;
mod frameworks;
mod marks;
