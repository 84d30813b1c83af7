//! A row of the table of routes has a permission, or it does not compile (`Route::PERMISSION` has no default). So
//! no route may be mounted past the table.

use crate::machine::repository;
use std::path::Path;

/// What mounts a route of axum's.
const MOUNTS: [&str; 3] = ["axum::routing", ".route_service(", ".nest("];
/// Who may: the table's own file, and the registry, whose routes are the distribution specification's.
const MAY: [&str; 2] = ["server/routes.rs", "server/registry_api/mod.rs"];

/// The lines of a file of the server that mount a route past the table.
fn past_the_table<'a>(path: &str, text: &'a str) -> Vec<&'a str> {
    if MAY.contains(&path) || !path.starts_with("server/") {
        return Vec::new();
    }
    text.lines().filter(|line| MOUNTS.iter().any(|word| line.contains(word))).collect()
}

fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn no_route_is_mounted_past_the_table() {
    let root = repository().join("src");
    let mut found = Vec::new();
    files(&root.join("server"), &mut found);
    assert!(found.len() > 20, "{found:?}");
    for path in found {
        let text = std::fs::read_to_string(&path).unwrap();
        let path = path.strip_prefix(&root).unwrap().display().to_string();
        assert_eq!(past_the_table(&path, &text), Vec::<&str>::new(), "{path}");
    }
    // And one that is planted is found.
    let planted = "use axum::routing::get;\nrouter.route(\"/v1/everything\", get(everything))";
    assert_eq!(past_the_table("server/operations_api.rs", planted), ["use axum::routing::get;"]);
}
