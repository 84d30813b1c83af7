//! The names that builds give their images: each holds whom the build was for, so that two servers, or two
//! projects, on one engine never take each other's, whatever their agents are called.

use crate::base::secret::sha256_digest;
use std::path::Path;
use uuid::Uuid;

/// What names of images with code begin with.
pub const BUILT_PREFIX: &str = "rapidclaw/";
/// Where images of everything but the code are.
pub const DEPS_REPOSITORY: &str = "rapidclaw-deps";
/// How many digits of a digest, and of a server's or a project's id, are in a name.
const DIGITS: usize = 12;
const SCOPE_DIGITS: usize = 8;
/// Behind a scope: an image of a step that the next build goes on from.
const STEP: &str = "step-";

/// Whom a build is for: `rapidclaw/AGENT:SCOPE.DIGEST`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope(String);

impl Scope {
    /// A server, of which the agent is.
    pub fn of_server(server: Uuid) -> Self {
        Self(server_digits(server))
    }

    /// A project's folder: built for nobody yet.
    pub fn of_project(folder: &Path) -> Self {
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let digest = sha256_digest(folder.as_os_str().as_encoded_bytes());
        Self(format!("p{}", &short(&digest)[..SCOPE_DIGITS]))
    }

    /// The name of the image of an agent with that digest of inputs.
    pub fn built(&self, agent: &str, inputs_digest: &str) -> String {
        format!("{}{}", self.prefix(agent), short(inputs_digest))
    }

    /// The name of an image of a step.
    pub fn step(&self, agent: &str, image: &str) -> String {
        format!("{}{STEP}{}", self.prefix(agent), short(image))
    }

    /// What the names of all images of an agent in this scope begin with.
    pub fn prefix(&self, agent: &str) -> String {
        format!("{BUILT_PREFIX}{agent}:{}.", self.0)
    }
}

/// The digits of a server's id that names hold.
pub fn server_digits(server: Uuid) -> String {
    let digits = server.simple().to_string();
    digits[digits.len() - SCOPE_DIGITS..].to_owned()
}

/// The first digits of a digest.
pub fn short(digest: &str) -> String {
    digest.trim_start_matches("sha256:").chars().take(DIGITS).collect()
}

/// The name of the image of everything but the code.
pub fn dependencies(digest: &str) -> String {
    format!("{DEPS_REPOSITORY}:{}", short(digest))
}

/// Whether a build has named an image so, and not a server: `…:SCOPE.0123456789ab`, and without a scope by versions
/// before.
pub fn is_builders_tag(name: &str) -> bool {
    let tag = tag_of(name);
    let digest = tag.split_once('.').map_or(tag, |(_, digest)| digest);
    digest.len() == DIGITS && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a build of a version before this one has named an image so: for nobody's in particular.
pub fn is_of_old(name: &str) -> bool {
    is_builders_tag(name) && !tag_of(name).contains('.')
}

/// Whether it names an image of a step.
pub fn is_steps_tag(name: &str) -> bool {
    tag_of(name).split_once('.').is_some_and(|(_, rest)| rest.starts_with(STEP))
}

fn tag_of(name: &str) -> &str {
    name.rsplit_once(':').map_or("", |(_, tag)| tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_whom_they_are_for() {
        let server = Scope::of_server(Uuid::from_u128(0x1234_5678));
        let built = server.built("a", "sha256:0123456789abcdef");
        assert_eq!(built, "rapidclaw/a:12345678.0123456789ab");
        assert!(is_builders_tag(&built) && !is_steps_tag(&built) && !is_of_old(&built));
        let step = server.step("a", "sha256:0123456789abcdef");
        assert_eq!(step, "rapidclaw/a:12345678.step-0123456789ab");
        assert!(is_steps_tag(&step) && !is_builders_tag(&step));
        let here = Scope::of_project(Path::new("/no/such/folder"));
        assert!(is_builders_tag(&here.built("a", "sha256:0123456789abcdef")));
        assert_ne!(here, Scope::of_project(Path::new("/no/other/folder")));
        // a server's own name, and one of a version before
        assert!(!is_builders_tag("rapidclaw/a:12345678-0123456789ab"));
        assert!(is_of_old("rapidclaw/a:0123456789ab"));
    }
}
