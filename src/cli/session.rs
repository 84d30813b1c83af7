//! Which server a command talks to, with which token, and whom it trusts.

use super::args::Global;
use super::exit::{Exit, Failure};
use crate::base::secret::SecretString;
use crate::base::{env, paths};
use crate::client::contexts::{Contexts, Store};
use crate::client::{Client, address};
use std::path::PathBuf;

/// The server that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its address.
    pub server: String,
    /// The context that it is of, where one is.
    pub context: Option<String>,
}

/// Where a token came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenFrom {
    /// `RAPIDCLAW_TOKEN`.
    Environment,
    /// Where the context's rests.
    Context(Store),
}

impl TokenFrom {
    /// As it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::Context(store) => store.as_str(),
        }
    }
}

/// A client, and where what it has came from.
pub struct Session {
    /// Of the server.
    pub client: Client,
    /// The context, where one is.
    pub context: Option<String>,
    /// Where the token came from.
    pub token_from: TokenFrom,
}

/// Flags, then the environment, then the current context. None: nobody said anything, ever.
pub fn target(global: &Global, contexts: &Contexts) -> Result<Option<Target>, Failure> {
    let of_server = |text: &str| -> Result<Target, Failure> {
        let server = address(text)?;
        let context = contexts.find_server(&server).map(str::to_owned);
        Ok(Target { server, context })
    };
    let of_context = |name: &str| -> Result<Target, Failure> {
        let server = contexts.get(name).map_err(|error| unknown(contexts, error))?.server.clone();
        Ok(Target { server, context: Some(name.to_owned()) })
    };
    let found = match (&global.server, &global.context) {
        (Some(server), _) if !server.is_empty() => of_server(server)?,
        (_, Some(name)) if !name.is_empty() => of_context(name)?,
        _ => match (env::var(env::SERVER), env::var(env::CONTEXT), contexts.current()) {
            (Some(server), _, _) => of_server(&server)?,
            (None, Some(name), _) => of_context(&name)?,
            (None, None, Some(name)) => of_context(name)?,
            (None, None, None) => return Ok(None),
        },
    };
    Ok(Some(found))
}

/// An error of an unknown context, with those that are known.
pub fn unknown(contexts: &Contexts, error: impl Into<anyhow::Error>) -> Failure {
    let known: Vec<&str> = contexts.all().map(|(name, _)| name).collect();
    Failure::new(Exit::Usage, error).hint(if known.is_empty() {
        "log in first: `rapidclaw login`".to_owned()
    } else {
        format!("there are {} (`rapidclaw context list`)", known.join(", "))
    })
}

/// The authorities that are trusted beside the system's: flag, then environment, then the context's.
pub fn ca_file(global: &Global, contexts: &Contexts, context: Option<&str>) -> Option<PathBuf> {
    let given = global.ca_file.clone().filter(|path| !path.as_os_str().is_empty());
    given.or_else(|| env::var(env::CA_FILE).map(PathBuf::from)).or_else(|| contexts.get(context?).ok()?.ca_file.clone())
}

/// The server that is meant, with its token: from the environment, else from where the context's rests. A
/// keyring may take two seconds to say no.
pub fn open(global: &Global) -> Result<Session, Failure> {
    let contexts = Contexts::load(&paths::config_dir())?;
    let hint = "log in first: `rapidclaw login`";
    let Some(target) = target(global, &contexts)? else {
        return Err(Failure::said(Exit::NotAllowed, "not logged in").hint(hint));
    };
    let context = target.context.as_deref();
    let kept = || -> Result<_, Failure> {
        let Some(name) = context else { return Ok(None) };
        let store = contexts.get(name)?.store;
        Ok(contexts.token(name)?.map(|token| (token, TokenFrom::Context(store))))
    };
    let given = env::var(env::TOKEN).map(|token| (SecretString::from(token.trim()), TokenFrom::Environment));
    let (token, token_from) = match given {
        Some(given) => given,
        None => kept()?.ok_or_else(|| {
            Failure::said(Exit::NotAllowed, format!("not logged in to {}", target.server)).hint(format!(
                "log in: `rapidclaw login {}`, or set {}",
                target.server,
                env::TOKEN
            ))
        })?,
    };
    let ca_file = ca_file(global, &contexts, context);
    let client = Client::new(&target.server, token, ca_file.as_deref())?;
    Ok(Session { client, context: target.context, token_from })
}

/// [`open`], for a command that only talks.
pub fn client(global: &Global) -> Result<Client, Failure> {
    open(global).map(|session| session.client)
}
