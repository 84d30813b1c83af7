//! Text that is shown again and again in the same place.

use super::terminal;
use crate::base::text;
use std::io::Write as _;

/// What stands on the terminal now.
#[derive(Default)]
pub struct Screen {
    text: String,
    lines: usize,
}

impl Screen {
    /// Replaces what was shown. What exceeds the terminal's width and height is cut: else its lines could not be
    /// counted, and those above its top not be replaced. A terminal where nothing moves gets what is new.
    pub fn show(&mut self, text: &str) {
        let mut out = anstream::stdout().lock();
        if terminal::is_dumb() {
            if self.text != text {
                text.clone_into(&mut self.text);
                let _ = writeln!(out, "{}", text::escaped_lines(text)).and_then(|()| out.flush());
            }
            return;
        }
        if self.lines > 0 {
            let _ = write!(out, "\x1b[{}A\r\x1b[J", self.lines);
        }
        let shown = cut(&text::escaped_lines(text), terminal::size());
        for line in &shown {
            let _ = writeln!(out, "{line}");
        }
        self.lines = shown.len();
        let _ = out.flush();
    }
}

/// What fits: the line below the last one is the cursor's.
fn cut(text: &str, size: Option<(usize, usize)>) -> Vec<String> {
    let (columns, rows) = size.unwrap_or((usize::MAX, usize::MAX));
    let lines: Vec<&str> = text.lines().collect();
    let room = rows.saturating_sub(1).max(1);
    let mut shown: Vec<String> = lines.iter().take(room).map(|line| line.chars().take(columns).collect()).collect();
    if let (true, Some(last)) = (lines.len() > room && room > 1, shown.last_mut()) {
        *last = format!("… {} more lines", lines.len() - room + 1).chars().take(columns).collect();
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_cut_and_counted() {
        let text = "one line\ntwo lines\nthree lines\nfour";
        assert_eq!(cut(text, None).join("\n"), text);
        assert_eq!(cut(text, Some((80, 5))).join("\n"), text);
        assert_eq!(cut(text, Some((5, 4))), ["one l", "two l", "… 2 m"]);
        assert_eq!(cut(text, Some((80, 1))), ["one line"]);
    }
}
