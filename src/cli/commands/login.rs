//! `login`, `logout`, `whoami`.

use super::server;
use crate::base::secret::SecretString;
use crate::base::{env, paths};
use crate::cli::args::{Global, LoginArgs, TokenStore};
use crate::cli::exit::{Exit, Failure};
use crate::cli::session::{self, Session, Target};
use crate::cli::ui::ask::{ask, read_stdin};
use crate::cli::ui::{Format, Printer};
use crate::client::contexts::{Contexts, Store};
use crate::client::keyring::{self, KeyringError};
use crate::client::{Client, address};
use crate::server::{place, settings};
use serde_json::json;
use std::path::Path;

/// The longest token that is read, in bytes.
const TOKEN_BYTES: u64 = 4096;

/// Where a token came from decides whether it is kept.
struct Presented {
    token: SecretString,
    from_environment: bool,
}

/// Checks a token against a server and keeps it. Exit 0, or 4 when the server does not know it.
pub async fn login(args: &LoginArgs, global: &Global, printer: &Printer) -> Result<Exit, Failure> {
    let data_dir = args.data_dir.clone().filter(|given| !given.as_os_str().is_empty()).unwrap_or_else(paths::data_dir);
    let mut contexts = Contexts::load(&paths::config_dir())?;
    // A name that is not known yet is that of the new login.
    let known = global.context.as_deref().is_none_or(|name| contexts.get(name).is_ok());
    let told = if known { session::target(global, &contexts)?.filter(|_| is_told(global)) } else { None };
    let given = args.address.clone().or_else(|| told.map(|target| target.server)).or_else(|| env::var(env::SERVER));
    let asked = match (args.local, given) {
        (false, Some(given)) => Some(given),
        (false, None) if printer.is_interactive() => ask_where().await?,
        _ => None,
    };
    let from_environment = env::var(env::TOKEN).is_some() && !args.token_stdin;
    // Before anybody types a token: where it will rest.
    let store = if from_environment { Rests { store: Store::None, why: None } } else { rests(args.store)? };
    let is_local = asked.is_none();
    let (server, presented) = match asked {
        Some(given) => {
            let server = address(&given)?;
            let presented = present(args, &server, printer).await?;
            (server, presented)
        }
        None => local(&data_dir, args, printer).await?,
    };
    let name = global.context.clone().or_else(|| contexts.find_server(&server).map(str::to_owned));
    let name = name.unwrap_or_else(|| name_of(&server, is_local));
    let ca_file = session::ca_file(global, &contexts, Some(&name));
    let ca_file = ca_file.map(|path| std::path::absolute(&path).unwrap_or(path));
    let client = Client::new(&server, presented.token.clone(), ca_file.as_deref())?;
    let who = client.whoami().await?;
    let kept = (!presented.from_environment).then_some((presented.token, store.store));
    contexts.set(&name, &server, ca_file, kept)?;
    if printer.format() == Format::Json {
        printer.json(&json!({
            "context": name, "url": server, "store": store.store, "name": who.name, "role": who.role,
            "server": who.server,
        }));
    } else {
        printer.line(format!("logged in to {server} as {} ({}), context {name}", who.name, who.role));
    }
    match (store.store, &store.why) {
        (Store::None, _) => printer.note(format!("the token of {} is stored nowhere", env::TOKEN)),
        (Store::Keyring, _) => printer.note("the token rests in the OS keyring"),
        (Store::File, None) => printer.note(format!("the token rests in {}", contexts.path().display())),
        (Store::File, Some(why)) => {
            printer.note(format!("the token rests in {} ({why})", contexts.path().display()));
        }
    }
    say_versions(&who.server.version, printer);
    Ok(Exit::Done)
}

/// Where a token will rest, and why not in the keyring.
struct Rests {
    store: Store,
    why: Option<KeyringError>,
}

fn rests(asked: TokenStore) -> Result<Rests, Failure> {
    if asked == TokenStore::File {
        return Ok(Rests { store: Store::File, why: None });
    }
    match (keyring::probe(), asked) {
        (Ok(()), _) => Ok(Rests { store: Store::Keyring, why: None }),
        (Err(why), TokenStore::Keyring) => {
            Err(Failure::new(Exit::Failed, why).hint("unlock or start it, or keep the token in a file: --store file"))
        }
        (Err(why), _) => Ok(Rests { store: Store::File, why: Some(why) }),
    }
}

/// Whether this command line names a server.
fn is_told(global: &Global) -> bool {
    global.server.is_some() || global.context.is_some()
}

/// `local` for this machine's, else the host, with the port where it is said.
fn name_of(server: &str, is_local: bool) -> String {
    if is_local {
        return "local".to_owned();
    }
    let bare = server.split_once("://").map_or(server, |(_, rest)| rest);
    bare.split('/').next().unwrap_or(bare).to_owned()
}

fn say_versions(theirs: &str, printer: &Printer) {
    let here = env!("CARGO_PKG_VERSION");
    if theirs != here {
        printer.warn(format!("this is rapidclaw {here}, the server is {theirs}"));
    }
}

/// Forgets the login of the current context, or of the one named.
pub fn logout(global: &Global, printer: &Printer) -> Result<Exit, Failure> {
    let mut contexts = Contexts::load(&paths::config_dir())?;
    let target = session::target(global, &contexts)?;
    let (server, known) = match target {
        None => (None, false),
        Some(Target { server, context: None }) => (Some(server), false),
        Some(Target { server, context: Some(name) }) => {
            forget(&mut contexts, &name, printer)?;
            (Some(server), true)
        }
    };
    match (&server, printer.format()) {
        (server, Format::Json) => printer.json(&json!({ "url": server, "logged_out": known })),
        (Some(server), _) if known => printer.line(format!("logged out of {server}")),
        (Some(server), _) => printer.line(format!("not logged in to {server}")),
        (None, _) => printer.line("not logged in"),
    }
    Ok(Exit::Done)
}

/// Forgets a context; a keyring that keeps its token is named.
pub fn forget(contexts: &mut Contexts, name: &str, printer: &Printer) -> Result<(), Failure> {
    if let Some(why) = contexts.forget(name)? {
        printer.warn(format!("the token of {name} may still rest in the OS keyring, under rapidclaw ({why})"));
    }
    Ok(())
}

/// Who the token belongs to, and where.
pub async fn whoami(global: &Global, printer: &Printer) -> Result<Exit, Failure> {
    let Session { client, context, token_from } = session::open(global)?;
    let who = client.whoami().await?;
    if printer.format() == Format::Json {
        printer.json(&json!({
            "name": who.name, "role": who.role, "scope": who.scope, "expires_at": who.expires_at, "context": context,
            "url": client.server(), "token_from": token_from.as_str(), "server": who.server,
        }));
    } else {
        let context = context.map_or_else(String::new, |name| format!(", context {name}"));
        let scope = who.scope.as_ref().map_or_else(String::new, |scope| format!(", only {}", scope.agents.join(",")));
        let until = who.expires_at.as_ref().map_or_else(String::new, |at| format!(", until {at}"));
        printer.line(format!(
            "{} ({}{scope}{until}) on {}, rapidclaw {}{context}, token from the {}",
            who.name,
            who.role,
            client.server(),
            who.server.version,
            token_from.as_str(),
        ));
    }
    say_versions(&who.server.version, printer);
    Ok(Exit::Done)
}

async fn ask_where() -> Result<Option<String>, Failure> {
    let which = || dialoguer::Select::new().with_prompt("Which server?").items(["this machine", "another address"]);
    if ask(move || which().default(0).interact()).await? == 0 {
        return Ok(None);
    }
    let address = || dialoguer::Input::<String>::new().with_prompt("Its address (https://…)").interact_text();
    Ok(Some(ask(address).await?))
}

async fn present(args: &LoginArgs, server: &str, printer: &Printer) -> Result<Presented, Failure> {
    if args.token_stdin {
        let text = read_stdin(TOKEN_BYTES).await?;
        let token = text.trim();
        if token.is_empty() {
            return Err(Failure::said(Exit::Usage, "stdin held no token"));
        }
        return Ok(Presented { token: SecretString::from(token), from_environment: false });
    }
    if let Some(token) = env::var(env::TOKEN) {
        return Ok(Presented { token: SecretString::from(token.trim()), from_environment: true });
    }
    if !printer.is_interactive() {
        return Err(Failure::said(Exit::NotAllowed, format!("no token for {server}"))
            .hint(format!("set {}, or pipe it: `rapidclaw login {server} --token-stdin`", env::TOKEN)));
    }
    let prompt = format!("Token for {server}");
    let token = ask(move || dialoguer::Password::new().with_prompt(prompt).interact()).await?;
    Ok(Presented { token: SecretString::from(token.trim()), from_environment: false })
}

/// The server on this machine, started when none answers and somebody is there to see it.
async fn local(data_dir: &Path, args: &LoginArgs, printer: &Printer) -> Result<(String, Presented), Failure> {
    let running = match place::running(data_dir) {
        Some(running) => running,
        None if printer.is_interactive() => {
            printer.note("no server runs on this machine: starting one");
            server::start_plain(data_dir, printer).await?
        }
        None => {
            return Err(Failure::said(Exit::Unreachable, "no server runs on this machine")
                .hint("start it: `rapidclaw server start`, or name another: `rapidclaw login https://…`"));
        }
    };
    if args.token_stdin || env::var(env::TOKEN).is_some() {
        let presented = present(args, &running.url, printer).await?;
        return Ok((running.url, presented));
    }
    let path = settings::admin_token_file(data_dir);
    let token = fs_err::read_to_string(&path).map_err(|error| {
        let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
        let failure = Failure::new(if denied { Exit::NotAllowed } else { Exit::Failed }, error);
        failure.hint("log in as the user who runs the server, or with a token: `rapidclaw login SERVER --token-stdin`")
    })?;
    Ok((running.url, Presented { token: SecretString::from(token.trim()), from_environment: false }))
}
