//! Pure rules of runs: what a turn asks of a graph, limits, what it cost. No IO, no clock.

pub mod chat;
pub mod cost;
pub mod limits;
pub mod loss;
