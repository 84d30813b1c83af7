//! Reads dotenv files as python-dotenv does (LangGraph's users write for that one), without ever
//! touching this process's environment.
//!
//! A line is `NAME=value`, `export NAME=value` or a comment; it ends with LF, CRLF or CR. Values may stand
//! in single quotes (taken as they are, but for `\'` and `\\`) or double quotes (with `\n`, `\t`, `\"`, `\\`
//! and the like); both may span lines. Without quotes a value ends at a `#` behind a blank, or at the line's
//! end: `A=#x` is `#x`. Of a name given twice the last counts. A name without `=` is left out, as
//! python-dotenv does. `tests/it/manifest/dotenv.rs` compares the two.
//!
//! Variables are not substituted from the environment: a `.env` means the same everywhere. `${NAME}`
//! and `${NAME:-default}`, in whatever quotes, stand for a name that the same file sets above; a
//! name that it does not set is an error, so that nothing is emptied in silence. A lone `$` is a `$`.
//! (`dotenvy` substitutes `$NAME` from the process, which would damage passwords such as `pa$word`.)

use crate::base::secret::{ExposeSecret as _, SecretString};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Why a dotenv file was not read. Messages name lines, never values.
#[derive(Debug, thiserror::Error)]
pub enum DotenvError {
    /// The file cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is no assignment.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: Problem,
    },
}

/// What can be wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It does not begin with a name.
    #[error("not a NAME=value line")]
    Syntax,
    /// The closing quote is missing.
    #[error("the quote that opens the value of {0} is never closed")]
    Unclosed(String),
    /// Something stands behind the closing quote.
    #[error("text behind the closing quote of {0}")]
    Trailing(String),
    /// `${…}` names what the file does not set above.
    #[error("{name} refers to ${{{reference}}}, which this file does not set above; the environment is not read")]
    Reference {
        /// The variable.
        name: String,
        /// What it refers to.
        reference: String,
    },
    /// The file is not UTF-8.
    #[error("not UTF-8 text")]
    Encoding,
    /// A value holds a NUL, which no environment takes.
    #[error("the value of {0} holds a NUL character")]
    Nul(String),
}

/// Reads the file at `path`.
pub fn read(path: &Path) -> Result<BTreeMap<String, SecretString>, DotenvError> {
    let unreadable = |source| DotenvError::Unreadable { path: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').skip(1).count();
        DotenvError::Line { path: path.to_owned(), line, problem: Problem::Encoding }
    })?;
    parse(text).map_err(|(line, problem)| DotenvError::Line { path: path.to_owned(), line, problem })
}

/// Parses the text of a dotenv file; an error comes with its line.
pub fn parse(text: &str) -> Result<BTreeMap<String, SecretString>, (usize, Problem)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n").replace('\r', "\n");
    let mut values = BTreeMap::new();
    let mut rest = text.as_str();
    loop {
        rest = rest.trim_start_matches(is_space);
        if rest.is_empty() {
            return Ok(values);
        }
        let line = 1 + text[..text.len() - rest.len()].matches('\n').count();
        if rest.starts_with('#') {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
            continue;
        }
        let (assignment, after) = assignment(rest, &values).map_err(|problem| (line, problem))?;
        if let Some((name, value)) = assignment {
            if value.expose_secret().contains('\0') {
                return Err((line, Problem::Nul(name)));
            }
            values.insert(name, value);
        }
        rest = after;
    }
}

type Values = BTreeMap<String, SecretString>;

/// What a line sets, if anything, and the text behind it.
type Read<'t> = (Option<(String, SecretString)>, &'t str);

fn assignment<'t>(text: &'t str, values: &Values) -> Result<Read<'t>, Problem> {
    let (line, after_line) = text.split_once('\n').unwrap_or((text, ""));
    let body = line
        .strip_prefix("export")
        .filter(|rest| rest.starts_with(is_blank))
        .map_or(text, |_| text["export".len()..].trim_start_matches(is_blank));
    let (name, rest) = take_name(body)?;
    let rest = rest.trim_start_matches(is_blank);
    let Some(rest) = rest.strip_prefix('=') else {
        let alone = rest.is_empty() || rest.starts_with(['\n', '#']);
        return if alone { Ok((None, after_line)) } else { Err(Problem::Syntax) };
    };
    let (value, rest) = (rest, rest.trim_start_matches(is_blank));
    let quote = rest.chars().next().filter(|quote| ['"', '\''].contains(quote));
    let (raw, after) = if let Some(quote) = quote {
        let (inside, after) = quoted(&rest[1..], quote).ok_or_else(|| Problem::Unclosed(name.clone()))?;
        let (tail, after) = after.split_once('\n').unwrap_or((after, ""));
        let tail = tail.trim_matches(is_space);
        if !tail.is_empty() && !tail.starts_with('#') {
            return Err(Problem::Trailing(name));
        }
        (inside, after)
    } else {
        let (line, after) = value.split_once('\n').unwrap_or((value, ""));
        (unquoted(line).to_owned(), after)
    };
    let value = substitute(&raw, &name, values)?;
    Ok((Some((name, SecretString::from(value))), after))
}

fn take_name(text: &str) -> Result<(String, &str), Problem> {
    let (name, rest) = if let Some(rest) = text.strip_prefix('\'') {
        rest.split_once('\'').ok_or(Problem::Syntax)?
    } else {
        let end = text.find(|one| is_space(one) || one == '=' || one == '#').unwrap_or(text.len());
        text.split_at(end)
    };
    // No process has a variable of such a name.
    let impossible = |one: char| one == '=' || one.is_whitespace() || one.is_control();
    if name.is_empty() || name.contains(impossible) { Err(Problem::Syntax) } else { Ok((name.to_owned(), rest)) }
}

/// The text up to the closing quote, its escapes resolved, and what follows.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        if character == quote {
            return Some((value, &text[at + 1..]));
        }
        if character != '\\' {
            value.push(character);
            continue;
        }
        let (_, escaped) = characters.next()?;
        match escaped {
            '\\' => value.push('\\'),
            _ if escaped == quote => value.push(quote),
            '"' | '\'' if quote == '"' => value.push(escaped),
            'n' if quote == '"' => value.push('\n'),
            'r' if quote == '"' => value.push('\r'),
            't' if quote == '"' => value.push('\t'),
            'a' if quote == '"' => value.push('\u{7}'),
            'b' if quote == '"' => value.push('\u{8}'),
            'f' if quote == '"' => value.push('\u{c}'),
            'v' if quote == '"' => value.push('\u{b}'),
            _ => value.extend(['\\', escaped]),
        }
    }
    None
}

/// The line (from the `=` on) up to a comment: a `#` behind a blank. Trimmed.
fn unquoted(line: &str) -> &str {
    let comment = line.char_indices().find(|(at, one)| *one == '#' && line[..*at].ends_with(is_space));
    comment.map_or(line, |(at, _)| &line[..at]).trim_matches(is_space)
}

/// What Python's `\s` matches.
fn is_space(one: char) -> bool {
    one.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&one)
}

fn is_blank(one: char) -> bool {
    is_space(one) && one != '\n'
}

fn substitute(raw: &str, name: &str, values: &Values) -> Result<String, Problem> {
    let mut value = String::new();
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((reference, tail)) = after.split_once('}') else { break };
        value.push_str(before);
        let (reference, default) =
            reference.split_once(":-").map_or((reference, None), |(reference, default)| (reference, Some(default)));
        match (values.get(reference), default) {
            (Some(known), _) => value.push_str(known.expose_secret()),
            (None, Some(default)) => value.push_str(default),
            (None, None) => {
                return Err(Problem::Reference { name: name.to_owned(), reference: reference.to_owned() });
            }
        }
        rest = tail;
    }
    value.push_str(rest);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> BTreeMap<String, String> {
        let values = parse(text).unwrap();
        values.into_iter().map(|(name, value)| (name, value.expose_secret().to_owned())).collect()
    }

    #[test]
    fn the_forms_of_python_dotenv() {
        let text = "\u{feff}# comment\nA=1\r\nexport B = two # tail\nC='s p # $x ${A} \\n'\nD=\"l1\\nl2\"\nE=\nF=\"a\nb\"\n\
                    G=pa$word#1\nH=${A}-${NONE:-d}\nI\nA=last\n  J=\"x\" # c\nexport=1\nK=a=b==\n";
        let got = plain(text);
        let want = [
            ("A", "last"),
            ("B", "two"),
            ("C", "s p # $x 1 \\n"),
            ("D", "l1\nl2"),
            ("E", ""),
            ("F", "a\nb"),
            ("G", "pa$word#1"),
            ("H", "1-d"),
            ("J", "x"),
            ("K", "a=b=="),
            ("export", "1"),
        ];
        assert_eq!(got, want.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        assert!(plain("").is_empty());
    }

    #[test]
    fn a_hash_begins_a_comment_behind_a_blank_alone() {
        let got = plain("A=#x\nB= # c\nC=a#b\nD=a\t# c\nE=#\nF='#x'# c\n");
        assert_eq!(got.into_values().collect::<Vec<_>>(), ["#x", "", "a#b", "a", "#", "#x"]);
    }

    #[test]
    fn line_ends_of_other_systems_stay_out_of_values() {
        let got = plain("K=\"-----BEGIN\r\nAB\r\n-----END\"\r\nL=1\rM='a\rb'");
        assert_eq!(got.into_values().collect::<Vec<_>>(), ["-----BEGIN\nAB\n-----END", "1", "a\nb"]);
    }

    #[test]
    fn the_environment_is_not_read() {
        assert!(std::env::var("PATH").is_ok());
        let problem = Problem::Reference { name: "A".into(), reference: "PATH".into() };
        assert_eq!(parse("A=${PATH}").unwrap_err(), (1, problem));
        assert_eq!(plain("A=$PATH")["A"], "$PATH");
    }

    #[test]
    fn errors_name_the_line_and_not_the_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        for (text, line) in [
            ("A=1\nsk-secret secret\n", 2),
            ("A=\"sk-secret\n", 1),
            ("\n\nA='x' sk-secret", 3),
            ("A=1\nB=sk-secret\0\n", 2),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err();
            assert!(matches!(error, DotenvError::Line { line: found, .. } if found == line), "{error}");
            assert!(!format!("{error} {error:?}").contains("sk-secret"), "{error}");
        }
        std::fs::write(&path, b"A=1\nB=\xff\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().ends_with(".env:2: not UTF-8 text"));
        assert!(matches!(read(&folder.path().join("none")), Err(DotenvError::Unreadable { .. })));
    }

    /// Found by the fuzz target.
    #[test]
    fn names_are_names_that_a_process_can_have() {
        assert!(parse("'KEY'=x").unwrap().contains_key("KEY"));
        for text in ["'# a\0b'=x", "'A=B'=x", "'A B'=x", "''=x", "\0\u{e}orD=x", "export A\u{7f}=x", "A\0", "=x"] {
            assert_eq!(parse(text).unwrap_err(), (1, Problem::Syntax), "{text:?}");
        }
    }
}
