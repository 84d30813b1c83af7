//! The matrix as it is printed, and as it lies in `target/fault-matrix.txt`.

use crate::machine::repository;
use std::fmt::Write as _;
use std::path::PathBuf;

/// One cell as it ended.
pub struct Row {
    pub victim: String,
    pub work: &'static str,
    pub phase: &'static str,
    pub outcome: String,
    pub exit: String,
}

fn folder() -> PathBuf {
    repository().join("target/fault-matrix")
}

/// Prints the rows of one victim, and puts them into the whole table.
#[expect(clippy::print_stdout, reason = "the matrix is there to be read")]
pub fn print(rows: &[Row]) {
    let mut text = String::new();
    for Row { victim, work, phase, outcome, exit } in rows {
        writeln!(text, "{victim:<16} {work:<19} {phase:<9} {outcome:<42} {exit}").unwrap();
    }
    let head = format!("{:<16} {:<19} {:<9} {:<42} {}\n", "SIGKILL OF", "DURING", "IN PHASE", "IN THE END", "CLI EXIT");
    println!("{head}{text}");
    std::fs::create_dir_all(folder()).unwrap();
    let name = rows[0].victim.replace([' ', ','], "-");
    std::fs::write(folder().join(format!("{name}.txt")), text).unwrap();
    let mut parts: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().flatten().map(|entry| entry.path()).collect();
    parts.sort();
    let parts: Vec<String> = parts.iter().map(|part| std::fs::read_to_string(part).unwrap()).collect();
    std::fs::write(repository().join("target/fault-matrix.txt"), head + &parts.concat()).unwrap();
}
