//! Files that the code needs and an ignore file leaves out, named with the rule before anything is built: what an
//! import leads to from the graphs on, and what a path in the code names.
//!
//! The code is read, not run, line by line: a file that is not found to be needed may be needed all the same, and one
//! that is made while the agent runs may be named here. So these are warnings.

use super::diagnostic::{Diagnostic, Severity};
use super::files::Files;
use super::folders::{context_root, local_dependencies, private_files};
use super::ignore::{IgnoreRules, normalize};
use super::{GraphTarget, Loaded};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// How many modules are followed.
const MAX_MODULES: usize = 2_000;
/// How many such files are named.
const MAX_NAMED: usize = 10;
/// What programs write rather than read.
const WRITTEN: [&str; 5] = ["log", "pid", "tmp", "lock", "pyc"];

/// The modules and files that the graphs need and no image would have. `roots` are the folders of `dependencies`.
pub(super) fn check(loaded: &Loaded, folder: &Path, roots: &[PathBuf], files: &mut Files) -> Vec<Diagnostic> {
    let private = private_files(&loaded.manifest, folder);
    let roots: Vec<Root> = roots
        .iter()
        .filter_map(|root| {
            let rules = IgnoreRules::load(&context_root(root, folder), &private).ok()?;
            Some(Root { path: root.clone(), rules })
        })
        .collect();
    let mut search = Search {
        folder,
        files,
        roots,
        pending: Vec::new(),
        seen: HashSet::new(),
        named: HashSet::new(),
        faults: Vec::new(),
    };
    for graph in loaded.manifest.graphs.iter().filter(|graph| !graph.is_javascript()) {
        match &graph.target {
            GraphTarget::File { path, .. } => search.follow(normalize(&folder.join(path))),
            GraphTarget::Module { module, .. } => search.import(module, None, &[]),
        }
    }
    search.run();
    search.faults.sort_by(|one, other| (&one.file, one.line).cmp(&(&other.file, other.line)));
    search.faults
}

/// What leaves out the file or module that an error of the running code names (`No module named 'a.b'`, `No such file
/// or directory: 'a/b'`): the file, and the rule.
pub fn missing_in_image(loaded: &Loaded, folder: &Path, said: &str) -> Option<(String, String)> {
    let quoted = |words: &str| {
        let rest = said.rsplit_once(words)?.1.trim_start();
        let quote = rest.chars().next().filter(|one| matches!(one, '\'' | '"'))?;
        Some(rest[1..].split_once(quote)?.0.to_owned())
    };
    let private = private_files(&loaded.manifest, folder);
    let roots = local_dependencies(&loaded.manifest, folder);
    roots.into_iter().find_map(|(_, path)| {
        let rules = IgnoreRules::load(&context_root(&path, folder), &private).ok()?;
        let mut root = Root { path, rules };
        let module = quoted("No module named");
        let module = module.iter().flat_map(|module| root.candidates(module)).collect::<Vec<_>>();
        let name = quoted("No such file or directory:");
        let file = name.iter().flat_map(|name| {
            let name =
                name.strip_prefix("/deps/").and_then(|name| name.split_once('/')).map_or(&**name, |(_, rest)| rest);
            [root.path.join(name), folder.join(name)]
        });
        let places: Vec<PathBuf> = module.into_iter().chain(file).collect();
        places.into_iter().map(|place| normalize(&place)).find_map(|place| {
            let inside = place.starts_with(&root.path) && place.exists();
            let rule = root.rules.rule(&place).filter(|_| inside)?;
            Some((place.strip_prefix(folder).unwrap_or(&place).display().to_string(), rule))
        })
    })
}

struct Root {
    path: PathBuf,
    rules: IgnoreRules,
}

impl Root {
    /// Where a module of that name would lie.
    fn candidates(&self, module: &str) -> Vec<PathBuf> {
        let inner: PathBuf = module.split('.').collect();
        let bases = [self.path.clone(), self.path.join("src")];
        bases.iter().flat_map(|base| files_of(&base.join(&inner))).collect()
    }
}

/// The files that make a module.
fn files_of(place: &Path) -> [PathBuf; 2] {
    [place.with_extension("py"), place.join("__init__.py")]
}

struct Search<'a> {
    folder: &'a Path,
    files: &'a mut Files,
    roots: Vec<Root>,
    pending: Vec<PathBuf>,
    seen: HashSet<PathBuf>,
    named: HashSet<PathBuf>,
    faults: Vec<Diagnostic>,
}

/// A line of a module.
struct Place<'a> {
    file: &'a Path,
    line: usize,
    text: &'a str,
}

impl Search<'_> {
    fn run(&mut self) {
        while let Some(file) = self.pending.pop() {
            let Some(text) = self.files.text(&file) else { continue };
            let mut lines = text.lines().enumerate();
            let mut strings = Vec::new();
            while let Some((number, line)) = lines.next() {
                let place = Place { file: &file, line: number + 1, text: line };
                let statement = line.trim_start();
                if let Some(names) = statement.strip_prefix("import ") {
                    for name in names.split(',') {
                        self.import(first_word(name), Some(&place), &[]);
                    }
                } else if let Some((module, names)) =
                    statement.strip_prefix("from ").and_then(|rest| rest.split_once(" import"))
                {
                    let mut names = names.to_owned();
                    while names.contains('(') && !names.contains(')') {
                        let Some((_, more)) = lines.next() else { break };
                        names += more.split('#').next().unwrap_or_default();
                    }
                    let names: Vec<&str> = names.trim().trim_matches(['(', ')']).split(',').map(first_word).collect();
                    self.import(module.trim(), Some(&place), &names);
                } else {
                    strings.clear();
                    find_strings(line, &mut strings);
                    self.paths(&place, &strings);
                }
            }
        }
    }

    fn follow(&mut self, file: PathBuf) {
        if self.seen.len() < MAX_MODULES && self.seen.insert(file.clone()) {
            self.pending.push(file);
        }
    }

    /// Follows `from MODULE import NAMES`, or names what of it is left out. A module of nobody here is installed.
    fn import(&mut self, module: &str, place: Option<&Place<'_>>, names: &[&str]) {
        let level = module.bytes().take_while(|byte| *byte == b'.').count();
        let parts: Vec<&str> = module[level..].split('.').filter(|part| !part.is_empty()).collect();
        if !parts.iter().all(|part| is_name(part)) {
            return;
        }
        let bases: Vec<PathBuf> = match (place, level) {
            (_, 0) => self.roots.iter().flat_map(|root| [root.path.clone(), root.path.join("src")]).collect(),
            (Some(place), level) => place.file.ancestors().nth(level).map(Path::to_owned).into_iter().collect(),
            (None, _) => return,
        };
        for base in bases {
            let found = self.modules(&base, &parts, names);
            // A folder of that name alone says little: an installed package has it too.
            for file in &found {
                if !place.is_some_and(|place| self.name(file, place, "imports it")) {
                    self.follow(file.clone());
                }
            }
            if !found.is_empty() {
                return;
            }
        }
    }

    /// The files that `from PARTS import NAMES` reads below a folder: its packages, itself, and the modules in it.
    fn modules(&mut self, base: &Path, parts: &[&str], names: &[&str]) -> Vec<PathBuf> {
        let (mut found, mut folder) = (Vec::new(), base.to_owned());
        if let Some((last, packages)) = parts.split_last() {
            for package in packages {
                folder.push(package);
                found.extend(self.files.package(&folder));
            }
            found.extend(self.files.modules(&folder, last));
            folder.push(last);
        }
        for name in names.iter().filter(|name| is_name(name)) {
            found.extend(self.files.modules(&folder, name));
        }
        found
    }

    /// Names the files that the line's strings lead to and that are left out.
    fn paths(&mut self, place: &Place<'_>, strings: &[&str]) {
        for text in strings.iter().filter(|text| is_path(text)) {
            self.path(text, place);
        }
        // `join('a', 'b')`, `Path('a') / 'b'`
        let [first, _, ..] = strings else { return };
        if Self::bases(self.folder, place).iter().any(|base| self.files.may_hold(base, first)) {
            for joined in (1..strings.len()).map(|count| strings[..=count].join("/")).filter(|text| is_path(text)) {
                self.path(&joined, place);
            }
        }
    }

    /// Where a path in the code may begin: beside the module, or where the manifest lies.
    fn bases<'p>(folder: &'p Path, place: &Place<'p>) -> [&'p Path; 2] {
        [place.file.parent().unwrap_or(folder), folder]
    }

    fn path(&mut self, text: &str, place: &Place<'_>) {
        for base in Self::bases(self.folder, place) {
            let path = normalize(&base.join(text));
            if self.files.may_hold(base, text) && path.exists() {
                self.name(&path, place, "names it");
                break;
            }
        }
    }

    /// Whether `path` is left out; then it is named, once.
    fn name(&mut self, path: &Path, place: &Place<'_>, how: &str) -> bool {
        // What is followed has been judged, or is where a graph is.
        if self.seen.contains(path) {
            return false;
        }
        let holder = self.roots.iter_mut().find(|root| path.starts_with(&root.path));
        let Some(rule) = holder.and_then(|root| root.rules.rule(path)) else { return false };
        if self.faults.len() >= MAX_NAMED || !self.named.insert(path.to_owned()) {
            return true;
        }
        let shown = |path: &Path| path.strip_prefix(self.folder).unwrap_or(path).display().to_string();
        let column = place.text.chars().take_while(|one| one.is_whitespace()).count() + 1;
        self.faults.push(Diagnostic {
            severity: Severity::Warning,
            code: "needed-and-excluded",
            message: format!("{} does not enter the image, and the code {how}: {rule} excludes it", shown(path)),
            file: shown(place.file),
            line: place.line,
            column,
            length: place.text.trim().chars().count().max(1),
            fix: Some(
                "let Git track it, take it back with a `!` line, or write a .dockerignore, which decides instead"
                    .into(),
            ),
            snippet: Some(place.text.to_owned()).filter(|text| text.len() < 200 && !text.contains("://")),
        });
        true
    }
}

/// Whether a string may name a file that is read: one of the project's, by its look.
fn is_path(text: &str) -> bool {
    (3..200).contains(&text.len())
        && text.bytes().any(|byte| byte == b'.' || byte == b'/')
        && !text.starts_with('/')
        && !text.contains(char::is_whitespace)
        && !text.contains("://")
        && !Path::new(text).extension().is_some_and(|end| WRITTEN.iter().any(|one| end == *one))
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|one| one.is_alphanumeric() || one == '_')
}

/// `a.b as c` is `a.b`.
fn first_word(text: &str) -> &str {
    text.split('#').next().unwrap_or_default().split_whitespace().next().unwrap_or_default()
}

/// Adds the strings of a line that end on it, without escapes.
fn find_strings<'t>(line: &'t str, found: &mut Vec<&'t str>) {
    let mut rest = line;
    while let Some(at) = memchr::memchr3(b'\'', b'"', b'#', rest.as_bytes()) {
        let quote = rest.as_bytes()[at];
        if quote == b'#' {
            break;
        }
        rest = &rest[at + 1..];
        let Some(end) = memchr::memchr(quote, rest.as_bytes()) else { break };
        let text = &rest[..end];
        if !text.is_empty() && !text.contains('\\') {
            found.push(text);
        }
        rest = &rest[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> (Vec<String>, tempfile::TempDir, Loaded) {
        let folder = tempfile::tempdir().unwrap();
        let manifest = r#"{"dependencies": ["."], "graphs": {"agent": "./agent.py:graph"}}"#;
        for (name, text) in files.iter().chain(&[("langgraph.json", manifest)]) {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let loaded = crate::manifest::load(&folder.path().join("langgraph.json")).unwrap();
        let faults = check(&loaded, folder.path(), &[folder.path().to_owned()], &mut Files::default());
        let told = faults.iter().map(|fault| {
            let message = fault.message.replace("does not enter the image, and the code ", "");
            format!("{}:{} {message}", fault.file, fault.line)
        });
        (told.collect(), folder, loaded)
    }

    #[test]
    fn what_the_code_needs_is_named_with_the_rule_that_leaves_it_out() {
        let files = [
            (
                "agent.py",
                "import os, pkg.one as one\nfrom pkg import (\n    two,  # here\n    three,\n)\nprompt = open('data/prompt.txt').read()\nos.path.join('data', 'more.json')\ngraph = 1\n",
            ),
            ("pkg/__init__.py", ""),
            ("pkg/one.py", "from .lib.util import WORD\nfrom . import gen_pb2\nfrom missing import x\n"),
            ("pkg/two.py", "raise SystemExit('data/prompt.txt')\nload('data', 'far.json')\n"),
            ("pkg/three.py", "# open('data/left.txt')\nopen('run.log')\nurl = 'https://h/data/left.txt'\n"),
            ("pkg/lib/util.py", "import pkg.gen_pb2\n"),
            ("pkg/gen_pb2.py", ""),
            ("data/prompt.txt", ""),
            ("data/more.json", ""),
            ("data/left.txt", ""),
            ("data/far.json", ""),
            ("run.log", ""),
            (".gitignore", "# c\nlib/\n*_pb2.py\ndata/\n*.log\n"),
        ];
        let (found, folder, loaded) = of(&files);
        let want = [
            "agent.py:6 data/prompt.txt names it: .gitignore:4 (`data/`) excludes it",
            "agent.py:7 data/more.json names it: .gitignore:4 (`data/`) excludes it",
            "pkg/one.py:1 pkg/lib/util.py imports it: .gitignore:2 (`lib/`) excludes it",
            "pkg/one.py:2 pkg/gen_pb2.py imports it: .gitignore:3 (`*_pb2.py`) excludes it",
            "pkg/two.py:2 data/far.json names it: .gitignore:4 (`data/`) excludes it",
        ];
        assert_eq!(found, want);
        let missing = |said: &str| missing_in_image(&loaded, folder.path(), said);
        let gone = Some(("pkg/gen_pb2.py".to_owned(), ".gitignore:3 (`*_pb2.py`)".to_owned()));
        assert_eq!(missing("ModuleNotFoundError: No module named 'pkg.gen_pb2'"), gone);
        let gone = Some(("data/left.txt".to_owned(), ".gitignore:4 (`data/`)".to_owned()));
        assert_eq!(missing("FileNotFoundError: [Errno 2] No such file or directory: '/deps/app/data/left.txt'"), gone);
        assert_eq!(missing("FileNotFoundError: [Errno 2] No such file or directory: 'data/left.txt'"), gone);
        for other in [
            "No module named 'pkg.one'",
            "No module named 'nowhere'",
            "No such file or directory: '/etc/x'",
            "No module named",
        ] {
            assert_eq!(missing(other), None, "{other}");
        }
    }

    #[test]
    fn a_dockerignore_decides_instead_and_is_named() {
        let files = [
            ("agent.py", "import util, other\n"),
            ("util.py", ""),
            ("other.py", ""),
            (".gitignore", "util.py\n"),
            (".dockerignore", "*\n!agent.py\n!util.py\n"),
        ];
        assert_eq!(of(&files).0, ["agent.py:1 other.py imports it: .dockerignore:1 (`*`) excludes it"]);
    }
}
