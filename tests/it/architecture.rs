//! Layers, circles, and what lives in one module only (ARCHITECTURE.md).

mod code;
mod imports;

use code::{Code, Function};
use imports::Import;
use std::path::{Path, PathBuf};

/// The modules of `src/` and their layers: a module imports from its own layer or below.
const LAYERS: [(&str, u8); 18] = [
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
    ("engine", 1),
    ("release", 1),
    ("run", 1),
    ("api", 1),
    ("base", 0),
];

/// What is used in some modules only.
const KEPT_IN: [(&[&str], &[&str]); 6] = [
    (&["sqlx::query", "sqlx::raw_sql"], &["store/"]),
    (&["bollard::"], &["engine/", "image/", "runtime/docker/"]),
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
            "engine/connect.rs",
            "store/test_database.rs",
        ],
    ),
];

const LONGEST_FILE: usize = 600;

/// Lines of code in a function, without blank ones and comments.
const LONGEST_FUNCTION: usize = 80;

/// Functions that are longer and not split yet: file below `src/` and name.
const LONG_LEFT: &[(&str, &str)] = &[("cli/commands/deploy.rs", "run")];

/// Imports that close a circle and are not mended yet: from, to. One that closes none any more has to go from here.
const CIRCLES_LEFT: &[(&str, &str)] = &[
    ("control", "control::access"),
    ("control", "control::builds"),
    ("control", "control::database"),
    ("control", "control::fleet"),
    ("control", "control::leftovers"),
    ("control", "control::reconciler"),
    ("control::error", "control::builds"),
    ("control::error", "control::tokens"),
    ("control::builds", "control::builds::run"),
    ("control::reconciler", "control::reconciler::drive"),
    ("control::reconciler", "control::reconciler::turnover"),
    ("server::error", "server::builds_api"),
    ("server::registry_api::auth", "server::extract"),
];

/// All Rust sources: their paths below `src/` and their texts.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let below = |path: &PathBuf| path.strip_prefix(&root).expect("below src").display().to_string();
    let mut sources: Vec<(String, String)> =
        files(&root, "rs").iter().map(|path| (below(path), read(path))).filter(|(path, _)| path != "main.rs").collect();
    sources.sort();
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

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// Imports from a higher layer, and of `cli`.
fn upward(imports: &[Import]) -> Vec<String> {
    let mut wrong = Vec::new();
    for Import { from, to, text, place } in imports {
        let (Some(from), Some(to)) = (from.first(), to.first()) else { continue };
        let (Some(own), Some(other)) = (layer(from), layer(to)) else { continue };
        if other > own || (to == "cli" && from != "cli") {
            wrong.push(format!("{place}: {from} (layer {own}) imports {text} from {to} (layer {other})"));
        }
    }
    wrong
}

/// The circles but for those that are left, and what is listed as left and is none.
fn circles(imports: &[Import], left: &[(&str, &str)]) -> Vec<String> {
    let is_left = |import: &Import, pair: &(&str, &str)| (&*import.from.join("::"), &*import.to.join("::")) == *pair;
    let others: Vec<Import> =
        imports.iter().filter(|import| !left.iter().any(|pair| is_left(import, pair))).cloned().collect();
    let mut wrong = imports::circles(&others);
    for pair in left {
        let back: Vec<Import> = imports.iter().filter(|import| is_left(import, pair)).cloned().collect();
        if imports::circles(&[others.clone(), back].concat()).is_empty() {
            wrong.push(format!("{} -> {} closes no circle: take it from CIRCLES_LEFT", pair.0, pair.1));
        }
    }
    wrong
}

fn long_functions(code: &Code) -> Vec<String> {
    let is_left = |function: &Function| {
        LONG_LEFT
            .iter()
            .any(|(file, name)| function.place.starts_with(&format!("src/{file}:")) && function.name == *name)
    };
    let long = code.functions.iter().filter(|function| function.lines > LONGEST_FUNCTION).filter(|one| !is_left(one));
    long.map(|function| format!("{}: {} has {} lines", function.place, function.name, function.lines)).collect()
}

/// Sources of a case, each a path and a text.
fn planted(sources: &[(&str, &str)]) -> Code {
    Code::read(&sources.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect::<Vec<_>>())
}

#[test]
fn every_module_has_a_layer() {
    for (path, _) in sources() {
        let module = path.split('/').next().unwrap_or_default();
        assert!(module == "lib.rs" || layer(module).is_some(), "src/{path} is in a module without a layer");
    }
}

#[test]
fn imports_go_down_without_circles_and_functions_are_short() {
    let code = Code::read(&sources());
    let imports = imports::imports(&code);
    assert!(imports.len() > 1000, "only {} imports were found", imports.len());
    let wrong = [upward(&imports), circles(&imports, CIRCLES_LEFT), long_functions(&code)].concat();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_upward_import_is_found_by_whatever_spelling() {
    let found = |path: &str, text: &str| {
        let code = planted(&[
            ("lib.rs", "pub mod server; pub mod store; pub mod api;"),
            ("server/mod.rs", "pub mod error; pub use error::ApiError;"),
            ("server/error.rs", "pub struct ApiError; pub fn internal() {}"),
            ("api/mod.rs", "pub struct Wire;"),
            ("store/mod.rs", "mod runs; #[cfg(test)] mod tests;"),
            (path, text),
        ]);
        upward(&imports::imports(&code))
    };
    for text in [
        "use crate::server::ApiError;",
        "use crate::{\n    api,\n    server::{\n        error::{self, ApiError as Failure},\n    },\n};",
        "use super::super::server::error;",
        "pub use super::super::server::error::*;",
        "fn f() { crate::server::error::internal() }",
        "fn f() { super::super::server::error::internal() }",
        "fn f() -> Vec<crate::server::ApiError> { vec![] }",
        "fn f() { tracing::info!(a = 1, b = %crate::server::error::internal()) }",
        "macro_rules! m { () => { $crate::server::error::internal() } }",
        "#[derive(Deserialize)]\nstruct S { #[serde(default = \"crate::server::error::internal\")] a: u8 }",
        "mod inner { fn f() { super::super::super::server::error::internal() } }",
    ] {
        let wrong = found("store/runs.rs", text);
        assert!(!wrong.is_empty(), "not found: {text}");
        assert!(wrong.iter().all(|wrong| wrong.contains("store (layer 2) imports")), "{wrong:?}");
    }
    for text in [
        "use crate::api::Wire;",
        "// use crate::server::ApiError;\n/// See [`crate::server::ApiError`].\nfn f() {}",
        "#[cfg(test)]\nmod tests { use crate::server::ApiError; }",
        "fn f() { let server = \"crate::server::error\"; }",
        "fn f() { reqwest::server::error() }",
    ] {
        assert_eq!(found("store/runs.rs", text), [""; 0], "{text}");
    }
    // A module's tests may lie in a file of their own.
    assert_eq!(found("store/tests.rs", "use crate::server::ApiError;"), [""; 0]);
    // Nobody imports the command line, on whichever layer.
    let code = planted(&[("cli/mod.rs", "pub fn run() {}"), ("server/mod.rs", "fn f() { crate::cli::run() }")]);
    assert_eq!(upward(&imports::imports(&code)).len(), 1);
}

#[test]
fn a_circle_inside_a_layer_is_found() {
    let found = |sources: &[(&str, &str)]| circles(&imports::imports(&planted(sources)), &[]);
    // Two files, one of which names the other in an expression only.
    let pair = [
        ("image/mod.rs", "mod base; mod build; pub use build::Built;"),
        ("image/base.rs", "use super::Built; pub struct Base;"),
        ("image/build.rs", "pub struct Built; fn f() { let _ = crate::image::base::Base; }"),
    ];
    let wrong = found(&pair);
    assert!(wrong[0].contains("image::base -> image::build (src/image/base.rs:1: super::Built)"), "{wrong:?}");
    assert!(wrong[0].contains("image::build -> image::base"), "{wrong:?}");
    // Three, of which one is called by the name that its parent has for it.
    let three = [
        ("image/mod.rs", "mod lock; mod spec; mod tree;"),
        ("image/lock.rs", "use super::{spec}; pub fn f() { spec::g() }"),
        ("image/spec.rs", "use super::tree as other; pub fn g() { other::h() }"),
        ("image/tree.rs", "pub fn h() { super::lock::f() }"),
    ];
    assert_eq!(found(&three).len(), 1);
    // Two folders of a layer whose files form none.
    let folders = [
        ("image/mod.rs", "mod a; mod b;"),
        ("runtime/mod.rs", "mod a; mod b;"),
        ("image/a.rs", "use crate::runtime::a::A;"),
        ("runtime/a.rs", "pub struct A;"),
        ("image/b.rs", "pub struct B;"),
        ("runtime/b.rs", "use crate::image::b::B;"),
    ];
    assert_eq!(found(&folders).len(), 1);
    // A child that uses its parent, which calls it.
    let family = [
        ("store/mod.rs", "mod runs; pub struct Store; fn f() { runs::g() }"),
        ("store/runs.rs", "pub fn g(_: super::Store) {}"),
    ];
    assert_eq!(found(&family).len(), 1);
    // One that its parent only declares and re-exports.
    let exported = [
        ("store/mod.rs", "mod runs; pub use runs::Run; pub struct Store;"),
        ("store/runs.rs", "pub struct Run; pub fn g(_: super::Store) {}"),
    ];
    assert_eq!(found(&exported), [""; 0]);
    // One that is left is let be, and is to go from the list when it is mended.
    let imports = imports::imports(&planted(&family));
    assert_eq!(circles(&imports, &[("store::runs", "store")]), [""; 0]);
    let imports = imports::imports(&planted(&exported));
    assert_eq!(circles(&imports, &[("store::runs", "store")]).len(), 1);
}

#[test]
fn a_long_function_is_found() {
    let function = |lines: usize| {
        // Blank lines and comments do not count.
        let body = "    let _ = 1;\n\n    // Why.\n".repeat(lines);
        long_functions(&planted(&[("store/runs.rs", &format!("fn f() {{\n{body}}}\n"))]))
    };
    assert_eq!(function(LONGEST_FUNCTION), [""; 0]);
    assert_eq!(function(LONGEST_FUNCTION + 1), ["src/store/runs.rs:1: f has 81 lines"]);
}

#[test]
fn what_belongs_to_one_module_is_used_nowhere_else() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        for (words, modules) in KEPT_IN {
            if modules.iter().any(|module| path.starts_with(module)) {
                continue;
            }
            let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
            for (number, line) in (1..).zip(code) {
                // `eprintln!` is found by `println!`, and is meant to be.
                for word in words.iter().filter(|word| line.contains(**word)) {
                    wrong.push(format!("src/{path}:{number}: {word} belongs to {modules:?}"));
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
