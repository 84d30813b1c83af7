//! Long-lived tasks, replicas and their folders: nothing dies by half.

pub mod agent;
mod folders;
mod hung;
mod poison;
mod profile;
mod routes;
mod status;
