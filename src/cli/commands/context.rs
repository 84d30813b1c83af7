//! `context list|use|remove`: the logins of this user.

use super::login;
use crate::base::paths;
use crate::cli::args::{ContextCommand, Global};
use crate::cli::exit::{Exit, Failure};
use crate::cli::session;
use crate::cli::ui::{Format, Printer, table, words};
use crate::client::contexts::Contexts;
use serde_json::json;

/// Nothing of it asks a server.
pub fn run(command: ContextCommand, _: &Global, printer: &Printer) -> Result<Exit, Failure> {
    let mut contexts = Contexts::load(&paths::config_dir())?;
    match command {
        ContextCommand::List => list(&contexts, printer),
        ContextCommand::Use { name } => {
            contexts.get(&name).map_err(|error| session::unknown(&contexts, error))?;
            contexts.switch(&name)?;
            let server = &contexts.get(&name)?.server;
            match printer.format() {
                Format::Json => printer.json(&json!({ "context": name, "url": server })),
                Format::Line | Format::Table => printer.line(format!("commands now talk to {name} ({server})")),
            }
        }
        ContextCommand::Remove { name } => {
            contexts.get(&name).map_err(|error| session::unknown(&contexts, error))?;
            login::forget(&mut contexts, &name, printer)?;
            match printer.format() {
                Format::Json => printer.json(&json!({ "context": name, "removed": true })),
                Format::Line | Format::Table => printer.line(format!("{name} is forgotten")),
            }
        }
    }
    Ok(Exit::Done)
}

fn list(contexts: &Contexts, printer: &Printer) {
    let is_current = |name: &str| contexts.current() == Some(name);
    let rows = contexts.all().map(|(name, one)| {
        let mark = if is_current(name) { "current" } else { "-" };
        [name.to_owned(), one.server.clone(), one.store.as_str().to_owned(), mark.to_owned()]
    });
    match printer.format() {
        Format::Json => printer.json(&json!({
            "contexts": contexts.all().map(|(name, one)| json!({
                "name": name, "url": one.server, "store": one.store, "ca_file": one.ca_file,
                "current": is_current(name),
            })).collect::<Vec<_>>(),
        })),
        Format::Line => rows.for_each(|row| printer.line(words(row))),
        Format::Table if contexts.all().next().is_none() => printer.note("there is no login"),
        Format::Table => printer.line(table(["NAME", "SERVER", "TOKEN", "MARK"], rows)),
    }
}
