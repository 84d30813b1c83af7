//! The command line: what it takes, what it says, how it ends.

mod bad_input;
mod completions;
mod remote;
mod surface;
mod terminals;
mod waits;
