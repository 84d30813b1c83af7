//! The versions that `api_version` takes.

/// `0.8`, `0.8.1rc1`, `~=0.8`, `>~=0.15`; langgraph-cli's `_API_VERSION_PATTERN`.
pub(super) fn is_api_version(text: &str) -> bool {
    let text = text.strip_prefix(">~=").or_else(|| text.strip_prefix("~=")).map_or(text, str::trim);
    let core = text.split('-').next().unwrap_or_default();
    let mut rest = core;
    let mut numbers = 0;
    while numbers < 3 {
        let digits = rest.len() - rest.trim_start_matches(|one: char| one.is_ascii_digit()).len();
        if digits == 0 {
            return false;
        }
        numbers += 1;
        rest = &rest[digits..];
        match rest.strip_prefix('.') {
            Some(after) if after.starts_with(|one: char| one.is_ascii_digit()) && numbers < 3 => rest = after,
            _ => break,
        }
    }
    let suffix = rest.strip_prefix('.').unwrap_or(rest);
    rest.is_empty()
        || (suffix.starts_with(|one: char| one.is_ascii_alphabetic())
            && suffix.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_versions() {
        for text in ["0.8", "1", "0.8.1rc1", "0.8.1.rc1", "~=0.15", ">~= 0.15", "0.8-dev", "0.2.dev"] {
            assert!(is_api_version(text), "{text}");
        }
        for text in ["", ">=0.8", "v1", "0.8.1.2", "0.", "latest", "0.8 rc"] {
            assert!(!is_api_version(text), "{text}");
        }
    }
}
