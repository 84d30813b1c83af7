//! What of an environment is a secret, and what is the name of a model, an address or a number, which logs may show.
//! By the variable's name or by its value; in doubt a value is a secret.

use crate::base::text::percent_decoded;
use std::borrow::Cow;

/// Words of names whose values are secrets, whatever they look like.
const WORDS: [&str; 28] = [
    "KEY",
    "KEYS",
    "APIKEY",
    "TOKEN",
    "SECRET",
    "SECRETS",
    "PASSWORD",
    "PASSWORDS",
    "PASSWD",
    "PASSPHRASE",
    "PASS",
    "PWD",
    "CREDENTIAL",
    "CREDENTIALS",
    "CREDS",
    "AUTH",
    "OAUTH",
    "AUTHORIZATION",
    "PRIVATE",
    "DSN",
    "CONNECTION",
    "CONN",
    "COOKIE",
    "JWT",
    "BEARER",
    "SALT",
    "SIGNATURE",
    "PAT",
];
/// Ends and beginnings of such words where nothing parts them (`MYAPIKEY`, `dbpassword`).
const WITHIN: [&str; 6] = ["APIKEY", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "PRIVATEKEY"];
/// What keys of known services begin with.
const PREFIXES: [&str; 30] = [
    "sk-",
    "sk_",
    "pk_",
    "rk_",
    "pk-",
    "lsv2_",
    "ls__",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "AKIA",
    "ASIA",
    "AIza",
    "xox",
    "hf_",
    "gsk_",
    "r8_",
    "npm_",
    "pypi-",
    "SG.",
    "tok-",
    "tok_",
    "eyJ",
    "whsec_",
    "Bearer ",
    "-----BEGIN",
];
/// The longest word and the longest number that a plain value is made of, and the longest mixture of both (`4o`,
/// `8x7b`, `Llama3`).
const WORD: usize = 16;
const NUMBER: usize = 10;
const MIXTURE: usize = 6;

/// Which parts of a variable's value are secrets: the whole, the login of an address, or nothing.
pub fn secret_parts<'v>(name: &str, value: &'v str) -> Vec<Cow<'v, str>> {
    if value.is_empty() || (is_number(value) && !is_password(name)) {
        return Vec::new();
    }
    if names_a_secret(name) || PREFIXES.iter().any(|prefix| value.starts_with(prefix)) {
        return vec![Cow::Borrowed(value)];
    }
    match address(value) {
        Some(Address { login: Some(login), is_plain: true }) => of_login(login),
        Some(Address { login: None, is_plain: true }) => Vec::new(),
        None if is_plain(value) => Vec::new(),
        _ => vec![Cow::Borrowed(value)],
    }
}

/// The words of a name: `OPENAI_API_KEY`, `openai-api-key`, `openaiApiKey`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for character in name.chars() {
        if !character.is_ascii_alphanumeric() || (character.is_ascii_uppercase() && before.is_ascii_lowercase()) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| character.is_ascii_alphanumeric()) {
            word.push(character.to_ascii_uppercase());
        }
        before = character;
    }
    words
}

fn names_a_secret(name: &str) -> bool {
    words(name).iter().any(|word| WORDS.contains(&word.as_str()) || WITHIN.iter().any(|one| word.contains(one)))
}

/// A password may be a number; the most tokens, a port and a time are no secrets.
fn is_password(name: &str) -> bool {
    names_a_secret(name) && !words(name).iter().any(|word| ["MAX", "MIN", "LIMIT", "COUNT", "TTL"].contains(&&**word))
}

fn is_number(value: &str) -> bool {
    value.len() <= WORD && value.parse::<f64>().is_ok()
}

/// An address, `SCHEME://LOGIN@REST`.
struct Address<'v> {
    login: Option<&'v str>,
    /// Whether the rest is nothing but names.
    is_plain: bool,
}

fn address(value: &str) -> Option<Address<'_>> {
    let (scheme, rest) = value.split_once("://")?;
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if scheme.is_empty() || !scheme.bytes().all(is_scheme) || rest.contains(char::is_whitespace) {
        return None;
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (login, host) = match authority.rsplit_once('@') {
        Some((login, host)) => (Some(login).filter(|login| !login.is_empty()), host),
        None => (None, authority),
    };
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    // `?sslmode=require` is plain, `?sig=…` is not, nor is a password with a slash, which nobody can tell apart.
    let is_query = query.split('&').filter(|pair| !pair.is_empty()).all(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        !names_a_secret(name) && !name.eq_ignore_ascii_case("sig") && is_plain(value)
    });
    Some(Address { login, is_plain: is_plain(host) && is_plain(path) && !path.contains('@') && is_query })
}

/// What of `USER:PASSWORD` is blotted out: together, and what is long enough to be known again alone.
fn of_login(login: &str) -> Vec<Cow<'_, str>> {
    let mut parts = vec![Cow::Borrowed(login)];
    let secret = login.split_once(':').map_or(login, |(_, password)| password);
    if secret != login && !secret.is_empty() {
        parts.push(Cow::Borrowed(secret));
    }
    parts.extend(percent_decoded(secret).filter(|decoded| decoded != secret).map(Cow::Owned));
    parts
}

/// Whether a value is words and numbers: a model's name, a host, a path, a list of those.
fn is_plain(value: &str) -> bool {
    let parts = |character: char| character.is_whitespace() || "-_./:,;@=[]*".contains(character);
    value.split(parts).filter(|token| !token.is_empty()).all(is_plain_token)
}

fn is_plain_token(token: &str) -> bool {
    if token.chars().any(|one| !one.is_alphanumeric()) {
        return false;
    }
    let (letters, digits) = (token.chars().any(char::is_alphabetic), token.chars().any(char::is_numeric));
    let length = token.chars().count();
    match (letters, digits) {
        (true, true) => length <= MIXTURE,
        (false, _) => length <= NUMBER,
        // `DeepSeek` is a word, `aGVsbG8K` is none.
        (true, false) => length <= WORD && changes(token) <= 2,
    }
}

/// How often a capital follows a small letter.
fn changes(token: &str) -> usize {
    token.as_bytes().windows(2).filter(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_secret_is_shown() {
        for (name, value) in [
            ("OPENAI_MODEL", "gpt-4o-mini-2024-07-18"),
            ("MODEL", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
            ("MODEL", "anthropic.claude-3-5-sonnet-20241022-v2:0"),
            ("MODEL", "deepseek-ai/DeepSeek-V3"),
            ("EMBEDDINGS", "text-embedding-3-small"),
            ("OPENAI_BASE_URL", "https://api.openai.com/v1"),
            ("OLLAMA_HOST", "http://127.0.0.1:11434"),
            ("SERVICE", "https://eu.example.com:8443/v1/search?lang=en&size=20"),
            ("LOG_LEVEL", "debug"),
            ("DEBUG", "true"),
            ("MAX_TOKENS", "128000"),
            ("MAX_TOKEN", "1280000"),
            ("TIMEOUT", "1200.5"),
            ("AWS_REGION", "eu-central-1"),
            ("AUTHOR", "the team"),
            ("LANGSMITH_PROJECT", "customer support, production"),
            ("KEYWORDS", "orders,invoices"),
            ("DATA", "/var/lib/data/index.db"),
            ("CONTACT", "support@example.com"),
            ("EMPTY_KEY", ""),
        ] {
            assert_eq!(secret_parts(name, value), Vec::<Cow<'_, str>>::new(), "{name}={value}");
        }
    }

    #[test]
    fn what_may_be_a_secret_is_not() {
        for (name, value) in [
            ("OPENAI_API_KEY", "plainword"),
            ("openaiApiKey", "plainword"),
            ("MYAPIKEY", "plainword"),
            ("DB_PASSWORD", "123456"),
            ("PGPASSWORD", "summer"),
            ("POSTGRES_DSN", "host=db user=app"),
            ("AZURE_CONNECTION", "Endpoint=sb"),
            ("BASIC_AUTH", "ann:summer"),
            ("ANYTHING", "sk-proj-abc"),
            ("ANYTHING", "lsv2_pt_1"),
            ("ANYTHING", "ghp_abcdef"),
            ("ANYTHING", "AKIAIOSFODNN7EXAMPLE"),
            ("ANYTHING", "eyJhbGciOi"),
            ("ANYTHING", "550e8400-e29b-41d4-a716-446655440000"),
            ("ANYTHING", "aGVsbG8gd29ybGQgaGk"),
            ("ANYTHING", "wJalrXUtnFEMI/K7MDENG/bPxRfiCY"),
            ("ANYTHING", "hunter2!"),
            ("ANYTHING", "{\"a\": \"b\"}"),
            ("ANYTHING", "12345678901234567890"),
            ("HOOK", "https://hooks.example.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"),
            ("BLOB", "https://x.example.com/a?sig=plain"),
            ("BLOB", "https://x.example.com/a?api_key=plain"),
        ] {
            assert_eq!(secret_parts(name, value), [value], "{name}={value}");
        }
    }

    #[test]
    fn of_an_address_with_a_login_the_login_is_the_secret() {
        let url = "postgresql://app:s%40fe-and-long@db.example.com:5432/orders?sslmode=require";
        assert_eq!(secret_parts("DATABASE_URL", url), ["app:s%40fe-and-long", "s%40fe-and-long", "s@fe-and-long"]);
        assert_eq!(secret_parts("REDIS_URL", "redis://:summer@cache:6379/0"), [":summer", "summer"]);
        assert_eq!(secret_parts("GIT", "https://sometoken@git.example.com/x.git"), ["sometoken"]);
        // A password that is not encoded as it should be leaves nobody sure where it ends.
        let odd = "postgresql://app:a/b@db/orders";
        assert_eq!(secret_parts("DATABASE_URL", odd), [odd]);
    }
}
