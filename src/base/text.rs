//! Text that others wrote, made safe to print: no terminal obeys it, and no line breaks where it does not end.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a terminal, or whoever reads a line, takes this character for more than a letter: C0, C1, DEL, the
/// separators of lines and paragraphs, and what reverses the direction of the text around it.
pub fn is_control(one: char) -> bool {
    one.is_control() || matches!(one, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Control characters as escapes (`\n`, `\x1b`, `\u{9b}`); tabs stay.
pub fn escaped(text: &str) -> Cow<'_, str> {
    replaced(text, |one| is_control(one) && one != '\t')
}

/// The same for text of several lines: their ends stay.
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    replaced(text, |one| is_control(one) && !matches!(one, '\t' | '\n'))
}

/// The same as one word of a line: blanks are escaped as well (`\x20`), and so are backslashes, so that it can be
/// read back. What is empty is `-`.
pub fn word(text: &str) -> Cow<'_, str> {
    if text.is_empty() {
        return Cow::Borrowed("-");
    }
    replaced(text, |one| is_control(one) || one.is_whitespace() || one == '\\')
}

/// The same within JSON, where such characters stand in strings alone.
pub fn escaped_json(json: &str) -> Cow<'_, str> {
    if !json.contains(|one| is_control(one) && one != '\n') {
        return Cow::Borrowed(json);
    }
    let mut safe = String::with_capacity(json.len() + 16);
    for one in json.chars() {
        if is_control(one) && one != '\n' {
            let _ = write!(safe, "\\u{:04x}", u32::from(one));
        } else {
            safe.push(one);
        }
    }
    Cow::Owned(safe)
}

fn replaced(text: &str, which: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&which) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for one in text.chars() {
        let _ = match one {
            one if !which(one) => {
                safe.push(one);
                Ok(())
            }
            '\n' => write!(safe, "\\n"),
            '\r' => write!(safe, "\\r"),
            '\\' => write!(safe, "\\\\"),
            one if u32::from(one) < 0x80 => write!(safe, "\\x{:02x}", u32::from(one)),
            one => write!(safe, "\\u{{{:x}}}", u32::from(one)),
        };
    }
    Cow::Owned(safe)
}

/// The text behind `%41` (RFC 3986 2.1); nothing where that is no UTF-8.
pub fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *first == b'%').and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_shown_and_what_it_shows_stays() {
        assert_eq!(escaped("plain, größe 你好\t\\"), "plain, größe 你好\t\\");
        assert_eq!(escaped("a\x1b[31mred\r\nb\x07\x7f"), "a\\x1b[31mred\\r\\nb\\x07\\x7f");
        assert_eq!(escaped("c1 \u{9b}2J, reversed \u{202e}txt"), "c1 \\u{9b}2J, reversed \\u{202e}txt");
        assert_eq!(escaped_lines("one\ntwo\x1b[1A\r"), "one\ntwo\\x1b[1A\\r");
    }

    #[test]
    fn json_stays_json() {
        let json = serde_json::json!({ "name": "a\u{9b}2J\u{7f}\u{202e}\n" }).to_string();
        let safe = escaped_json(&json);
        assert!(safe.is_ascii());
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap()["name"], "a\u{9b}2J\u{7f}\u{202e}\n");
    }

    #[test]
    fn a_word_is_one_word() {
        for (text, shown) in [
            ("thread-7", "thread-7"),
            ("my thread", "my\\x20thread"),
            ("a\nrunning v9", "a\\nrunning\\x20v9"),
            ("no\u{a0}break", "no\\u{a0}break"),
            ("back\\slash", "back\\\\slash"),
            ("", "-"),
        ] {
            assert_eq!(word(text), shown);
            assert_eq!(word(text).split_whitespace().count(), 1);
        }
    }
}
