//! What an agent, a caller or a stranger tries against the others, beside a neighbour whose every turn succeeds.

mod flood;
mod profile;
mod suite;
