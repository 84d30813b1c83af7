//! Rollouts: under load, and those that fail.

mod continuity;
mod failures;
