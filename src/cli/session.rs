//! Which server a command talks to, and with which token.

use super::args::Global;
use super::exit::{Exit, Failure};
use crate::base::secret::SecretString;
use crate::base::{env, paths};
use crate::client::credentials::Credentials;
use crate::client::{Client, address};

/// The flag, then the environment (clap reads it), then the current login; the token from the
/// environment, then from the login.
pub fn client(global: &Global) -> Result<Client, Failure> {
    let credentials = Credentials::load(&paths::config_dir())?;
    let not_logged_in = || Failure::said(Exit::NotAllowed, "not logged in").hint("log in first: `rapidclaw login`");
    let server = match global.server.as_deref().or_else(|| credentials.current()) {
        Some(server) => address(server)?,
        None => return Err(not_logged_in()),
    };
    let token = env::var(env::TOKEN).map(SecretString::from).or_else(|| credentials.token(&server).cloned());
    let token = token.ok_or_else(not_logged_in)?;
    Ok(Client::new(&server, token)?)
}
