//! The command line: arguments, one file a command, what people see, exit codes. The composition root.

pub mod args;
mod commands;
pub mod exit;
mod session;
mod ui;

use crate::base::{env, telemetry};
use args::{Cli, Command, ServerArgs, ServerCommand};
use clap::Parser as _;
use exit::{Exit, Failure};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use ui::{Printer, Record};

/// How long the end of a process waits for its log.
const LOG_PATIENCE: Duration = Duration::from_secs(1);

/// How long an interrupted build may put the engine in order.
const CLEAR_UP: Duration = Duration::from_secs(5);

/// The log of `-vv`: which connections are made, to which address. No header and no body is in it.
const EVERYTHING: &str = "info,rapidclaw=trace,reqwest=debug,hyper_util=debug";

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { wrong_usage(&error) } else { Exit::Done.into() };
        }
    };
    let (printer, problem) = Printer::new(&cli.global);
    let (command, streams) = commands::label(&cli.command);
    printer.begin(command, streams);
    let done = match problem {
        Some(problem) => Err(problem),
        None => run(cli, &printer),
    };
    let exit = match done {
        Ok(exit) => exit,
        Err(failure) => {
            printer.failure(&failure);
            failure.exit
        }
    };
    printer.finish(exit);
    telemetry::flush(LOG_PATIENCE);
    exit.into()
}

/// clap has said to people what is wrong; programs get it as they get every failure.
fn wrong_usage(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().any(|argument| argument == "--json");
    let file = env::var(env::OUTPUT_FILE);
    let record = Record::new(json, file.as_deref().map(Path::new)).unwrap_or_else(|_| Record::only_stdout(json));
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    let failure = Failure::said(Exit::Usage, first.strip_prefix("error: ").unwrap_or(first).to_owned());
    record.failure(failure.to_json());
    Exit::Usage.into()
}

fn run(cli: Cli, printer: &Printer) -> Result<Exit, Failure> {
    let Cli { global, command } = cli;
    match command {
        // What needs no runtime gets none.
        Command::Completions(args) => return commands::completions::run(&args, printer),
        Command::Validate(args) => return commands::validate::run(&args, printer),
        Command::Schema => return Ok(commands::validate::schema(printer)),
        _ => {}
    }
    if !matches!(command, Command::Server(_)) && global.verbose > 0 {
        telemetry::init(Some(if global.verbose > 1 { EVERYTHING } else { "rapidclaw=debug" }), false);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, error))?;
    // A server has its own way to stop, and prints nothing that it could end with.
    let is_server = matches!(&command, Command::Server(ServerArgs { command: ServerCommand::Run(_) }));
    let done = runtime.block_on(async {
        let mut command = std::pin::pin!(commands::run(command, &global, printer));
        tokio::select! {
            done = &mut command => done,
            () = interrupted(), if !is_server => {
                if printer.interrupt() {
                    tokio::select! {
                        _ = tokio::time::timeout(CLEAR_UP, &mut command) => {}
                        // Whoever asks twice does not wait.
                        () = interrupted() => {}
                    }
                }
                if printer.is_endless() { Ok(Exit::Interrupted) } else { Err(printer.interrupted()) }
            }
            // What only shows things ends with its reader; what changes something goes on to its end.
            () = printer.reader_gone(), if !is_server => Ok(Exit::Done),
        }
    });
    // A prompt may still hold a blocking thread: it is not waited for.
    runtime.shutdown_background();
    done
}

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
