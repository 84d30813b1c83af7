//! `secrets set|rotate|list|unset|import`. No value is ever an argument, and none is ever shown.

use super::watch;
use crate::api::control::{SecretMap, SecretView, SecretsRequest, SecretsResponse};
use crate::base::secret::SecretString;
use crate::cli::args::{Global, SecretsCommand, WaitArgs};
use crate::cli::exit::{Exit, Failure};
use crate::cli::session;
use crate::cli::ui::ask::{ask, read_stdin};
use crate::cli::ui::{Format, Printer, table};
use crate::client::Client;
use crate::manifest::dotenv;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::Path;

/// The most that is read from stdin, in bytes.
const STDIN_BYTES: u64 = 1 << 20;

/// Waits until replicas with the new values serve.
pub async fn run(command: SecretsCommand, global: &Global, printer: &Printer) -> Result<Exit, Failure> {
    match command {
        SecretsCommand::List { agent } => list(&session::client(global)?, &agent, printer).await,
        SecretsCommand::Set { agent, name, value, wait } => {
            put(&agent, name, &value, false, &wait, (global, printer)).await
        }
        SecretsCommand::Rotate { agent, name, value, wait } => {
            put(&agent, name, &value, true, &wait, (global, printer)).await
        }
        SecretsCommand::Unset { agent, names, wait } => {
            let request = SecretsRequest { unset: names, ..SecretsRequest::default() };
            change(&session::client(global)?, &agent, request, &wait, printer).await
        }
        SecretsCommand::Import { agent, file, wait } => {
            let client = session::client(global)?;
            let set = SecretMap(read_file(file.as_deref().filter(|file| *file != Path::new("-"))).await?);
            change(&client, &agent, SecretsRequest { set, ..SecretsRequest::default() }, &wait, printer).await
        }
    }
}

/// `set` and `rotate`: `typed` is what was given as a value by mistake.
async fn put(
    agent: &str,
    name: String,
    typed: &[String],
    rotate: bool,
    wait: &WaitArgs,
    (global, printer): (&Global, &Printer),
) -> Result<Exit, Failure> {
    let command = if rotate { "rotate" } else { "set" };
    if !typed.is_empty() || name.contains('=') {
        return Err(Failure::said(Exit::Usage, "a secret's value is no argument: the shell's history keeps those")
            .hint(format!(
                "pipe it: `rapidclaw secrets {command} {agent} NAME < FILE`, or leave it out and be asked"
            )));
    }
    let client = session::client(global)?;
    let value = read_value(agent, (command, &name), printer).await?;
    let set = SecretMap(BTreeMap::from([(name, value)]));
    change(&client, agent, SecretsRequest { set, rotate, ..SecretsRequest::default() }, wait, printer).await
}

async fn list(client: &Client, agent: &str, printer: &Printer) -> Result<Exit, Failure> {
    let secrets = client.secrets(agent).await?;
    match printer.format() {
        Format::Json => printer.json_list("secrets", &secrets),
        Format::Line => {
            for one in &secrets {
                printer.line(format!("{} {} {}", one.name, one.updated_at, origin(one)));
            }
        }
        Format::Table if secrets.is_empty() => printer.note(format!("{agent} has no secrets")),
        Format::Table => {
            let rows = secrets.iter().map(|one| [one.name.clone(), one.updated_at.clone(), origin(one).to_owned()]);
            printer.line(table(["NAME", "CHANGED", "FROM"], rows));
        }
    }
    Ok(Exit::Done)
}

/// Whether a deploy would forget it.
fn origin(one: &SecretView) -> &'static str {
    if one.by_hand { "hand" } else { "deploy" }
}

/// From a prompt on a terminal, else from stdin, whose last line's end is not part of it.
async fn read_value(agent: &str, (command, name): (&str, &str), printer: &Printer) -> Result<SecretString, Failure> {
    if !std::io::stdin().is_terminal() {
        let text = read_stdin(STDIN_BYTES).await?;
        let value = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
        if value.is_empty() {
            return Err(Failure::said(Exit::Usage, "stdin held no value")
                .hint(format!("to forget the secret: `rapidclaw secrets unset {agent} {name}`")));
        }
        return Ok(SecretString::from(value));
    }
    if !printer.is_interactive() {
        return Err(Failure::said(Exit::Usage, format!("nobody can be asked for the value of {name}"))
            .hint(format!("pipe it: `rapidclaw secrets {command} {agent} {name} < FILE`")));
    }
    let prompt = format!("Value of {name} (hidden)");
    let value = ask(move || dialoguer::Password::new().with_prompt(prompt).interact()).await?;
    Ok(SecretString::from(value))
}

async fn read_file(file: Option<&Path>) -> Result<BTreeMap<String, SecretString>, Failure> {
    let values = match file {
        Some(file) => dotenv::read(file).map_err(|error| Failure::new(Exit::Invalid, error))?,
        None if std::io::stdin().is_terminal() => {
            return Err(Failure::said(Exit::Usage, "import from which file?")
                .hint("name it (`.env`), or pipe it: `rapidclaw secrets import AGENT < .env`"));
        }
        None => dotenv::parse(&read_stdin(STDIN_BYTES).await?)
            .map_err(|(line, problem)| Failure::said(Exit::Invalid, format!("stdin:{line}: {problem}")))?,
    };
    if values.is_empty() {
        return Err(Failure::said(Exit::Invalid, "there is no NAME=value line in it"));
    }
    Ok(values)
}

async fn change(
    client: &Client,
    agent: &str,
    request: SecretsRequest,
    wait: &WaitArgs,
    printer: &Printer,
) -> Result<Exit, Failure> {
    let done = client.change_secrets(agent, &request).await?;
    for note in &done.notes {
        printer.note(note);
    }
    let names = done.changed.join(", ");
    let changed = match done.rotated {
        0 => format!("{names} changed"),
        1 => format!("{} rotated, in 1 older secret set as well", rotated(&request)),
        sets => format!("{} rotated, in {sets} older secret sets as well", rotated(&request)),
    };
    let (line, phases) = match (done.rollout, done.version) {
        (None, _) if names.is_empty() && done.rotated == 0 => (format!("{agent}: nothing changed"), Vec::new()),
        (None, _) if names.is_empty() => (format!("{agent}: {changed}; what serves does not have it"), Vec::new()),
        (None, _) => (format!("{agent}: {changed}; nothing serves: the next deploy uses it"), Vec::new()),
        (Some(_), version) if wait.detach => {
            (format!("{agent}: {changed}; {} is being rolled out", release(version)), Vec::new())
        }
        (Some(rollout), _) => {
            let deadline = watch::deadline(wait.timeout);
            let view = watch::rollout(client, rollout, deadline, printer).await?;
            let (phases, seconds) = watch::phases(&view.phases);
            (format!("{agent}: {changed}; v{} live in {seconds:.1}s ({phases})", view.version), view.phases)
        }
    };
    print(agent, &done, &line, &phases, printer);
    Ok(Exit::Done)
}

/// The name that is rotated.
fn rotated(request: &SecretsRequest) -> &str {
    request.set.0.keys().next().map_or("", String::as_str)
}

fn release(version: Option<i32>) -> String {
    version.map_or_else(|| "the release".to_owned(), |version| format!("v{version}"))
}

fn print(
    agent: &str,
    done: &SecretsResponse,
    line: &str,
    phases: &[crate::api::control::PhaseTime],
    printer: &Printer,
) {
    printer.result(json!({
        "agent": agent, "changed": done.changed, "version": done.version, "rollout": done.rollout,
        "rotated": done.rotated, "phases": phases, "notes": done.notes,
    }));
    if printer.format() != Format::Json {
        printer.line(line);
    }
}
