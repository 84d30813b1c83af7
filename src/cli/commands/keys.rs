//! `keys create|list|revoke`.

use crate::base::text;
use crate::cli::args::{Global, KeysCommand};
use crate::cli::exit::{Exit, Failure};
use crate::cli::session;
use crate::cli::ui::{Format, Printer, table};
use serde_json::json;

/// A key's value is shown once, when it is made.
pub async fn run(command: KeysCommand, global: &Global, printer: &Printer) -> Result<Exit, Failure> {
    let client = session::client(global)?;
    match command {
        KeysCommand::Create { agent, name } => {
            let key = client.create_key(&agent, &name).await?;
            printer.mask(&key.key);
            match printer.format() {
                Format::Json => printer.json(&key),
                Format::Line | Format::Table => printer.line(&key.key),
            }
            printer.note(format!("key {} of {agent}; it is shown this once", key.id));
        }
        KeysCommand::List { agent } => {
            let keys = client.keys(&agent).await?;
            let state =
                |revoked: &Option<String>| revoked.as_ref().map_or("live".to_owned(), |at| format!("revoked {at}"));
            match printer.format() {
                Format::Json => printer.json_list("keys", &keys),
                Format::Line => {
                    for key in &keys {
                        let name = text::word(&key.name);
                        printer.line(format!(
                            "{} {}… {} {} {name}",
                            key.id,
                            key.prefix,
                            key.created_at,
                            state(&key.revoked_at)
                        ));
                    }
                }
                Format::Table => printer.line(table(
                    ["ID", "KEY", "NAME", "CREATED", "STATE"],
                    keys.into_iter().map(|key| {
                        [
                            key.id.to_string(),
                            format!("{}…", key.prefix),
                            key.name,
                            key.created_at,
                            state(&key.revoked_at),
                        ]
                    }),
                )),
            }
        }
        KeysCommand::Revoke { agent, id } => {
            client.revoke_key(&agent, id).await?;
            match printer.format() {
                Format::Json => printer.json(&json!({ "agent": agent, "id": id, "revoked": true })),
                Format::Line | Format::Table => printer.line(format!("key {id} of {agent} opens nothing any more")),
            }
        }
    }
    Ok(Exit::Done)
}
