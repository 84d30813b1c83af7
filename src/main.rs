//! The `rapidclaw` binary: all is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    rapidclaw::cli::main()
}
