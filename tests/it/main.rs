//! The integration tests, one binary: a module a feature, `harness` below them all.
//!
//! | to find | look in |
//! | --- | --- |
//! | commands: their texts, their JSON, bad input, terminals, logins, servers elsewhere | `cli` |
//! | `langgraph.json` and `.env` as others read them | `manifest` |
//! | images and what is in them | `builds` |
//! | from a project to an agent that answers, and back again (`rollback`) | `deploy` |
//! | changes under load, changes that fail | `rollout` |
//! | secrets of an agent | `secrets` |
//! | the image registry | `registry` |
//! | runs: accepted, queued, executed, committed, answered | `gateway`, `turns` |
//! | the Python runner and its contract | `runner` |
//! | ways out of a replica: hosts, models, tracing | `egress` |
//! | agents, callers and strangers against each other | `isolation` |
//! | replicas that hang, die or fill up, and their logs | `supervision` |
//! | parts that are killed, disks that fill, clocks that jump, backups | `recovery` |
//! | agents' own databases | `databases` |
//! | who may do what: routes, roles, tokens, keys, repositories | `permissions` |
//! | listeners, the log, `server start`, `restart` and `stop` | `server` |
//! | parsers of what others send | `fuzz` |
//! | what may import what | `architecture` |

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails, and says where it is")]

mod harness;

mod architecture;
mod builds;
mod cli;
mod databases;
mod deploy;
mod egress;
mod fuzz;
mod gateway;
mod isolation;
mod manifest;
mod permissions;
mod recovery;
mod registry;
mod rollout;
mod runner;
mod secrets;
mod server;
mod supervision;
mod turns;

use harness::{building, index, machine, support};
