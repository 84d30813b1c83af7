//! Text that is shown again and again in the same place.

use comfy_table::Table;
use std::io::Write as _;

/// What stands on the terminal now.
#[derive(Default)]
pub struct Screen {
    lines: usize,
}

impl Screen {
    /// Replaces what was shown. Lines are cut to the terminal's width, or they could not be counted.
    pub fn show(&mut self, text: &str) {
        let width = Table::new().width().map_or(usize::MAX, usize::from);
        let mut out = anstream::stdout().lock();
        if self.lines > 0 {
            let _ = write!(out, "\x1b[{}A\r\x1b[J", self.lines);
        }
        self.lines = 0;
        for line in text.lines() {
            let _ = writeln!(out, "{}", line.chars().take(width).collect::<String>());
            self.lines += 1;
        }
        let _ = out.flush();
    }
}
