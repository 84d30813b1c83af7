//! One file a command: settings in, work, report out.

mod backup;
mod build;
pub mod completions;
mod context;
mod deploy;
mod destroy;
mod doctor;
mod history;
mod keys;
mod login;
mod logs;
mod project;
mod rollback;
mod runs;
mod scale;
mod secrets;
mod server;
mod status;
mod threads;
pub mod validate;
mod watch;

use super::args::{Command, Global};
use super::exit::{Exit, Failure};
use super::ui::Printer;

/// Runs a command that works on the runtime.
pub async fn run(command: Command, global: &Global, printer: &Printer) -> Result<Exit, Failure> {
    match command {
        Command::Validate(args) => validate::run(&args, printer),
        Command::Schema => Ok(validate::schema(printer)),
        Command::Completions(args) => completions::run(&args, printer),
        Command::Build(args) => Box::pin(build::run(&args, global, printer)).await,
        Command::Login(args) => login::login(&args, global, printer).await,
        Command::Logout => login::logout(global, printer),
        Command::Whoami => login::whoami(global, printer).await,
        Command::Context(args) => context::run(args.command, global, printer),
        Command::Deploy(args) => Box::pin(deploy::run(&args, global, printer)).await,
        Command::Rollback(args) => rollback::run(&args, global, printer).await,
        Command::Status(args) => status::run(&args, global, printer).await,
        Command::Releases(args) => history::releases(&args, global, printer).await,
        Command::Rollouts(args) => history::rollouts(&args, global, printer).await,
        Command::Logs(args) => logs::run(&args, global, printer).await,
        Command::Runs(args) => runs::run(&args, global, printer).await,
        Command::Threads(args) => threads::run(&args, global, printer).await,
        Command::Secrets(args) => secrets::run(args.command, global, printer).await,
        Command::Scale(args) => scale::run(&args, global, printer).await,
        Command::Doctor(args) => doctor::run(&args, global, printer).await,
        Command::Keys(args) => keys::run(args.command, global, printer).await,
        Command::Destroy(args) => destroy::run(&args, global, printer).await,
        Command::Server(args) => Box::pin(server::run(args.command, printer)).await,
    }
}
