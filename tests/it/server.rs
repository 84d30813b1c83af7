//! The server: its listeners (what happens before a key is known, time-outs, limits, who may do what), its log, which
//! nothing depends on, and its start, restart and stop.

mod foreground;
mod log;
mod place;
mod postgres_image;
mod restart;
mod strangers;
mod tokens;
mod wire;
