//! Names, tags and digests by the grammar of the distribution specification. What parses is safe as a path:
//! no part begins with a dot or holds a slash of its own, and repositories' parts never begin with `_`.

use crate::base::secret::hex;
use std::fmt;

/// The longest name of a repository: a path of this machine shall hold it.
const MAX_REPOSITORY: usize = 255;
/// The longest tag.
const MAX_TAG: usize = 128;
const SHA256: &str = "sha256:";

/// A repository's name: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, and more of those behind slashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository(String);

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

/// `sha256:` and 64 lowercase hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// What a manifest is asked for by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A name that may move.
    Tag(Tag),
    /// Its content.
    Digest(Digest),
}

impl Repository {
    /// The repository of that name, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = text.len() <= MAX_REPOSITORY && text.split('/').all(is_part);
        fits.then(|| Self(text.to_owned()))
    }

    /// The repository of an agent's images.
    pub fn of_agent(name: &str) -> Option<Self> {
        Self::parse(&format!("rapidclaw/{name}"))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_part(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = |byte: Option<&u8>| byte.copied().is_some_and(plain);
    let separators = text.split(|character: char| character.is_ascii() && plain(character as u8));
    ends(text.as_bytes().first())
        && ends(text.as_bytes().last())
        && separators
            .into_iter()
            .all(|one| matches!(one, "" | "." | "_" | "__") || one.bytes().all(|byte| byte == b'-'))
}

impl Tag {
    /// The tag, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        let first = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let rest = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        let fits = text.len() <= MAX_TAG && text.as_bytes().first().is_some_and(first) && text.bytes().all(rest);
        fits.then(|| Self(text.to_owned()))
    }

    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Digest {
    /// The digest, if it is one that is kept here.
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_hex(text.strip_prefix(SHA256)?)
    }

    /// The digest of these digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        // One spelling of each: it names a file.
        (!text.bytes().any(|byte| byte.is_ascii_uppercase())).then_some(Self(bytes))
    }

    /// The digest of some content.
    pub fn of(content: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(content).into())
    }

    /// What a hasher has come to.
    pub fn finish(hasher: sha2::Sha256) -> Self {
        use sha2::Digest as _;
        Self(hasher.finalize().into())
    }

    /// Its digits.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SHA256}{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Reference {
    /// A digest where it is one, else a tag.
    pub fn parse(text: &str) -> Option<Self> {
        Digest::parse(text).map(Self::Digest).or_else(|| Tag::parse(text).map(Self::Tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    #[test]
    fn names_follow_the_grammar() {
        for name in ["a", "library/ubuntu", "a.b/c_d/e__f/g--h/9", "0/0", &"a/".repeat(127)[..253]] {
            assert!(Repository::parse(name).is_some(), "{name}");
        }
        let bad = [
            "", "/", "a/", "/a", "a//b", "A", "a..b", "a___b", "_a", "a_", "a/.", "a/../b", ".", "a._b", "é", "a%2fb",
            "a\0",
        ];
        for name in bad.into_iter().chain([&*"a".repeat(256)]) {
            assert!(Repository::parse(name).is_none(), "{name}");
        }
    }

    #[test]
    fn tags_and_digests_follow_the_grammar() {
        for tag in ["latest", "_x", "1.0-rc.1", "A", &"t".repeat(128)] {
            assert!(Tag::parse(tag).is_some(), "{tag}");
        }
        for tag in ["", ".", "..", "-a", "a/b", "a:b", "é", &"t".repeat(129)] {
            assert!(Tag::parse(tag).is_none(), "{tag}");
        }
        let digest = Digest::of(b"");
        assert_eq!(digest.to_string(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest.clone()));
        for wrong in
            [digest.hex(), digest.to_string().to_uppercase(), format!("{digest}0"), format!("sha512:{}", digest.hex())]
        {
            assert_eq!(Digest::parse(&wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_is_what_the_specifications_expression_matches(text in "[a-cA0._/-]{0,12}") {
            let expression = regex::Regex::new(r"^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$").unwrap();
            prop_assert_eq!(Repository::parse(&text).is_some(), expression.is_match(&text), "{}", text);
            let expression = regex::Regex::new(r"^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$").unwrap();
            prop_assert_eq!(Tag::parse(&text).is_some(), expression.is_match(&text), "{}", text);
        }

        #[test]
        fn what_parses_stays_below_its_folder(text in ".{0,40}") {
            let below = |path: &str| Path::new(path).components().all(|one| matches!(one, Component::Normal(_)));
            if let Some(name) = Repository::parse(&text) {
                prop_assert!(below(name.as_str()) && name.as_str().split('/').all(|part| !part.starts_with(['_', '.'])));
            }
            if let Some(tag) = Tag::parse(&text) {
                prop_assert!(below(tag.as_str()) && !tag.as_str().contains('/') && !tag.as_str().starts_with('.'));
            }
        }
    }
}
