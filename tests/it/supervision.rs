//! Long-lived tasks, replicas and their folders: nothing dies by half.

mod agent;
mod folders;
mod poison;
mod routes;
