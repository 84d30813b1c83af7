//! Where logins rest: named contexts in a file that only its owner reads, `credentials.json` in the
//! configuration folder. Their tokens rest in the OS keyring, else in that file.

use super::keyring::{self, KeyringError};
use crate::base::paths;
use crate::base::secret::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Why logins could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum ContextsError {
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
    /// There is no context of the name.
    #[error("there is no context {0:?}")]
    Unknown(String),
    /// The keyring that holds a token does not give it.
    #[error("the token of context {context} rests in the OS keyring")]
    Keyring {
        /// Whose token.
        context: String,
        /// Why it cannot be had.
        source: KeyringError,
    },
}

/// Where a token rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// It came from the environment, and is kept nowhere.
    #[default]
    None,
    /// In the OS keyring.
    Keyring,
    /// In the file of logins.
    File,
}

impl Store {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Keyring => "keyring",
            Self::File => "file",
        }
    }
}

/// A server, and how it is talked to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Context {
    /// Its address in its one form.
    pub server: String,
    /// Certificates of authorities that are trusted beside the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Where its token rests.
    #[serde(default)]
    pub store: Store,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<Token>,
}

/// The logins of this user.
#[derive(Debug)]
pub struct Contexts {
    path: PathBuf,
    stored: Stored,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    /// The context of commands that are not told.
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Context>,
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

impl Contexts {
    /// Reads the logins in `folder`; none when there is no file. A file that others may read is made private.
    pub fn load(folder: &Path) -> Result<Self, ContextsError> {
        let path = folder.join("credentials.json");
        let file_error = |source| ContextsError::File { path: path.display().to_string(), source };
        let stored = match std::fs::read(&path) {
            Ok(bytes) => {
                let meta = std::fs::metadata(&path).map_err(file_error)?;
                if meta.permissions().mode() & 0o077 != 0 {
                    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(file_error)?;
                }
                serde_json::from_slice(&bytes)
                    .map_err(|source| ContextsError::Damaged { path: path.display().to_string(), source })?
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

    /// The context of commands that are not told, by its name.
    pub fn current(&self) -> Option<&str> {
        self.stored.current.as_deref().filter(|name| self.stored.contexts.contains_key(*name))
    }

    /// All, by name.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Context)> {
        self.stored.contexts.iter().map(|(name, context)| (name.as_str(), context))
    }

    /// One.
    pub fn get(&self, name: &str) -> Result<&Context, ContextsError> {
        self.stored.contexts.get(name).ok_or_else(|| ContextsError::Unknown(name.to_owned()))
    }

    /// The context of a server: the current one where it is its.
    pub fn find_server(&self, server: &str) -> Option<&str> {
        let current = self.current().filter(|name| self.stored.contexts[*name].server == server);
        current.or_else(|| self.all().find(|(_, one)| one.server == server).map(|(name, _)| name))
    }

    /// The token of a context, from where it rests; none where it is kept nowhere. Waits two seconds at most.
    pub fn token(&self, name: &str) -> Result<Option<SecretString>, ContextsError> {
        let context = self.get(name)?;
        match context.store {
            Store::None => Ok(None),
            Store::File => Ok(context.token.as_ref().map(|token| token.0.clone())),
            Store::Keyring => keyring::read(&account(name, &context.server))
                .map_err(|source| ContextsError::Keyring { context: name.to_owned(), source }),
        }
    }

    /// Makes a context the current one, with its token where it is to be kept; without one, what is kept for
    /// the same server stays.
    pub fn set(
        &mut self,
        name: &str,
        server: &str,
        ca_file: Option<PathBuf>,
        token: Option<(SecretString, Store)>,
    ) -> Result<(), ContextsError> {
        let known = self.stored.contexts.get(name).filter(|known| known.server == server);
        let (store, token) = match token {
            Some((token, Store::Keyring)) => {
                keyring::write(&account(name, server), &token)
                    .map_err(|source| ContextsError::Keyring { context: name.to_owned(), source })?;
                (Store::Keyring, None)
            }
            Some((token, Store::File)) => (Store::File, Some(Token(token))),
            Some((_, Store::None)) | None => {
                known.map_or((Store::None, None), |known| (known.store, known.token.clone()))
            }
        };
        let context = Context { server: server.to_owned(), ca_file, store, token };
        self.stored.contexts.insert(name.to_owned(), context);
        self.stored.current = Some(name.to_owned());
        self.save()
    }

    /// Makes a context the current one.
    pub fn switch(&mut self, name: &str) -> Result<(), ContextsError> {
        self.get(name)?;
        self.stored.current = Some(name.to_owned());
        self.save()
    }

    /// Forgets a context and its token. Where the keyring does not let go of it, says why.
    pub fn forget(&mut self, name: &str) -> Result<Option<KeyringError>, ContextsError> {
        let context = self.get(name)?;
        let kept = match context.store {
            Store::Keyring => keyring::forget(&account(name, &context.server)).err(),
            Store::None | Store::File => None,
        };
        self.stored.contexts.remove(name);
        if self.stored.current.as_deref() == Some(name) {
            self.stored.current = None;
        }
        self.save()?;
        Ok(kept)
    }

    fn save(&self) -> Result<(), ContextsError> {
        let file_error = |source| ContextsError::File { path: self.path.display().to_string(), source };
        if let Some(folder) = self.path.parent() {
            paths::ensure_dir(folder, 0o700).map_err(file_error)?;
        }
        let text = serde_json::to_vec_pretty(&self.stored)
            .map_err(|source| ContextsError::Damaged { path: self.path.display().to_string(), source })?;
        paths::write_private(&self.path, &text).map_err(file_error)
    }
}

/// How the keyring names a token, so that its owner knows it there.
fn account(name: &str, server: &str) -> String {
    format!("{name} ({server})")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "http://127.0.0.1:4120";

    #[test]
    fn a_login_rests_in_a_private_file_and_can_be_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let mut contexts = Contexts::load(folder.path()).unwrap();
        contexts.set("local", HERE, None, Some((SecretString::from("t"), Store::File))).unwrap();
        assert_eq!(std::fs::metadata(contexts.path()).unwrap().permissions().mode() & 0o777, 0o600);
        let mut again = Contexts::load(folder.path()).unwrap();
        assert_eq!(again.current(), Some("local"));
        assert_eq!(again.token("local").unwrap().unwrap().expose_secret(), "t");
        assert!(!format!("{again:?}").contains("\"t\""));
        assert!(again.forget("local").unwrap().is_none());
        assert!(Contexts::load(folder.path()).unwrap().current().is_none());
        assert!(matches!(again.forget("local"), Err(ContextsError::Unknown(_))));
    }

    #[test]
    fn contexts_are_found_by_name_and_by_server() {
        let folder = tempfile::tempdir().unwrap();
        let mut contexts = Contexts::load(folder.path()).unwrap();
        let kept = |token: &str| Some((SecretString::from(token), Store::File));
        contexts.set("one", "https://a", None, kept("1")).unwrap();
        contexts.set("two", "https://a", Some("/ca.pem".into()), kept("2")).unwrap();
        assert_eq!(contexts.find_server("https://a"), Some("two"));
        contexts.switch("one").unwrap();
        assert_eq!(contexts.find_server("https://a"), Some("one"));
        assert_eq!(contexts.find_server("https://b"), None);
        // A login with a token from the environment leaves the one that is kept; for another server it does not.
        contexts.set("two", "https://a", None, None).unwrap();
        assert_eq!(contexts.token("two").unwrap().unwrap().expose_secret(), "2");
        contexts.set("two", "https://c", None, None).unwrap();
        assert!(contexts.token("two").unwrap().is_none());
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("credentials.json"), "{").unwrap();
        assert!(matches!(Contexts::load(folder.path()), Err(ContextsError::Damaged { .. })));
    }
}
