//! Secrets in memory, their hashes and their encryption at rest.
//!
//! A value that must not be shown is a [`SecretString`]: its `Debug` says nothing and its memory is
//! cleared. Tokens are random and long, so that a plain SHA-256 is their right hash.

use crate::base::paths;
use aes_gcm::aead::{Aead, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use hmac::{Hmac, Mac};
pub use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::path::Path;

/// What can go wrong with the key file or a sealed value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The key file could not be read or written.
    #[error("the key file {path}")]
    KeyFile {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The key file is not 32 bytes of hexadecimal.
    #[error("the key file {0} does not hold 64 hexadecimal digits")]
    KeyFormat(String),
    /// The key file has gone, and what was sealed with it has not.
    #[error("the key file {0} is not there, and this server's secrets are sealed with it")]
    KeyLost(String),
    /// The key file holds another key than that of before.
    #[error("the key in {0} is not the one that this server's secrets are sealed with")]
    KeyChanged(String),
    /// A stored value does not open with this key.
    #[error("a stored secret cannot be opened with this server's key file")]
    Open,
    /// The system gave no random bytes.
    #[error("no random bytes from the system")]
    Random,
}

/// SHA-256 of a token, as it is stored.
pub fn token_hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Lowercase hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

/// `sha256:` and the digest's hexadecimal, as images and inputs are named.
pub fn sha256_digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// What Postgres stores of a password (`SCRAM-SHA-256$ITERATIONS:SALT$STORED:SERVER`; RFC 5802, RFC 7677): with
/// it in place of the password a role can be made without telling the password.
pub fn scram_verifier(password: &str) -> Result<String, SecretError> {
    const ITERATIONS: u32 = 4096;
    let mut salt = [0_u8; 16];
    getrandom::fill(&mut salt).map_err(|_| SecretError::Random)?;
    let hmac = |key: &[u8], parts: &[&[u8]]| -> [u8; 32] {
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key)
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    };
    let mut round = hmac(password.as_bytes(), &[&salt, &1_u32.to_be_bytes()]);
    let mut salted = round;
    for _ in 1..ITERATIONS {
        round = hmac(password.as_bytes(), &[&round]);
        salted.iter_mut().zip(round).for_each(|(sum, byte)| *sum ^= byte);
    }
    let stored = Sha256::digest(hmac(&salted, &[b"Client Key"]));
    let server = hmac(&salted, &[b"Server Key"]);
    let text = |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    Ok(format!("SCRAM-SHA-256${ITERATIONS}:{}${}:{}", text(&salt), text(&stored), text(&server)))
}

/// The server's own key: seals secrets at rest (AES-256-GCM) and derives replicas' secrets.
#[derive(Clone)]
pub struct MasterKey([u8; 32]);

impl MasterKey {
    /// Reads the key file, or makes it (mode 0600) when there is none.
    pub fn ensure(path: &Path) -> Result<Self, SecretError> {
        Self::find(path)?.map_or_else(|| Self::create(path), Ok)
    }

    /// Reads the key file, where there is one. It has to be this user's alone.
    pub fn find(path: &Path) -> Result<Option<Self>, SecretError> {
        let io = |source| SecretError::KeyFile { path: path.display().to_string(), source };
        let Some(text) = paths::read_private(path).map_err(io)? else { return Ok(None) };
        let key = Self::parse(text.trim()).ok_or_else(|| SecretError::KeyFormat(path.display().to_string()))?;
        Ok(Some(key))
    }

    /// Makes a key and its file (mode 0600).
    pub fn create(path: &Path) -> Result<Self, SecretError> {
        let mut key = [0_u8; 32];
        getrandom::fill(&mut key).map_err(|_| SecretError::Random)?;
        paths::write_private(path, hex(&key).as_bytes())
            .map_err(|source| SecretError::KeyFile { path: path.display().to_string(), source })?;
        Ok(Self(key))
    }

    /// What tells this key from others without telling it.
    pub fn check(&self) -> String {
        hex(&self.mac(b"rapidclaw key check"))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut key = [0_u8; 32];
        hex::decode_to_slice(text, &mut key).ok()?;
        Some(Self(key))
    }

    /// Nonce and ciphertext of `plain`, bound to `context` (where the value belongs).
    pub fn seal(&self, context: &str, plain: &str) -> Result<Vec<u8>, SecretError> {
        let mut nonce = [0_u8; 12];
        getrandom::fill(&mut nonce).map_err(|_| SecretError::Random)?;
        let payload = aes_gcm::aead::Payload { msg: plain.as_bytes(), aad: context.as_bytes() };
        let cipher = self.cipher();
        let sealed = cipher.encrypt(&Nonce::from(nonce), payload).map_err(|_| SecretError::Open)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// The plain text of what [`MasterKey::seal`] made for the same `context`.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<SecretString, SecretError> {
        let (nonce, text) = sealed.split_first_chunk::<12>().ok_or(SecretError::Open)?;
        let payload = aes_gcm::aead::Payload { msg: text, aad: context.as_bytes() };
        let plain = self.cipher().decrypt(&Nonce::from(*nonce), payload).map_err(|_| SecretError::Open)?;
        String::from_utf8(plain).map(SecretString::from).map_err(|_| SecretError::Open)
    }

    /// A secret that this server can derive again for `purpose` at any time: nothing to store.
    pub fn derive(&self, purpose: &str) -> SecretString {
        SecretString::from(hex(&self.mac(purpose.as_bytes())))
    }

    /// Keyed digest of `bytes`: equal for equal values, of no use to whoever reads it.
    pub fn mac(&self, bytes: &[u8]) -> [u8; 32] {
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&self.0)
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        mac.update(bytes);
        mac.finalize().into_bytes().into()
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(&self.0.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_the_same_key_and_context_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = MasterKey::ensure(&path).unwrap();
        let again = MasterKey::ensure(&path).unwrap();
        let sealed = key.seal("agent/NAME", "hunter2").unwrap();
        assert!(!sealed.windows(7).any(|part| part == b"hunter2"));
        assert_eq!(again.open("agent/NAME", &sealed).unwrap().expose_secret(), "hunter2");
        assert!(key.open("other/NAME", &sealed).is_err());
        assert!(key.open("agent/NAME", &sealed[..8]).is_err());
    }

    #[test]
    fn a_damaged_key_file_is_an_error_and_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        paths::write_private(&path, b"zz").unwrap();
        assert!(matches!(MasterKey::ensure(&path), Err(SecretError::KeyFormat(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "zz");
    }
}
