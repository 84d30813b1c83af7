//! `destroy NAME`.

use crate::cli::args::{DestroyArgs, Global};
use crate::cli::exit::{Exit, Failure};
use crate::cli::session;
use crate::cli::ui::ask::ask;
use crate::cli::ui::{Format, Printer};
use serde_json::json;

/// Asks on a terminal; elsewhere `--yes` says that it is meant.
pub async fn run(args: &DestroyArgs, global: &Global, printer: &Printer) -> Result<Exit, Failure> {
    let client = session::client(global)?;
    let name = &args.name;
    if !global.yes {
        let what = format!("destroy {name} with its releases, keys, secrets and all its threads");
        if !printer.is_interactive() {
            return Err(Failure::said(Exit::Usage, format!("nobody can be asked whether to {what}"))
                .hint(format!("say so: `rapidclaw destroy {name} --yes`")));
        }
        if !ask(move || dialoguer::Confirm::new().with_prompt(format!("{what}?")).default(false).interact()).await? {
            match printer.format() {
                Format::Json => printer.json(&json!({ "agent": name, "destroyed": false })),
                Format::Line | Format::Table => printer.line("nothing is changed"),
            }
            return Ok(Exit::Failed);
        }
    }
    client.destroy(name).await?;
    match printer.format() {
        Format::Json => printer.json(&json!({ "agent": name, "destroyed": true })),
        Format::Line | Format::Table => printer.line(format!("{name} is destroyed")),
    }
    Ok(Exit::Done)
}
