//! The project's code as far as a manifest speaks of it: what Python and JavaScript files say of themselves.

use crate::manifest::diagnostic::Span;
use crate::manifest::python::{self, Bindings};
use crate::manifest::reader::{Faults, nearest};
use crate::manifest::workspace::{self, normalized_name, own_package, read_pyproject};
use crate::manifest::{Graph, GraphTarget, Loaded, Manifest, requires};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Module names that nearly every project has and nobody imports across folders.
const COMMON: [&str; 9] = ["__init__", "setup", "conftest", "tests", "test", "docs", "scripts", "examples", "noxfile"];
/// How far above a package the lock of its workspace is looked for.
const MAX_ABOVE: usize = 6;
/// The oldest Node.js that langgraph-cli takes (0.4.40).
const MIN_NODE: u32 = 20;

/// Checks that the module at `path` binds what the graph names.
pub(super) fn attribute(faults: &mut Faults<'_>, span: &Span, graph: &Graph, path: &Path) {
    let (GraphTarget::File { attribute, .. } | GraphTarget::Module { attribute, .. }) = &graph.target;
    let shown = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let Ok(meta) = std::fs::metadata(path) else { return };
    if meta.len() > python::MAX_BYTES {
        return;
    }
    let text = match std::fs::read(path) {
        // Other encodings keep ASCII where it is, which is enough for the names.
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => {
            let message = format!("{} cannot be read: {error}", path.display());
            return faults.error("unreadable-graph-file", span, message, None);
        }
    };
    let Bindings { names, open, broken } = python::bindings(&text);
    let first = attribute.split('.').next().unwrap_or(attribute);
    if let Some(line) = broken {
        let message = format!("{shown} breaks off within a string or bracket that begins in line {line}");
        return faults.warn("python-syntax", span, message, None);
    }
    if open || names.contains(first) {
        return;
    }
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    let fix = nearest(first, &known).map_or_else(
        || {
            let likely = ["graph", "agent", "app", "workflow", "make_graph"];
            likely.into_iter().find(|name| names.contains(*name)).map(|name| format!("did you mean \"{name}\"?"))
        },
        |name| Some(format!("did you mean \"{name}\"?")),
    );
    let message = format!("{shown} binds no `{first}` (graph `{}`)", graph.id);
    faults.error("missing-attribute", span, message, fix);
}

/// The file of a module in the folders of `dependencies`; `Err` where its package is there and it is not.
pub(super) fn find_module(roots: &[PathBuf], module: &str) -> Result<Option<PathBuf>, PathBuf> {
    let parts: Vec<&str> = module.split('.').collect();
    let mut package = None;
    for base in roots.iter().flat_map(|root| [root.join("src"), root.clone()]) {
        let whole: PathBuf = parts.iter().fold(base.clone(), |path, part| path.join(part));
        for file in [whole.with_extension("py"), whole.join("__init__.py")] {
            if file.is_file() {
                return Ok(Some(file));
            }
        }
        let first = base.join(parts[0]);
        if parts.len() > 1 && first.join("__init__.py").is_file() {
            package.get_or_insert(whole.with_extension("py"));
        }
    }
    package.map_or(Ok(None), Err)
}

/// Packages and modules that two folders of `dependencies` both have: Python imports the first.
pub(super) fn shared_names(faults: &mut Faults<'_>, roots: &[(PathBuf, String, Span)]) {
    let mut holders: BTreeMap<String, usize> = BTreeMap::new();
    let mut projects: BTreeMap<String, usize> = BTreeMap::new();
    for (index, (root, name, span)) in roots.iter().enumerate() {
        // One within another shows its modules under another name.
        if roots.iter().any(|(other, ..)| other != root && root.starts_with(other)) {
            continue;
        }
        let mut shared = Vec::new();
        for module in modules(root) {
            let first = *holders.entry(module.clone()).or_insert(index);
            if first != index {
                shared.push((module, first));
            }
        }
        if let Some((module, first)) = shared.first() {
            let other = &roots[*first].1;
            let message = format!(
                "\"{other}\" and \"{name}\" both have a `{module}`; `import {module}` takes the one of \"{other}\""
            );
            faults.warn("shared-name", span, message, Some("rename one of them".into()));
        }
        let table = read_pyproject(root).ok().flatten();
        let project = table.as_ref().and_then(workspace::project).and_then(|project| project.get("name")?.as_str());
        if let Some(project) = project {
            let first = *projects.entry(normalized_name(project)).or_insert(index);
            if first != index {
                let message = format!("\"{}\" and \"{name}\" are both the package `{project}`", roots[first].1);
                faults.warn("shared-name", span, message, Some("rename one of them".into()));
            }
        }
    }
}

/// What a folder's `src/`, or else the folder itself, lets be imported.
fn modules(root: &Path) -> Vec<String> {
    let source = root.join("src");
    let is_layout = source.is_dir() && !source.join("__init__.py").is_file();
    let folder = if is_layout { source } else { root.to_owned() };
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_package = entry.path().join("__init__.py").is_file();
            let module = name.strip_suffix(".py").map(ToOwned::to_owned);
            module.or_else(|| is_package.then_some(name))
        })
        .filter(|name| !COMMON.contains(&name.as_str()))
        .collect();
    names.sort();
    names
}

/// `source`: which package of the workspace is meant, and whether its pyproject.toml says anything. The folder of
/// the package, where that can be told.
pub(super) fn uv_workspace(
    faults: &mut Faults<'_>,
    span: &Span,
    manifest: &Manifest,
    root: &Path,
    folder: &Path,
) -> Option<PathBuf> {
    let source = manifest.source.as_ref()?;
    let packages = match workspace::packages(root) {
        Ok(packages) => packages,
        Err(error) => {
            unreadable(faults, span, &error);
            return None;
        }
    };
    let names: Vec<&str> = packages.iter().filter_map(|package| package.name.as_deref()).collect();
    match &source.package {
        Some(wanted) => {
            let is_wanted = |name: &str| normalized_name(name) == normalized_name(wanted);
            let found = packages.iter().find(|package| package.name.as_deref().is_some_and(is_wanted));
            if let Some(package) = found {
                return Some(package.folder.clone());
            }
            let fix = match nearest(wanted, &names) {
                Some(name) => format!("did you mean \"{name}\"?"),
                None => format!("its packages are: {}", names.join(", ")),
            };
            let message = format!("the workspace has no package \"{wanted}\"");
            faults.error("workspace-package", span, message, Some(fix));
            None
        }
        None => {
            let own = own_package(&packages, root, folder);
            if own.is_some() || packages.len() <= 1 {
                return own.map(|package| package.folder.clone());
            }
            let message =
                "`source.package` is needed: the workspace has several packages, and the manifest lies in none";
            faults.error("workspace-package", span, message, Some(format!("its packages are: {}", names.join(", "))));
            None
        }
    }
}

/// The Python that a package asks for must be the one that the manifest asks for. Where the manifest names a
/// base image, that one decides, and the build looks at its Python.
pub(super) fn python_version(faults: &mut Faults<'_>, span: &Span, loaded: &Loaded, shown: &str, package: &Path) {
    let (manifest, named) = (&loaded.manifest, &loaded.places.python_version);
    let Ok(Some(table)) = read_pyproject(package) else { return };
    let Some((asked, minor)) = requires::python_of(&table).zip(requires::minor(&manifest.python_version)) else {
        return;
    };
    if manifest.base_image.is_some() || requires::admits(asked, minor) != Some(false) {
        return;
    }
    let whose = match named {
        Some(_) => "the manifest asks for",
        None => "without `python_version` it is",
    };
    let message = format!(
        "pyproject.toml of \"{shown}\" wants Python {asked} (requires-python), and {whose} {}",
        manifest.python_version
    );
    let fix = requires::lowest(asked).map(|(major, minor)| format!("write \"python_version\": \"{major}.{minor}\""));
    faults.error("requires-python", named.as_ref().unwrap_or(span), message, fix);
}

/// A lock of a workspace above a folder of `dependencies`: what it locks is not what is installed.
pub(super) fn lock_above(faults: &mut Faults<'_>, span: &Span, root: &Path, folder: &Path) {
    if root.join("uv.lock").is_file() || !root.join("pyproject.toml").is_file() {
        return;
    }
    let mut above = root.ancestors().skip(1).take(MAX_ABOVE).take_while(|above| above.parent().is_some());
    let locks = |above: &&Path| above.join("uv.lock").is_file() && workspace::is_member(above, root).unwrap_or(false);
    let Some(above) = above.find(locks) else { return };
    let place = relative(folder, above);
    let message =
        format!("the uv.lock in \"{place}\" locks this package and is not used: its versions are chosen anew");
    let fix = format!(
        "to install what is locked write \"source\": {{\"kind\": \"uv\", \"root\": \"{place}\"}} in place of \"dependencies\""
    );
    faults.warn("lock-above", span, message, Some(fix));
}

/// The way from one folder to another, both absolute.
fn relative(from: &Path, to: &Path) -> String {
    let common = from.components().zip(to.components()).take_while(|(one, other)| one == other).count();
    let ups = from.components().skip(common).map(|_| "..".to_owned());
    let downs = to.components().skip(common).map(|part| part.as_os_str().to_string_lossy().into_owned());
    let way: Vec<String> = ups.chain(downs).collect();
    if way.is_empty() { ".".into() } else { way.join("/") }
}

/// What a pyproject.toml of a folder of `dependencies` says that cannot be kept.
pub(super) fn pyproject(faults: &mut Faults<'_>, span: &Span, root: &Path, roots: &[PathBuf]) {
    let table = match read_pyproject(root) {
        Ok(Some(table)) => table,
        Ok(None) => return,
        Err(error) => return unreadable(faults, span, &error),
    };
    let sources = workspace::tool(&table, &["uv", "sources"]);
    for (name, source) in sources.into_iter().flatten() {
        let Some(path) = source.get("path").and_then(toml::Value::as_str) else { continue };
        let place = crate::manifest::ignore::normalize(&root.join(path));
        if !place.exists() {
            let message = format!("[tool.uv.sources] of this folder takes `{name}` from {path}, which is not there");
            faults.error("missing-local-source", span, message, None);
        } else if place.is_dir() && !roots.iter().any(|root| place.starts_with(root)) {
            let message = format!(
                "[tool.uv.sources] of this folder takes `{name}` from {path}, which is in no folder of `dependencies` and would not enter the image"
            );
            faults.error(
                "missing-local-source",
                span,
                message,
                Some(format!("add the folder {path} to `dependencies`")),
            );
        }
    }
}

fn unreadable(faults: &mut Faults<'_>, span: &Span, error: &workspace::PyprojectError) {
    use std::error::Error as _;
    let why = error.source().map(ToString::to_string).unwrap_or_default();
    let why = why.lines().next().unwrap_or_default();
    faults.error("pyproject", span, format!("{error}: {why}"), None);
}

/// `package.json` beside a manifest with JavaScript: its `engines`, by langgraph-cli 0.4.40
/// (`validate_config_file`).
pub(super) fn package_json(faults: &mut Faults<'_>, span: &Span, folder: &Path) {
    let Ok(bytes) = std::fs::read(folder.join("package.json")) else { return };
    let Ok(json) = serde_json::from_slice::<Value>(&bytes) else {
        return faults.error("package-json", span, "package.json beside the manifest is not valid JSON", None);
    };
    let Some(engines) = json.get("engines").and_then(Value::as_object) else { return };
    if let Some(other) = engines.keys().find(|name| *name != "node") {
        let message = format!("package.json wants the engine `{other}`; only `node` is there");
        return faults.error("node-engine", span, message, Some("remove it from `engines`".into()));
    }
    let Some(node) = engines.get("node") else { return };
    let version = node.as_str().and_then(|text| text.trim().parse::<u32>().ok());
    match version {
        Some(version) if version >= MIN_NODE => {}
        Some(version) => {
            let message = format!("package.json wants Node.js {version}; {MIN_NODE} is the oldest");
            faults.error(
                "node-engine",
                span,
                message,
                Some(format!("write \"engines\": {{\"node\": \"{MIN_NODE}\"}}")),
            );
        }
        None => {
            let message = format!("`engines.node` of package.json must be a major version alone, it is {node}");
            faults.error(
                "node-engine",
                span,
                message,
                Some(format!("write \"engines\": {{\"node\": \"{MIN_NODE}\"}}")),
            );
        }
    }
}
