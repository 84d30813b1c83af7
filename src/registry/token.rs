//! Docker's token login: a short-lived token for a password, so that the password goes over the wire once.

use crate::base::secret::{MasterKey, hex};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a token opens the registry. A revoked password's opens it so long, too.
pub const LIFETIME: Duration = Duration::from_secs(300);

const PREFIX: &str = "rcreg_";

/// Who a token belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The name of the password's token.
    pub name: String,
    /// Its role.
    pub role: String,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    owner: Owner,
    /// Seconds since 1970.
    until: u64,
}

/// A token for `owner`.
pub fn issue(key: &MasterKey, owner: Owner, now: SystemTime) -> String {
    let claims = Claims { owner, until: seconds(now + LIFETIME) };
    let text = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims).unwrap_or_default());
    let seal = seal(key, &text);
    format!("{PREFIX}{text}.{seal}")
}

/// Whose token it is, while it holds.
pub fn read(key: &MasterKey, token: &str, now: SystemTime) -> Option<Owner> {
    let (text, given) = token.strip_prefix(PREFIX)?.split_once('.')?;
    // Digests of both: equal ones are found out in a time that tells nothing of the seal.
    if key.mac(given.as_bytes()) != key.mac(seal(key, text).as_bytes()) {
        return None;
    }
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    // One of before the clock was set back would hold for as long as it was.
    (seconds(now)..=seconds(now + LIFETIME)).contains(&claims.until).then_some(claims.owner)
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
        let owner = Owner { name: "admin".into(), role: "admin".into() };
        let now = SystemTime::now();
        let token = issue(&key, owner.clone(), now);
        assert_eq!(read(&key, &token, now), Some(owner));
        assert_eq!(read(&key, &token, now + LIFETIME + Duration::from_secs(1)), None);
        assert_eq!(read(&key, &token, now - Duration::from_secs(86_400)), None, "the clock was set back");
        assert_eq!(read(&other, &token, now), None);
        let (text, seal) = token.split_once('.').unwrap();
        assert_eq!(read(&key, &format!("{text}A.{seal}"), now), None);
        assert_eq!(read(&key, "rcreg_", now), None);
    }
}
