//! Pure rules of releases and rollouts: states, what to do next, what `status` says. No IO, no clock.

pub mod plan;
pub mod spec;
pub mod state;
