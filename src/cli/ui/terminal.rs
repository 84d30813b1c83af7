//! What the terminal is: its size, and whether text on it can move.

use crate::base::env;

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
