//! `login`, `logout`, `whoami`.

use super::server;
use crate::base::secret::SecretString;
use crate::base::{env, paths};
use crate::cli::args::{Global, LoginArgs};
use crate::cli::exit::{Exit, Failure};
use crate::cli::session;
use crate::cli::ui::{Format, Printer};
use crate::client::credentials::Credentials;
use crate::client::{Client, address};
use crate::server::process;
use std::io::Read as _;
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
    let given = args.address.as_deref().or(global.server.as_deref()).map(str::to_owned);
    let asked = match (args.local, given) {
        (false, Some(given)) => Some(given),
        (false, None) if printer.is_interactive() => ask_where()?,
        _ => None,
    };
    let (server, presented) = match asked {
        Some(given) => {
            let server = address(&given)?;
            let presented = present(args, &server, printer)?;
            (server, presented)
        }
        None => local(&data_dir, args, printer).await?,
    };
    let client = Client::new(&server, presented.token.clone())?;
    let who = client.whoami().await?;
    let mut credentials = Credentials::load(&paths::config_dir())?;
    let kept = (!presented.from_environment).then_some(presented.token);
    credentials.set(&server, kept)?;
    if printer.format() == Format::Json {
        printer.json(&who);
    } else {
        printer.line(format!("logged in to {server} as {} ({})", who.name, who.role));
    }
    if presented.from_environment {
        printer.note(format!("the token of {} is stored nowhere", env::TOKEN));
    } else {
        printer.note(format!("the token rests in {}", credentials.path().display()));
    }
    Ok(Exit::Done)
}

/// Forgets the login of the current server, or of the one named.
pub fn logout(global: &Global, printer: &Printer) -> Result<Exit, Failure> {
    let mut credentials = Credentials::load(&paths::config_dir())?;
    let server = match global.server.as_deref().or_else(|| credentials.current()) {
        Some(server) => address(server)?,
        None => {
            printer.line("not logged in");
            return Ok(Exit::Done);
        }
    };
    let known = credentials.forget(&server)?;
    printer.line(if known { format!("logged out of {server}") } else { format!("not logged in to {server}") });
    Ok(Exit::Done)
}

/// Who the token belongs to, and where.
pub async fn whoami(global: &Global, printer: &Printer) -> Result<Exit, Failure> {
    let client = session::client(global)?;
    let who = client.whoami().await?;
    if printer.format() == Format::Json {
        printer.json(&who);
    } else {
        printer.line(format!("{} ({}) on {}, rapidclaw {}", who.name, who.role, client.server(), who.server.version));
    }
    if who.server.version != env!("CARGO_PKG_VERSION") {
        printer.warn(format!("this is rapidclaw {}, the server is {}", env!("CARGO_PKG_VERSION"), who.server.version));
    }
    Ok(Exit::Done)
}

fn ask_where() -> Result<Option<String>, Failure> {
    let picked = dialoguer::Select::new()
        .with_prompt("Which server?")
        .items(["this machine", "another address"])
        .default(0)
        .interact()
        .map_err(|error| Failure::new(Exit::Failed, error))?;
    if picked == 0 {
        return Ok(None);
    }
    let address = dialoguer::Input::<String>::new()
        .with_prompt("Its address (https://…)")
        .interact_text()
        .map_err(|error| Failure::new(Exit::Failed, error))?;
    Ok(Some(address))
}

fn present(args: &LoginArgs, server: &str, printer: &Printer) -> Result<Presented, Failure> {
    if args.token_stdin {
        let mut text = String::new();
        let read = std::io::stdin().take(TOKEN_BYTES).read_to_string(&mut text);
        read.map_err(|error| Failure::new(Exit::Usage, error))?;
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
    let token = dialoguer::Password::new()
        .with_prompt(format!("Token for {server}"))
        .interact()
        .map_err(|error| Failure::new(Exit::Failed, error))?;
    Ok(Presented { token: SecretString::from(token.trim()), from_environment: false })
}

/// The server on this machine, started when none answers and somebody is there to see it.
async fn local(data_dir: &Path, args: &LoginArgs, printer: &Printer) -> Result<(String, Presented), Failure> {
    let running = match process::running(data_dir) {
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
        let presented = present(args, &running.url, printer)?;
        return Ok((running.url, presented));
    }
    let path = process::admin_token_file(data_dir);
    let token = fs_err::read_to_string(&path).map_err(|error| {
        let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
        let failure = Failure::new(if denied { Exit::NotAllowed } else { Exit::Failed }, error);
        failure.hint("log in as the user who runs the server, or with a token: `rapidclaw login SERVER --token-stdin`")
    })?;
    Ok((running.url, Presented { token: SecretString::from(token.trim()), from_environment: false }))
}
