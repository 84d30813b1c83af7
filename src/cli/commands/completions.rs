//! `completions SHELL`.

use crate::cli::args::{Cli, CompletionsArgs};
use crate::cli::exit::{Exit, Failure};
use crate::cli::ui::Printer;
use clap::CommandFactory as _;

/// Prints a shell's completions, as `completions/` holds them.
#[expect(clippy::unnecessary_wraps, reason = "all commands answer alike")]
pub fn run(args: &CompletionsArgs, printer: &Printer) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "rapidclaw", &mut script);
    printer.line(String::from_utf8_lossy(&script).trim_end());
    Ok(Exit::Done)
}
