//! The integration tests of one binary: a module a feature. `machine` is a real server with Docker Engine and
//! Postgres, `support` a gateway with a real runner and a real Postgres, without Docker: quicker, so preferred.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../machine/mod.rs"]
mod machine;
#[path = "../support/mod.rs"]
mod support;

mod breakers;
mod builds;
mod cases;
mod contract;
mod databases;
mod doors;
mod engines;
mod fuzz;
mod index;
mod kept_logs;
mod leftovers;
mod projects;
mod queue;
mod restart;
mod server_builds;
mod supervision;
mod turns;
mod tutorial;
mod waits;
mod ways_out;
