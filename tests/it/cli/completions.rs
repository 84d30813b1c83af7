//! completions/ is what the command line is now.

use clap::CommandFactory as _;
use clap_complete::Shell;
use rapidclaw::cli::args::Cli;
use std::path::Path;

const FILES: [(Shell, &str); 5] = [
    (Shell::Bash, "rapidclaw.bash"),
    (Shell::Zsh, "_rapidclaw"),
    (Shell::Fish, "rapidclaw.fish"),
    (Shell::PowerShell, "_rapidclaw.ps1"),
    (Shell::Elvish, "rapidclaw.elv"),
];

#[test]
fn the_kept_completions_are_those_of_the_command_line() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("completions");
    let differ: Vec<&str> = FILES
        .into_iter()
        .filter(|(shell, name)| {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "rapidclaw", &mut script);
            let now = String::from_utf8(script).unwrap();
            let kept = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
            kept.trim_end() != now.trim_end()
        })
        .map(|(_, name)| name)
        .collect();
    assert!(
        differ.is_empty(),
        "{} differ from the command line; renew them: scripts/completions.sh",
        differ.join(", ")
    );
}
