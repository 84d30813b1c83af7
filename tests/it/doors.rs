//! The listeners: what happens before a key is known, time-outs, limits, who may do what; and the log, which
//! nothing depends on.

mod foreground;
mod log;
mod place;
mod strangers;
mod tokens;
mod wire;
