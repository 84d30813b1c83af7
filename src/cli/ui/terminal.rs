//! What the terminal is: its size, whether text on it can move, and how lines get onto it.

use crate::base::env;
use std::io::Write as _;

/// Columns and rows of the terminal behind stdout; `None` where there is none, or where it does not say (serial
/// lines, some CI systems and editors have one of 0x0).
pub fn size() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then(|| (size.ws_col.into(), size.ws_row.into()))
}

/// Whether the terminal takes no commands, so that what is written stays where it is.
pub fn is_dumb() -> bool {
    env::var(env::TERM).is_some_and(|term| term == "dumb")
}

/// Writes a line, or several, to stderr in one piece: where both streams go into one log, none is torn. Without
/// colours where they are not wanted.
pub fn on_stderr(text: &str) {
    let mut whole = anstream::AutoStream::new(Vec::new(), anstream::AutoStream::choice(&std::io::stderr()));
    let _ = writeln!(whole, "{text}");
    let _ = std::io::stderr().write_all(&whole.into_inner());
}
