//! `"database": "auto"`: whether a project's code asks its environment for a Postgres database.
//!
//! The code is read, not run: words and strings of each Python file that enters the image, without comments.
//! Too much found costs an empty database; too little a graph that cannot be imported.

use crate::manifest::files::Files;
use crate::manifest::tokens::{Token, scan};
use crate::manifest::{Manifest, OwnDatabase, sources};
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::path::Path;

/// The variables that graphs open their database by: the usual one, and LangGraph's own.
pub const VARIABLES: [&str; 2] = ["DATABASE_URL", "POSTGRES_URI"];

/// Calls that set a variable.
const SETTERS: [&str; 5] = ["setdefault", "setenv", "putenv", "unsetenv", "delenv"];

/// The key, beside those that people write, under which a deployed manifest says what was found in the project:
/// a server sees no code.
const FOUND: &str = "x-rapidclaw";
const READS: &str = "reads_database";

/// The manifest as it is deployed.
pub fn with_what_was_found(manifest: &Manifest, folder: &Path) -> Value {
    let mut raw = manifest.raw.clone();
    if let Value::Object(keys) = &mut raw {
        keys.remove(FOUND);
        if manifest.section.database == OwnDatabase::Auto && is_read(manifest, folder) {
            keys.insert(FOUND.to_owned(), json!({ READS: true }));
        }
    }
    raw
}

/// Whether the sender of a deployed manifest has found that the code reads one of [`VARIABLES`].
pub fn was_read(raw: &Value) -> bool {
    raw[FOUND][READS] == true
}

/// Whether the code in the manifest's `dependencies` reads one of [`VARIABLES`].
fn is_read(manifest: &Manifest, folder: &Path) -> bool {
    let names_one = |text: &str| VARIABLES.iter().any(|name| contains_ignoring_case(text, name));
    let mut found = false;
    let mut files = Files::default();
    let all = sources::find(manifest, folder, &mut files);
    sources::each(manifest, folder, (&all, &mut files), names_one, |_, text| {
        found = reads(text);
        if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    found
}

/// Whether a module's text reads one of [`VARIABLES`].
fn reads(text: &str) -> bool {
    if !VARIABLES.iter().any(|name| contains_ignoring_case(text, name)) {
        return false;
    }
    let mut tokens = Vec::new();
    scan(text, true, &mut tokens);
    let has = |word: &str| tokens.contains(&Token::Word(word));
    // Pydantic's fields bear the variables' names, in letters of either case; a prefix makes others of them.
    let is_settings = has("BaseSettings") && !has("env_prefix");
    let flat: Vec<Token<'_>> = tokens.iter().filter(|token| **token != Token::Line).cloned().collect();
    let is_looked_up = |(at, token): (usize, &Token<'_>)| {
        matches!(token, Token::Text(name) if VARIABLES.contains(name)) && is_read_at(&flat, at)
    };
    let is_field = |(at, token): (usize, &Token<'_>)| match token {
        Token::Word(name) if is_settings && VARIABLES.iter().any(|one| one.eq_ignore_ascii_case(name)) => {
            let begins = at == 0 || tokens[at - 1] == Token::Line;
            begins && tokens.get(at + 1) == Some(&Token::Sign(':')) && !has_other_default(&tokens[at + 2..])
        }
        _ => false,
    };
    flat.iter().enumerate().any(is_looked_up) || tokens.iter().enumerate().any(is_field)
}

/// Whether the name at `at` is looked up: `environ[NAME]`, `getenv(NAME)`, `NAME in environ`, `alias=NAME`.
fn is_read_at(tokens: &[Token<'_>], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).and_then(|at| tokens.get(at));
    let after = |on: usize| tokens.get(at + on);
    match before(1) {
        Some(Token::Sign('[')) => {
            let is_set = after(2) == Some(&Token::Sign('=')) && after(3) != Some(&Token::Sign('='));
            matches!(before(2), Some(Token::Word(_))) && after(1) == Some(&Token::Sign(']')) && !is_set
        }
        Some(Token::Sign('(')) => match before(2) {
            Some(Token::Word(call)) if SETTERS.contains(call) => false,
            Some(Token::Word(_)) => after(1) != Some(&Token::Sign(',')) || !is_other_default(&tokens[at + 2..]),
            _ => false,
        },
        Some(Token::Sign('=')) => matches!(before(2), Some(Token::Word("env" | "alias" | "validation_alias"))),
        _ => after(1) == Some(&Token::Word("in")),
    }
}

/// Whether what follows is a default of the code's own that is no Postgres: then it needs none.
fn is_other_default(rest: &[Token<'_>]) -> bool {
    let ([Token::Text(text), ..] | [Token::Word(_), Token::Sign('='), Token::Text(text), ..]) = rest else {
        return false;
    };
    !text.is_empty() && !text.starts_with("postgres")
}

/// The same for a field: `database_url: str = "sqlite://"`.
fn has_other_default(rest: &[Token<'_>]) -> bool {
    let line = rest.split(|token| *token == Token::Line).next().unwrap_or_default();
    let value = line.iter().position(|token| *token == Token::Sign('='));
    value.is_some_and(|at| is_other_default(&line[at + 1..]))
}

fn contains_ignoring_case(text: &str, name: &str) -> bool {
    text.as_bytes().windows(name.len()).any(|part| part.eq_ignore_ascii_case(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_ask_for_a_database_is_seen() {
        for text in [
            "pool = ConnectionPool(\n    conninfo=os.environ[\"DATABASE_URL\"],\n)",
            "url = os.environ['POSTGRES_URI']",
            "url = getenv('DATABASE_URL')",
            "url = os.getenv(\n  'DATABASE_URL',\n  'postgresql://localhost/dev')",
            "url = os.environ.get('DATABASE_URL', None)",
            "url = os.environ.get('DATABASE_URL', '')",
            "url = f\"{os.environ['DATABASE_URL']}?sslmode=disable\"",
            "url = config('DATABASE_URL', default='postgres://x')",
            "if 'DATABASE_URL' in os.environ: pass",
            "assert os.environ['DATABASE_URL'] == 'x'",
            "class S(BaseSettings):\n    database_url: str\n",
            "class S(BaseSettings):\n    POSTGRES_URI: PostgresDsn = Field(...)\n",
            "class S(BaseSettings):\n    url: str = Field(alias='DATABASE_URL')\n",
            "x = r'\\'\nurl = os.environ[\"DATABASE_URL\"]",
        ] {
            assert!(reads(text), "{text}");
        }
    }

    #[test]
    fn what_asks_for_none_is_given_none() {
        for text in [
            "",
            "# os.environ['DATABASE_URL']",
            "'''os.environ[\"DATABASE_URL\"] has to be set'''",
            "\"\"\"\nurl = os.environ['DATABASE_URL']\n\"\"\"",
            "os.environ['DATABASE_URL'] = 'sqlite://'",
            "os.environ.setdefault('DATABASE_URL', 'x')",
            "monkeypatch.setenv('DATABASE_URL', 'x')",
            "url = os.getenv('DATABASE_URL', 'sqlite:///app.db')",
            "url = config('DATABASE_URL', default='sqlite:///app.db')",
            "DATABASE_URL = 'x'\nprint(DATABASE_URL)",
            "url = os.environ['MY_DATABASE_URL']",
            "print('DATABASE_URL')if False else x['a']",
            "class S(BaseSettings):\n    database_url: str = 'sqlite://'\n",
            "class S(BaseSettings):\n    model_config = SettingsConfigDict(env_prefix='APP_')\n    database_url: str\n",
            "class S(BaseModel):\n    database_url: str\n",
            "x = 'never ends",
            "\\",
        ] {
            // A word that is handed to any call may be looked up there: that one is the price.
            assert_eq!(reads(text), text.starts_with("print("), "{text}");
        }
    }
}
