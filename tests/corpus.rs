//! Manifests of others and hand-made edge cases, each with what langgraph-cli 0.4.40 says of it.
//!
//! `tests/corpus/cases` is our own and always read. The 156 manifests of public repositories are not
//! ours to keep: they are read from the folder that `RAPIDCLAW_CORPUS` names.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests fail by panicking")]

use rapidclaw::manifest::{self, render};
use std::path::{Path, PathBuf};

/// Cases that langgraph-cli lets through and cannot build: here they are refused at once.
const REFUSED_LATER: [&str; 1] = ["S009"];

fn read(path: &Path) -> Result<(), String> {
    match manifest::load(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{error}\n{}", render(error.diagnostics()))),
    }
}

/// The rows of a tab-separated table, without its head.
fn rows(path: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

#[test]
fn the_edge_cases_end_as_langgraph_cli_ends_them() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/cases");
    let mut disagreements = Vec::new();
    let rows = rows(&folder.join("LABELS.tsv"));
    assert!(rows.len() > 50, "only {} cases", rows.len());
    for row in &rows {
        let (id, case, verdict) = (&row[0], &row[1], &row[2]);
        let wanted = verdict == "accept" && !REFUSED_LATER.contains(&id.as_str());
        let got = read(&folder.join(format!("{id}.json")));
        if got.is_ok() != wanted {
            disagreements.push(format!("{id} ({case}): langgraph {verdict}, we {got:?}"));
        }
    }
    assert!(disagreements.is_empty(), "{}", disagreements.join("\n"));
}

#[test]
fn manifests_of_public_repositories_are_accepted_where_langgraph_cli_accepts_them() {
    let Some(corpus) = std::env::var_os("RAPIDCLAW_CORPUS").map(PathBuf::from) else {
        eprintln!("LEFT OUT: RAPIDCLAW_CORPUS is not set, so the manifests of public repositories were not read");
        return;
    };
    let mut disagreements = Vec::new();
    let rows = rows(&corpus.join("real/INDEX.tsv"));
    assert!(rows.len() > 150, "only {} manifests", rows.len());
    for row in &rows {
        let (id, repository, validate, build) = (&row[0], &row[1], &row[4], &row[5]);
        let got = read(&corpus.join(format!("real/{id}.json")));
        let wanted = validate == "accept" && build == "ok";
        // What fails only in its repository's tree may pass here: the tree is not here.
        if wanted && got.is_err() || validate == "reject" && got.is_ok() {
            disagreements.push(format!("{id} ({repository}): langgraph {validate} {build}, we {got:?}"));
        }
    }
    assert!(disagreements.is_empty(), "{}", disagreements.join("\n\n"));
}
