//! The OS keyring, asked in a thread of its own: a bus that accepts and never answers, or a keyring that
//! waits for somebody to unlock it, holds nobody for longer than [`PATIENCE`].

use crate::base::secret::{ExposeSecret as _, SecretString};
use keyring::{Entry, Error};
use std::sync::mpsc;
use std::time::Duration;

/// How long the keyring may take.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Under which our entries stand.
const SERVICE: &str = "rapidclaw";
/// The entry that is written and removed to see whether the keyring works.
const PROBE: &str = "probe";

/// Why the keyring is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// It does not answer.
    #[error("the OS keyring did not answer within {} s", PATIENCE.as_secs())]
    Silent,
    /// It says no.
    #[error("no OS keyring: {0}")]
    Refused(String),
}

/// Whether what is written can be read again. Waits [`PATIENCE`] at most.
pub fn probe() -> Result<(), KeyringError> {
    limited(|| {
        let name = format!("{PROBE}-{}", std::process::id());
        let entry = entry(&name)?;
        entry.set_password(PROBE)?;
        let found = entry.get_password();
        entry.delete_credential()?;
        if found? == PROBE { Ok(()) } else { Err(Error::NoEntry) }
    })
}

/// Keeps a token. Waits [`PATIENCE`] at most.
pub fn write(account: &str, token: &SecretString) -> Result<(), KeyringError> {
    let (account, token) = (account.to_owned(), token.clone());
    limited(move || entry(&account)?.set_password(token.expose_secret()))
}

/// The token that is kept, if one is. Waits [`PATIENCE`] at most.
pub fn read(account: &str) -> Result<Option<SecretString>, KeyringError> {
    let account = account.to_owned();
    limited(move || match entry(&account)?.get_password() {
        Ok(token) => Ok(Some(SecretString::from(token))),
        Err(Error::NoEntry) => Ok(None),
        Err(error) => Err(error),
    })
}

/// Forgets the token. Waits [`PATIENCE`] at most.
pub fn forget(account: &str) -> Result<(), KeyringError> {
    let account = account.to_owned();
    limited(move || match entry(&account)?.delete_credential() {
        Ok(()) | Err(Error::NoEntry) => Ok(()),
        Err(error) => Err(error),
    })
}

/// The store is made once a process, at the first entry; only its status says why it could not be.
fn entry(account: &str) -> keyring::Result<Entry> {
    Entry::new(SERVICE, account)
}

fn limited<T: Send + 'static>(work: impl FnOnce() -> keyring::Result<T> + Send + 'static) -> Result<T, KeyringError> {
    within(PATIENCE, || {
        work().map_err(|error| match (error, Entry::store_status()) {
            (Error::NoDefaultStore, Err(cause)) => KeyringError::Refused(first_line(cause)),
            (error, _) => KeyringError::Refused(first_line(&error)),
        })
    })
}

fn first_line(error: &Error) -> String {
    let text = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    text.lines().next().unwrap_or_default().to_owned()
}

/// A thread that does not answer in time is left behind: it ends with the process.
fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> Result<T, KeyringError> + Send + 'static,
) -> Result<T, KeyringError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let spawned = std::thread::Builder::new().name("keyring".to_owned()).spawn(move || {
        let _ = sender.send(work());
    });
    spawned.map_err(|error| KeyringError::Refused(error.to_string()))?;
    receiver.recv_timeout(limit).unwrap_or(Err(KeyringError::Silent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyring_that_hangs_holds_nobody() {
        let (_open, never) = mpsc::channel::<()>();
        let asked = within(Duration::from_millis(20), move || {
            let _ = never.recv();
            Ok(())
        });
        assert_eq!(asked, Err(KeyringError::Silent));
        assert_eq!(within(PATIENCE, || Ok(7)), Ok(7));
    }
}
