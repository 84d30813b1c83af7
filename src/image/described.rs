//! A package that only its build backend can describe: Poetry's form, setup.py, dynamic dependencies. The backend
//! gets what describes the package and not its code, so that a change of the code installs nothing anew. What it
//! makes of that are the dependencies, and an editable installation (PEP 660) that points to where the code will
//! be: metadata, entry points and scripts as `pip install` makes them.

use crate::image::archive::{Content, Entry};
use crate::image::context::{Context, Kind, OWN, Root};
use crate::image::requirement_set::{Described, Requirements};
use crate::image::spec;
use crate::manifest::workspace::{project, read_pyproject, tool};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use toml::{Table, Value};

/// The largest file that a description may refer to, in bytes.
const MOST: u64 = 1 << 20;

/// Tables of `[tool]` that say nothing of a package: an edit of them installs nothing.
const OTHER_TOOLS: [&str; 22] = [
    "bandit",
    "black",
    "codespell",
    "commitizen",
    "coverage",
    "deptry",
    "flake8",
    "interrogate",
    "isort",
    "mypy",
    "poe",
    "pylint",
    "pyrefly",
    "pyright",
    "pytest",
    "ruff",
    "semantic_release",
    "taskipy",
    "towncrier",
    "tox",
    "ty",
    "vulture",
];

/// Backends, and words of a setup.py, that compile: their package is what they make of its code.
const COMPILING: [&str; 8] = [
    "cffi_modules",
    "cythonize",
    "ext_modules",
    "maturin",
    "mesonpy",
    "mypycify",
    "rust_extensions",
    "scikit_build_core",
];

/// Takes along what describes the root; nothing is taken where its code is compiled.
pub fn take(found: &mut Requirements, context: &Context, root: &Root) -> bool {
    let read = |name: &str| std::fs::read_to_string(root.path.join(name)).unwrap_or_default();
    let texts = ["pyproject.toml", "setup.py", "setup.cfg"].map(read);
    if COMPILING.iter().any(|word| texts.iter().any(|text| text.contains(word))) {
        return false;
    }
    let named = named_files(&texts, root);
    let files: Vec<_> = context.files_of(root).filter(|(file, _)| file.kind == Kind::File).collect();
    for (file, inner) in files {
        let whole = || Content::File(file.source.clone());
        let described = match inner.as_str() {
            "pyproject.toml" => {
                let Ok(Some(table)) = read_pyproject(&root.path) else { return false };
                let [installed, described] = [true, false].map(|versionless| described(&table, versionless));
                found.files.push(spec::entry(root, &inner, Content::Bytes(installed.into_bytes())));
                found.files.push(beside(root, &inner, Content::Bytes(described.into_bytes())));
                continue;
            }
            "setup.py" | "setup.cfg" | "MANIFEST.in" => whole(),
            _ if named.contains(&inner) && file.size <= MOST && !is_prose(&inner) => whole(),
            // What has to be there, whatever is in it.
            _ if named.contains(&inner) || is_mark(&inner) => Content::Bytes(Vec::new()),
            _ => continue,
        };
        found.files.push(spec::entry(root, &inner, described.clone()));
        found.files.push(beside(root, &inner, described));
    }
    if let Some(locked) = poetry_lock(&root.path) {
        found.files.push(spec::entry(root, POETRY_LOCK, Content::Bytes(locked.into_bytes())));
        found.constraints = Some(format!("{}/{POETRY_LOCK}", spec::folder_of(root)));
    }
    let file = if texts[0].is_empty() { "setup.py" } else { "pyproject.toml" };
    found.project = Some(format!("{}/{file}", spec::folder_of(root)));
    found.described = Some(Described { target: root.target.clone() });
    true
}

/// Where the versions of a poetry.lock lie for the installation.
const POETRY_LOCK: &str = ".poetry-lock.txt";

/// The versions that a poetry.lock holds, as constraints; those of several versions (one a platform) and those from
/// elsewhere than an index are left to pyproject.toml.
fn poetry_lock(folder: &Path) -> Option<String> {
    let table: Table = toml::from_str(&std::fs::read_to_string(folder.join("poetry.lock")).ok()?).ok()?;
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in table.get("package")?.as_array()?.iter().filter_map(Value::as_table) {
        let elsewhere = package.get("source").and_then(Value::as_table).is_some_and(|source| !is_index(source));
        if let (Some(name), Some(version), false) =
            (package.get("name")?.as_str(), package.get("version")?.as_str(), elsewhere)
        {
            versions.entry(name).or_default().insert(version);
        }
    }
    let alone = versions.iter().filter(|(_, versions)| versions.len() == 1);
    Some(
        alone.flat_map(|(name, versions)| versions.iter().map(move |version| format!("{name}=={version}\n"))).collect(),
    )
}

/// `type = "legacy"` is an index by its address (poetry.lock's `source`).
fn is_index(source: &Table) -> bool {
    source.get("type").and_then(Value::as_str) == Some("legacy")
}

/// The folder of the archive that holds what an editable installation is made of.
pub const BESIDE: &str = "described";

fn beside(root: &Root, inner: &str, content: Content) -> Entry {
    let target = root.target.trim_start_matches('/');
    Entry { path: format!("{OWN}/{BESIDE}/{target}/{inner}"), content, executable: false }
}

/// What of a pyproject.toml describes the package; without its version where that alone shall change nothing.
fn described(table: &Table, versionless: bool) -> String {
    let mut kept = table.clone();
    if let Some(tools) = kept.get_mut("tool").and_then(Value::as_table_mut) {
        tools.retain(|name, _| !OTHER_TOOLS.contains(&name));
        if let (true, Some(poetry)) = (versionless, tools.get_mut("poetry").and_then(Value::as_table_mut)) {
            without_version(poetry);
        }
    }
    if let (true, Some(project)) = (versionless, kept.get_mut("project").and_then(Value::as_table_mut)) {
        without_version(project);
    }
    toml::to_string(&kept).unwrap_or_default()
}

fn without_version(table: &mut Table) {
    if let Some(version) = table.get_mut("version") {
        *version = Value::from("0");
    }
    if table.contains_key("description") {
        table.insert("description".to_owned(), Value::from(""));
    }
}

/// Modules and packages by their names alone: backends look for them, and at nothing in them.
fn is_mark(inner: &str) -> bool {
    let depth = inner.matches('/').count();
    let is_module = Path::new(inner).extension().is_some_and(|extension| extension == "py");
    inner.ends_with("/__init__.py") || (is_module && (depth == 0 || (depth == 1 && inner.starts_with("src/"))))
}

/// A readme is part of the metadata that nobody needs in a replica.
fn is_prose(inner: &str) -> bool {
    let name = inner.rsplit('/').next().unwrap_or(inner).to_ascii_lowercase();
    let is_text = Path::new(&name).extension().is_some_and(|extension| extension == "md" || extension == "rst");
    name.starts_with("readme") || name.starts_with("license") || is_text
}

/// The files of the root that its descriptions name: by a path, or by a module that one imports or takes an
/// attribute of (`version = {attr = "pkg.__version__"}`).
fn named_files(texts: &[String; 3], root: &Root) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    for text in texts {
        for literal in literals(text) {
            names.insert(literal.to_owned());
            names.extend(modules(literal, Holds::Attribute));
        }
    }
    for line in texts[1].lines() {
        let mut words = line.split_whitespace();
        if matches!(words.next(), Some("from" | "import")) {
            names.extend(words.next().map(|name| modules(name, Holds::All)).into_iter().flatten());
        }
    }
    // `attr = pkg.__version__` of a setup.cfg stands without quotes.
    names.extend(texts[2].split_whitespace().flat_map(|name| modules(name, Holds::Attribute)));
    for (name, file) in [("readme", "README.md"), ("requirements", "requirements.txt")] {
        if texts.iter().any(|text| text.to_ascii_lowercase().contains(name)) {
            names.insert(file.to_owned());
        }
    }
    let is_flit = texts[0].contains("flit");
    if is_flit && let Ok(Some(table)) = read_pyproject(&root.path) {
        let module = tool(&table, &["flit", "module"]).and_then(|module| module.get("name")).and_then(Value::as_str);
        let name = project(&table).and_then(|project| project.get("name")).and_then(Value::as_str);
        names.extend(module.or(name).map(|name| modules(&name.replace('-', "_"), Holds::All)).into_iter().flatten());
    }
    names.retain(|name| !name.is_empty() && !name.contains("..") && Path::new(name).is_relative());
    names.into_iter().map(|name| name.trim_start_matches("./").to_owned()).collect()
}

/// What a dotted name stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// A module.
    All,
    /// A module, or an attribute of one: a name without a dot is neither.
    Attribute,
}

/// Where the module of a dotted name may lie.
fn modules(dotted: &str, holds: Holds) -> Vec<String> {
    let is_name = |part: &str| !part.is_empty() && part.chars().all(|one| one == '_' || one.is_alphanumeric());
    let parts: Vec<&str> = dotted.trim_end_matches([',', ';']).split('.').collect();
    let may_be_attribute = holds == Holds::Attribute;
    if !parts.iter().all(|part| is_name(part)) || (may_be_attribute && parts.len() < 2) {
        return Vec::new();
    }
    let ends = [Some(parts.len()), may_be_attribute.then(|| parts.len() - 1)];
    let places = ends.into_iter().flatten().flat_map(|end| {
        let path = parts[..end].join("/");
        ["", "src/"].into_iter().flat_map(move |base| [format!("{base}{path}.py"), format!("{base}{path}/__init__.py")])
    });
    places.collect()
}

/// What stands between quotes.
fn literals(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| ['"', '\''].into_iter().flat_map(move |quote| line.split(quote).skip(1).step_by(2)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::context::{collect, tests::project as made};

    fn of(files: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
        let (_folder, project) = made(r#"{"dependencies": ["."], "graphs": {"a": "m:g"}}"#, files);
        let context = collect(&project).unwrap();
        let mut found = Requirements::default();
        let taken = take(&mut found, &context, &context.roots[0]);
        let text_of = |held: &Content| match held {
            Content::Bytes(bytes) => String::from_utf8(bytes.clone()).unwrap(),
            Content::File(path) => std::fs::read_to_string(path).unwrap(),
            _ => String::new(),
        };
        let entries = found.files.iter().map(|entry| (entry.path.clone(), text_of(&entry.content)));
        taken.then(|| entries.collect())
    }

    const POETRY: &str = "[tool.poetry]\nname='n'\nversion='1'\ndescription='d'\nreadme='README.md'\n[tool.poetry.dependencies]\nhttpx='^0.27'\n[tool.ruff]\nline-length=1\n";

    #[test]
    fn code_prose_and_other_tools_change_nothing_of_what_is_installed() {
        let files = |version: &str, code: &str| {
            let pyproject =
                POETRY.replace("version='1'", version).replace("line-length=1", &format!("line-length={}", code.len()));
            of(&[
                ("pyproject.toml", &pyproject),
                ("README.md", code),
                ("n/__init__.py", code),
                ("n/deep/x.py", code),
                ("agent.py", code),
            ])
            .unwrap()
        };
        let first = files("version='1'", "x");
        assert_eq!(files("version='1'", "yy"), first);
        let names: Vec<&str> = first.iter().map(|(name, _)| name.trim_start_matches(".rapidclaw/")).collect();
        for name in ["README.md", "agent.py", "n/__init__.py", "pyproject.toml"] {
            assert!(
                names.contains(&&*format!("deps/app/{name}"))
                    && names.contains(&&*format!("described/deps/app/{name}")),
                "{name}: {names:?}"
            );
        }
        assert_eq!(first.len(), 8);
        // A version changes the description and not what is installed.
        let second = files("version='2'", "x");
        let changed: Vec<&str> =
            first.iter().zip(&second).filter(|(one, other)| one != other).map(|(one, _)| one.0.as_str()).collect();
        assert_eq!(changed, [".rapidclaw/described/deps/app/pyproject.toml"]);
    }

    #[test]
    fn what_a_setup_py_reads_is_there() {
        let setup = "from setuptools import setup\nfrom n.version import __version__\n\
            setup(name='n', version=__version__, install_requires=open('req/base.txt').read().split(), long_description=open(\"docs/long.md\").read())\n";
        let files = [
            ("setup.py", setup),
            ("n/__init__.py", "import httpx\n"),
            ("n/version.py", "__version__ = '3'\n"),
            ("n/other.py", "x\n"),
            ("req/base.txt", "httpx\n"),
            ("req/dev.txt", "pytest\n"),
            ("docs/long.md", "long\n"),
        ];
        let entries = of(&files).unwrap();
        let text = |name: &str| {
            entries
                .iter()
                .find(|(path, _)| path == &format!(".rapidclaw/deps/app/{name}"))
                .map(|(_, text)| text.as_str())
        };
        assert_eq!((text("n/version.py"), text("req/base.txt")), (Some("__version__ = '3'\n"), Some("httpx\n")));
        assert_eq!((text("n/__init__.py"), text("docs/long.md")), (Some(""), Some("")));
        assert_eq!((text("n/other.py"), text("req/dev.txt")), (None, None));
    }

    #[test]
    fn a_poetry_lock_holds_the_versions() {
        let lock = "[[package]]\nname = \"httpx\"\nversion = \"0.27.2\"\n[[package]]\nname = \"mine\"\nversion = \"1\"\n\
            [package.source]\ntype = \"git\"\nurl = \"https://h/x\"\n[[package]]\nname = \"two\"\nversion = \"1\"\n\
            [[package]]\nname = \"two\"\nversion = \"2\"\n[[package]]\nname = \"private\"\nversion = \"4\"\n\
            [package.source]\ntype = \"legacy\"\nurl = \"https://h/simple\"\n";
        let entries = of(&[("pyproject.toml", POETRY), ("poetry.lock", lock), ("n.py", "")]).unwrap();
        let held = entries.iter().find(|(path, _)| path.ends_with(POETRY_LOCK)).unwrap();
        assert_eq!(held.1, "httpx==0.27.2\nprivate==4\n");
    }

    #[test]
    fn what_is_compiled_is_installed_with_its_code() {
        assert_eq!(of(&[("setup.py", "setup(ext_modules=[Extension('a', ['a.c'])])")]), None);
        assert_eq!(of(&[("pyproject.toml", "[build-system]\nrequires=['maturin']\nbuild-backend='maturin'\n")]), None);
    }
}
