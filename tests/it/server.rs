//! The server: its listeners (what happens before a key is known, time-outs, limits, what callers named), its log, which
//! nothing depends on, and its start, restart and stop.

pub mod foreground;
mod log;
mod place;
mod postgres_image;
mod restart;
mod strangers;
mod texts;
mod wire;
