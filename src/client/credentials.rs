//! Where logins rest: a file that only its owner reads, `credentials.json` in the configuration folder.

use crate::base::paths;
use crate::base::secret::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Why logins could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file could not be used.
    #[error("the file of logins {path}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It is not what we write.
    #[error("the file of logins {path} is damaged")]
    Damaged {
        /// Which.
        path: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// The logins of this user.
#[derive(Debug)]
pub struct Credentials {
    path: PathBuf,
    stored: Stored,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    /// The server that commands talk to when they are not told.
    current: Option<String>,
    #[serde(default)]
    tokens: BTreeMap<String, Token>,
}

/// A token as it rests; never shown by `Debug`.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
struct Token(SecretString);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Token {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose_secret())
    }
}

impl Credentials {
    /// Reads the logins in `folder`; none when there is no file. A file that others may read is made private.
    pub fn load(folder: &Path) -> Result<Self, CredentialsError> {
        let path = folder.join("credentials.json");
        let file_error = |source| CredentialsError::File { path: path.display().to_string(), source };
        let stored = match std::fs::read(&path) {
            Ok(bytes) => {
                let meta = std::fs::metadata(&path).map_err(file_error)?;
                if meta.permissions().mode() & 0o077 != 0 {
                    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(file_error)?;
                }
                serde_json::from_slice(&bytes)
                    .map_err(|source| CredentialsError::Damaged { path: path.display().to_string(), source })?
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Stored::default()
            }
            Err(error) => return Err(file_error(error)),
        };
        Ok(Self { path, stored })
    }

    /// Where they rest.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The server that commands talk to when they are not told.
    pub fn current(&self) -> Option<&str> {
        self.stored.current.as_deref()
    }

    /// The token for a server.
    pub fn token(&self, server: &str) -> Option<&SecretString> {
        self.stored.tokens.get(server).map(|token| &token.0)
    }

    /// Makes a server the current one, with its token where it is to be kept; without one, what is kept stays.
    pub fn set(&mut self, server: &str, token: Option<SecretString>) -> Result<(), CredentialsError> {
        self.stored.current = Some(server.to_owned());
        if let Some(token) = token {
            self.stored.tokens.insert(server.to_owned(), Token(token));
        }
        self.save()
    }

    /// Forgets a server. Says whether it was known.
    pub fn forget(&mut self, server: &str) -> Result<bool, CredentialsError> {
        let mut known = self.stored.tokens.remove(server).is_some();
        if self.stored.current.as_deref() == Some(server) {
            self.stored.current = None;
            known = true;
        }
        self.save()?;
        Ok(known)
    }

    fn save(&self) -> Result<(), CredentialsError> {
        let file_error = |source| CredentialsError::File { path: self.path.display().to_string(), source };
        if let Some(folder) = self.path.parent() {
            paths::ensure_dir(folder, 0o700).map_err(file_error)?;
        }
        let text = serde_json::to_vec_pretty(&self.stored)
            .map_err(|source| CredentialsError::Damaged { path: self.path.display().to_string(), source })?;
        paths::write_private(&self.path, &text).map_err(file_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_rests_in_a_private_file_and_can_be_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let mut credentials = Credentials::load(folder.path()).unwrap();
        credentials.set("http://127.0.0.1:4120", Some(SecretString::from("t"))).unwrap();
        assert_eq!(std::fs::metadata(credentials.path()).unwrap().permissions().mode() & 0o777, 0o600);
        let mut again = Credentials::load(folder.path()).unwrap();
        assert_eq!(again.current(), Some("http://127.0.0.1:4120"));
        assert_eq!(again.token("http://127.0.0.1:4120").unwrap().expose_secret(), "t");
        assert!(!format!("{again:?}").contains("\"t\""));
        assert!(again.forget("http://127.0.0.1:4120").unwrap());
        assert!(Credentials::load(folder.path()).unwrap().current().is_none());
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("credentials.json"), "{").unwrap();
        assert!(matches!(Credentials::load(folder.path()), Err(CredentialsError::Damaged { .. })));
    }
}
