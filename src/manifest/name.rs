//! The rule of agents' names.

/// Most characters of a name: it becomes part of host names and labels.
const MAX_NAME: usize = 40;

/// `[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?`
pub fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// `text` as a name: lowercase, everything else a hyphen, cut to length. `None` when nothing is left.
pub fn to_name(text: &str) -> Option<String> {
    let mut name = String::new();
    for character in text.chars() {
        let character = character.to_ascii_lowercase();
        if character.is_ascii_alphanumeric() {
            name.push(character);
        } else if !name.ends_with('-') && !name.is_empty() {
            name.push('-');
        }
    }
    name.truncate(MAX_NAME);
    let name = name.trim_end_matches('-');
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["a", "agent", "agent-2", &"x".repeat(40)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "-a", "a-", "A", "a_b", "a.b", "é", &"x".repeat(41)] {
            assert!(!is_name(name), "{name}");
        }
        assert_eq!(to_name("My Agent__v2!").as_deref(), Some("my-agent-v2"));
        assert_eq!(to_name("  ..").as_deref(), None);
        assert!(is_name(&to_name(&"long name ".repeat(9)).unwrap()));
    }
}
