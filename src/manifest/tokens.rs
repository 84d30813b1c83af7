//! Words, strings and signs of Python code, without comments: enough to see what a module asks for, of code that is
//! read and not run.

/// A part of Python code. Its text is a part of what was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'t> {
    /// A name, a keyword or a number.
    Word(&'t str),
    /// What a string holds, as it is written.
    Text(&'t str),
    /// Any other character.
    Sign(char),
    /// The end of a line.
    Line,
}

/// The tokens of Python code. What is within a formatted string counts as code; there is none in one of those.
pub(super) fn scan<'t>(text: &'t str, whole: bool, tokens: &mut Vec<Token<'t>>) {
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first == '#' && whole {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if first == '"' || first == '\'' {
            let (inner, after) = string(rest, first);
            let prefix = match tokens.last() {
                Some(Token::Word(prefix)) if is_prefix(prefix) => *prefix,
                _ => "",
            };
            let is_formatted = prefix.contains(['f', 'F', 't', 'T']);
            if !prefix.is_empty() {
                tokens.pop();
            }
            if is_formatted && whole {
                scan(inner, false, tokens);
            } else {
                tokens.push(Token::Text(inner));
            }
            rest = after;
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|one: char| !one.is_alphanumeric() && one != '_').unwrap_or(rest.len());
            tokens.push(Token::Word(&rest[..end]));
            rest = &rest[end..];
        } else {
            match first {
                '\n' => tokens.push(Token::Line),
                one if one.is_whitespace() => {}
                one => tokens.push(Token::Sign(one)),
            }
            rest = &rest[first.len_utf8()..];
        }
    }
}

/// What a string holds, and what is behind it. `text` begins with its quote.
fn string(text: &str, quote: char) -> (&str, &str) {
    let triple: String = std::iter::repeat_n(quote, 3).collect();
    let (begin, is_triple) = if text.starts_with(&triple) { (3, true) } else { (1, false) };
    let inner = &text[begin..];
    let mut at = 0;
    while let Some(one) = inner[at..].chars().next() {
        if one == '\\' {
            at += 1 + inner[at + 1..].chars().next().map_or(0, char::len_utf8);
        } else if is_triple && inner[at..].starts_with(&triple) {
            return (&inner[..at], &inner[at + 3..]);
        } else if !is_triple && (one == quote || one == '\n') {
            return (&inner[..at], &inner[at + usize::from(one == quote)..]);
        } else {
            at += one.len_utf8();
        }
    }
    (inner, "")
}

fn is_prefix(word: &str) -> bool {
    word.len() <= 2 && word.chars().all(|one| "rRbBuUfFtT".contains(one))
}

/// Where a word or a string begins in the text that it was read from, in bytes; 0 for other tokens.
pub(super) fn place(text: &str, token: &Token<'_>) -> usize {
    match token {
        Token::Word(part) | Token::Text(part) => (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize),
        Token::Sign(_) | Token::Line => 0,
    }
}
