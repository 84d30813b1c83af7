//! Docker's token login: a short-lived token for a password, so that the password goes over the wire once.

use crate::base::secret::{MasterKey, hex};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// How long a token opens the registry, unless the password that it was given for works no more.
pub const LIFETIME: Duration = Duration::from_secs(300);

const PREFIX: &str = "rcreg_";

/// What a token opens: something of a kind (`repository`, `registry`) and what may be done with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// `repository`, or `registry`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The repository's name, or `catalog`.
    pub name: String,
    /// `pull`, `push`, `delete`.
    pub actions: Vec<String>,
}

impl Access {
    /// Reads scopes, as in `repository:NAME:pull,push` with blanks between several
    /// (distribution.github.io/distribution/spec/auth/scope). What is none is passed over.
    pub fn parse(scopes: &str) -> Vec<Self> {
        let one = |scope: &str| {
            let (kind, rest) = scope.split_once(':')?;
            // A name may hold a host's port.
            let (name, actions) = rest.rsplit_once(':')?;
            let actions = actions.split(',').filter(|action| !action.is_empty()).map(str::to_owned).collect();
            // `repository(plugin)`: the class is of no use here.
            let kind = kind.split_once('(').map_or(kind, |(kind, _)| kind).to_owned();
            Some(Self { kind, name: name.to_owned(), actions })
        };
        scopes.split_whitespace().filter_map(one).collect()
    }

    /// Whether it allows `action` on that.
    pub fn allows(&self, kind: &str, name: &str, action: &str) -> bool {
        self.kind == kind && self.name == name && self.actions.iter().any(|own| own == action || own == "*")
    }
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The id of the control API's token that was the password: what that one may is looked up with each request.
    pub owner: Uuid,
    /// What it opens; a token of before says nothing and opens nothing.
    #[serde(default)]
    pub access: Vec<Access>,
    /// Seconds since 1970.
    until: u64,
}

/// A token for `owner` that opens `access`.
pub fn issue(key: &MasterKey, owner: Uuid, access: Vec<Access>, now: SystemTime) -> String {
    let claims = Claims { owner, access, until: seconds(now + LIFETIME) };
    let text = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims).unwrap_or_default());
    let seal = seal(key, &text);
    format!("{PREFIX}{text}.{seal}")
}

/// What a token says, while it holds.
pub fn read(key: &MasterKey, token: &str, now: SystemTime) -> Option<Claims> {
    let (text, given) = token.strip_prefix(PREFIX)?.split_once('.')?;
    // Digests of both: equal ones are found out in a time that tells nothing of the seal.
    if key.mac(given.as_bytes()) != key.mac(seal(key, text).as_bytes()) {
        return None;
    }
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    // One of before the clock was set back would hold for as long as it was.
    (seconds(now)..=seconds(now + LIFETIME)).contains(&claims.until).then_some(claims)
}

fn seal(key: &MasterKey, text: &str) -> String {
    hex(&key.mac(format!("registry-token {text}").as_bytes()))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_for_its_time_and_for_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let key = MasterKey::ensure(&folder.path().join("key")).unwrap();
        let other = MasterKey::ensure(&folder.path().join("other")).unwrap();
        let owner = Uuid::now_v7();
        let now = SystemTime::now();
        let access = Access::parse("repository:a/b:pull,push");
        let token = issue(&key, owner, access.clone(), now);
        let claims = read(&key, &token, now).unwrap();
        assert_eq!((claims.owner, claims.access), (owner, access));
        assert_eq!(read(&key, &token, now + LIFETIME + Duration::from_secs(1)), None);
        assert_eq!(read(&key, &token, now - Duration::from_secs(86_400)), None, "the clock was set back");
        assert_eq!(read(&other, &token, now), None);
        let (text, seal) = token.split_once('.').unwrap();
        assert_eq!(read(&key, &format!("{text}A.{seal}"), now), None);
        assert_eq!(read(&key, "rcreg_", now), None);
    }

    #[test]
    fn scopes_are_read_and_open_what_they_name() {
        let access =
            Access::parse("repository:a/b:pull,push  repository(plugin):c:* registry:catalog:* x repository:d:");
        assert_eq!(access.len(), 4);
        let allows = |kind, name, action| access.iter().any(|one| one.allows(kind, name, action));
        for (kind, name, action) in
            [("repository", "a/b", "push"), ("repository", "c", "delete"), ("registry", "catalog", "pull")]
        {
            assert!(allows(kind, name, action), "{kind}:{name}:{action}");
        }
        for (kind, name, action) in [
            ("repository", "a/b", "delete"),
            ("repository", "a", "pull"),
            ("repository", "d", "pull"),
            ("registry", "a/b", "pull"),
        ] {
            assert!(!allows(kind, name, action), "{kind}:{name}:{action}");
        }
    }
}
