//! Blots secrets out of what replicas say.

use crate::base::plain::secret_parts;
use crate::base::secret::{ExposeSecret as _, SecretString};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Shorter values are no secrets worth the name, and would blot out half the log.
const SHORTEST: usize = 6;
/// Lines of a value that has several; shorter ones are words that stand in many logs.
const SHORTEST_LINE: usize = 16;
/// What stands in their place.
const BLOT: &str = "***";

/// Knows the values that must not be shown.
#[derive(Clone, Default)]
pub struct Redactor(Vec<SecretString>);

impl Redactor {
    /// Blots out what of these variables is a secret: values, and the lines of those that have several.
    pub fn new(secrets: &BTreeMap<String, SecretString>) -> Self {
        let mut redactor = Self::default();
        redactor.learn(secrets);
        redactor
    }

    /// Blots these out as well.
    pub fn learn(&mut self, secrets: &BTreeMap<String, SecretString>) {
        for part in parts(secrets) {
            if self.0.iter().all(|known| known.expose_secret() != part) {
                self.0.push(SecretString::from(part.into_owned()));
            }
        }
        // A value that holds another goes first, or its rest would stay.
        self.0.sort_by_key(|value| std::cmp::Reverse(value.expose_secret().len()));
    }

    /// Blots out what another one does as well.
    pub fn join(&mut self, other: &Self) {
        let new =
            other.0.iter().filter(|value| self.0.iter().all(|known| known.expose_secret() != value.expose_secret()));
        let new: Vec<SecretString> = new.cloned().collect();
        self.0.extend(new);
        self.0.sort_by_key(|value| std::cmp::Reverse(value.expose_secret().len()));
    }

    /// The line with every value blotted out.
    #[expect(clippy::needless_pass_by_value, reason = "the line is of no use afterwards")]
    pub fn redact(&self, line: String) -> String {
        self.0.iter().map(SecretString::expose_secret).fold(line.replace('\0', ""), |line, value| {
            if line.contains(value) { line.replace(value, BLOT) } else { line }
        })
    }
}

/// What of these variables is blotted out: what of their values is a secret, and the lines of those that have several.
pub fn parts(secrets: &BTreeMap<String, SecretString>) -> Vec<Cow<'_, str>> {
    let mut found = Vec::new();
    for (name, value) in secrets {
        for part in secret_parts(name, value.expose_secret()) {
            if let Cow::Borrowed(text) = part {
                let lines = text.lines().filter(|line| text.len() > line.len() && line.len() >= SHORTEST_LINE);
                found.extend(lines.map(Cow::Borrowed));
            }
            found.push(part);
        }
    }
    found.retain(|part| part.len() >= SHORTEST);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(values: &[&str]) -> Redactor {
        let named = values.iter().enumerate().map(|(n, value)| (format!("KEY_{n}"), SecretString::from(*value)));
        Redactor::new(&named.collect())
    }

    #[test]
    fn secrets_are_blotted_out_and_short_values_are_none() {
        let redactor = redactor(&["sk-123456", "debug"]);
        assert_eq!(redactor.redact("bad key sk-123456! debug".into()), "bad key ***! debug");
        let plain = BTreeMap::from([("OPENAI_MODEL".to_owned(), SecretString::from("gpt-4o-mini"))]);
        assert_eq!(Redactor::new(&plain).redact("asks gpt-4o-mini".into()), "asks gpt-4o-mini");
        assert_eq!(redactor.redact("fine\0".into()), "fine");
    }

    #[test]
    fn of_a_value_within_another_nothing_stays() {
        let redactor = redactor(&["secret", "secret-and-more"]);
        assert_eq!(redactor.redact("x secret-and-more secret".into()), "x *** ***");
    }

    #[test]
    fn each_line_of_a_long_value_is_blotted_out() {
        let redactor = redactor(&["-----BEGIN-----\nMIIEvQIBADANBgkqhkiG\nshort\n"]);
        assert_eq!(redactor.redact("MIIEvQIBADANBgkqhkiG".into()), "***");
        assert_eq!(redactor.redact("a short line".into()), "a short line");
    }

    #[test]
    fn values_that_came_later_are_known_too() {
        let mut redactor = redactor(&["yesterday"]);
        redactor.learn(&BTreeMap::from([("KEY".to_owned(), SecretString::from("tomorrow"))]));
        assert_eq!(redactor.redact("yesterday tomorrow".into()), "*** ***");
    }
}
