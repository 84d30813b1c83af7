//! The `rapidclaw` binary: all is in the library.

fn main() {}
