//! One file a command: settings in, work, report out.

mod backup;
mod build;
mod builder;
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
mod push;
mod rollback;
mod runs;
mod scale;
mod secrets;
mod server;
mod status;
mod there;
mod threads;
mod tokens;
pub mod validate;
mod watch;

use super::args::{Command, ContextCommand, Global, KeysCommand, SecretsCommand, ServerCommand, TokensCommand};
use super::exit::{Exit, Failure};
use super::ui::Printer;

/// A command's name for programs (`rapidclaw.NAME/v1`), and whether it says in JSON what it does while it does it.
pub fn label(command: &Command) -> (&'static str, bool) {
    match command {
        Command::Validate(_) => ("validate", false),
        Command::Completions(_) => ("completions", false),
        Command::Schema => ("schema", false),
        Command::Build(args) => ("build", !args.print_dockerfile),
        Command::Login(_) => ("login", false),
        Command::Logout => ("logout", false),
        Command::Whoami => ("whoami", false),
        Command::Context(args) => match args.command {
            ContextCommand::List => ("contexts", false),
            ContextCommand::Use { .. } => ("context-use", false),
            ContextCommand::Remove { .. } => ("context-remove", false),
        },
        Command::Deploy(_) => ("deploy", true),
        Command::Rollback(_) => ("rollback", true),
        Command::Status(args) => ("status", args.watch),
        Command::Releases(_) => ("releases", false),
        Command::Rollouts(args) if args.watch => ("rollout", true),
        Command::Rollouts(args) if args.cancel => ("rollout-cancel", false),
        Command::Rollouts(_) => ("rollouts", false),
        Command::Logs(_) => ("logs", true),
        Command::Runs(args) => (if args.command.is_some() { "run" } else { "runs" }, false),
        Command::Threads(args) => (if args.command.is_some() { "thread" } else { "threads" }, false),
        Command::Secrets(args) => match args.command {
            SecretsCommand::List { .. } => ("secrets", false),
            _ => ("secrets-change", true),
        },
        Command::Scale(_) => ("scale", true),
        Command::Doctor(_) => ("doctor", false),
        Command::Keys(args) => match args.command {
            KeysCommand::Create { .. } => ("key", false),
            KeysCommand::List { .. } => ("keys", false),
            KeysCommand::Revoke { .. } => ("key-revoke", false),
        },
        Command::Tokens(args) => match args.command {
            TokensCommand::Create { .. } => ("token", false),
            TokensCommand::List => ("tokens", false),
            TokensCommand::Revoke { .. } => ("token-revoke", false),
        },
        Command::Destroy(_) => ("destroy", false),
        Command::Server(args) => match args.command {
            ServerCommand::Run(_) => ("server-run", false),
            ServerCommand::Start(_) => ("server-start", false),
            ServerCommand::Restart(_) => ("server-restart", false),
            ServerCommand::Stop(_) => ("server-stop", false),
            ServerCommand::Status(_) => ("server-status", false),
            ServerCommand::Backup(_) => ("server-backup", false),
            ServerCommand::Restore(_) => ("server-restore", false),
        },
    }
}

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
        Command::Tokens(args) => tokens::run(args.command, global, printer).await,
        Command::Destroy(args) => destroy::run(&args, global, printer).await,
        Command::Server(args) => Box::pin(server::run(args.command, printer)).await,
    }
}
