//! Long-lived tasks, replicas and their folders: nothing dies by half.

pub mod agent;
mod folders;
mod hung;
mod kept_logs;
mod long_runs;
mod poison;
mod routes;
mod status;
