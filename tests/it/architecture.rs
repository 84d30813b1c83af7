//! The rooms of the house (ARCHITECTURE.md): who may import whom, and what lives in one room only.

use std::path::{Path, PathBuf};

/// Rooms by floor: a room imports from its own floor or below.
const FLOORS: [(&str, u8); 17] = [
    ("cli", 5),
    ("server", 4),
    ("control", 3),
    ("gateway", 3),
    ("image", 2),
    ("runtime", 2),
    ("runner", 2),
    ("store", 2),
    ("egress", 2),
    ("models", 2),
    ("registry", 2),
    ("client", 2),
    ("manifest", 1),
    ("release", 1),
    ("run", 1),
    ("api", 1),
    ("base", 0),
];

/// What is used in some rooms only.
const KEPT_IN: [(&[&str], &[&str]); 6] = [
    (&["sqlx::query", "sqlx::raw_sql"], &["store/"]),
    (&["bollard::"], &["image/", "runtime/docker/"]),
    (&["kube::", "k8s_openapi::"], &["runtime/kubernetes/"]),
    (&["clap::", "clap_complete::", "indicatif::", "dialoguer::", "comfy_table::"], &["cli/"]),
    (&["println!(", "print!(", "dbg!("], &[]),
    // A task has a name or counts where it was spawned (base/shutdown.rs); the others are tests, and the wait for signals.
    (
        &["tokio::spawn(", "task::spawn(", "thread::spawn(", "thread::Builder"],
        &[
            "base/",
            "cli/",
            "client/keyring.rs",
            "server/signals.rs",
            "egress/tests.rs",
            "models/tests.rs",
            "runtime/docker/engine.rs",
            "store/test_database.rs",
        ],
    ),
];

const LONGEST_FILE: usize = 600;

struct Source {
    /// Below `src/`.
    path: String,
    /// Without comments.
    code: Vec<String>,
}

/// All Rust sources.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources: Vec<Source> = files(&root, "rs")
        .into_iter()
        .map(|path| Source {
            path: path.strip_prefix(&root).expect("below src").display().to_string(),
            code: read(&path).lines().map(|line| line.split("//").next().unwrap_or_default().to_owned()).collect(),
        })
        .collect();
    sources.sort_by(|one, two| one.path.cmp(&two.path));
    assert!(sources.len() > 50, "only {} files below {}", sources.len(), root.display());
    sources
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

/// The rooms that a line names: `crate::store::…`, and each of `use crate::{store, …}`.
fn named(line: &str) -> Vec<String> {
    let ident = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    line.match_indices("crate::")
        .flat_map(|(at, found)| {
            let rest = &line[at + found.len()..];
            match rest.strip_prefix('{') {
                Some(list) => list.split(',').map(|one| ident(one.trim())).collect(),
                None => vec![ident(rest)],
            }
        })
        .collect()
}

#[test]
fn every_room_has_a_floor() {
    for source in sources() {
        let room = source.path.split('/').next().unwrap_or_default();
        let is_root = matches!(room, "lib.rs" | "main.rs");
        assert!(is_root || floor(room).is_some(), "src/{} is in a room without a floor", source.path);
    }
}

#[test]
fn imports_go_down_and_nobody_imports_the_cli() {
    let mut wrong = Vec::new();
    for source in sources() {
        let room = source.path.split('/').next().unwrap_or_default();
        let Some(own) = floor(room) else { continue };
        for (number, line) in (1..).zip(&source.code) {
            for named in named(line) {
                let up = floor(&named).is_some_and(|other| other > own);
                if up || (named == "cli" && room != "cli") {
                    wrong.push(format!("src/{}:{number}: {room} (floor {own}) imports {named}", source.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_list_of_rooms_is_read_as_well() {
    assert_eq!(named("use crate::store::Store;"), ["store"]);
    assert_eq!(named("use crate::{api, store::Store};"), ["api", "store"]);
    assert_eq!(named("fn f(a: crate::api::X, b: crate::run::Y)"), ["api", "run"]);
}

#[test]
fn what_belongs_to_one_room_is_used_nowhere_else() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (words, rooms) in KEPT_IN {
            if rooms.iter().any(|room| source.path.starts_with(room)) {
                continue;
            }
            for (number, line) in (1..).zip(&source.code) {
                // The word itself, not the end of a longer one (`eprintln!` is found by `println!`, and shall be).
                for word in words.iter().filter(|word| line.contains(**word)) {
                    wrong.push(format!("src/{}:{number}: {word} belongs to {rooms:?}", source.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_is_longer_than_anybody_reads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["src", "tests", "scripts"].map(|name| root.join(name));
    let mut wrong = Vec::new();
    for path in folders.iter().flat_map(|folder| [files(folder, "rs"), files(folder, "py")].concat()) {
        let lines = read(&path).lines().count();
        if lines > LONGEST_FILE {
            wrong.push(format!("{}: {lines} lines, more than {LONGEST_FILE}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
