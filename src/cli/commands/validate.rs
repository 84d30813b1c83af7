//! `validate`: the manifest and the project behind it, all faults at once.

use super::project;
use crate::cli::args::ValidateArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::ui::{Format, Printer};
use crate::manifest::{Graph, render, schema::TEXT, turns};
use serde_json::json;

/// Exit 0 when there are no errors, 3 when there are, 2 when it is right and cannot be deployed yet.
pub fn run(args: &ValidateArgs, printer: &Printer) -> Result<Exit, Failure> {
    let checked = project::check(&args.manifest.manifest, args.manifest_only)?;
    let manifest = &checked.loaded.manifest;
    if !checked.warnings.is_empty() && !printer.is_quiet() {
        printer.text(render(&checked.warnings));
        printer.faults(&checked.warnings);
    }
    let graphs: Vec<&str> = manifest.graphs.iter().map(|graph| graph.id.as_str()).collect();
    let is_turn = |graph: &&Graph| !args.manifest_only && turns::is_turn(manifest, &checked.folder, graph);
    let turns: Vec<&str> = manifest.graphs.iter().filter(is_turn).map(|graph| graph.id.as_str()).collect();
    let deployable = project::python_only(&checked);
    if printer.format() == Format::Json {
        printer.json(&json!({
            "valid": true, "name": manifest.name, "graphs": graphs, "plain_turns": turns,
            "warnings": checked.warnings.iter().map(|fault| json!({
                "code": fault.code, "message": fault.message, "file": fault.file, "line": fault.line,
                "column": fault.column, "fix": fault.fix,
            })).collect::<Vec<_>>(),
            "not_enforced_yet": manifest.not_enforced(), "deployable": deployable.is_ok(),
        }));
        return deployable.map(|()| Exit::Done);
    }
    let count = counted(graphs.len() - turns.len(), turns.len());
    printer.line(format!("{} is valid: agent {}, {count}", args.manifest.manifest.display(), manifest.name));
    for note in manifest.notes_of_later() {
        printer.note(note);
    }
    deployable.map(|()| Exit::Done)
}

/// What the manifest names, in words.
fn counted(graphs: usize, turns: usize) -> String {
    let some = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    match (graphs, turns) {
        (_, 0) => some(graphs, "graph"),
        (0, _) => some(turns, "plain turn"),
        _ => format!("{}, {}", some(graphs, "graph"), some(turns, "plain turn")),
    }
}

/// Prints the JSON Schema of manifests.
pub fn schema(printer: &Printer) -> Exit {
    printer.line(TEXT.trim_end());
    Exit::Done
}
