//! What of a pyproject.toml decides which packages are installed, as a pyproject.toml of its own: uv reads its
//! tables where it looks for them, and an edit of anything else installs nothing anew.

use crate::image::archive::{Content, Entry};
use crate::image::context::{OWN, Root};
use crate::image::package::Package;
use crate::image::pyproject::{Origin, Source, add_search, extras, origin, requirement_name, settings_of, strings};
use crate::image::requirement_set::{BUILD_DIR, Requirements, RequirementsError};
use crate::manifest::ignore::normalize;
use crate::manifest::requirement_line::is_archive;
use crate::manifest::workspace::{self, normalized_name, read_pyproject, tool};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// What `[tool.uv]` says beside packages, or of the developer's own uv and machine (uv's reference, "Settings").
const PASSED_OVER: [&str; 16] = [
    "build-backend",
    "cache-dir",
    "cache-keys",
    "check-url",
    "compile-bytecode",
    "concurrent-builds",
    "concurrent-downloads",
    "concurrent-installs",
    "link-mode",
    "offline",
    "preview",
    "publish-url",
    "python-downloads",
    "python-preference",
    "required-version",
    "trusted-publishing",
];
/// What only a lock has a use for.
const OF_LOCKS: [&str; 5] = ["conflicts", "default-groups", "dev-dependencies", "package", "workspace"];

/// Where a root's files lie for the installation.
pub fn folder_of(root: &Root) -> String {
    format!("{BUILD_DIR}/{}", root.name)
}

/// An entry of the folder that the installation finds at [`folder_of`].
pub fn entry(root: &Root, inner: &str, content: Content) -> Entry {
    Entry { path: format!("{OWN}/deps/{}/{inner}", root.name), content, executable: false }
}

/// `[tool.uv]` without what decides no package; `locked`: with what belongs to a lock.
fn settings(uv: Option<&Table>, locked: bool) -> Table {
    let mut kept = uv.cloned().unwrap_or_default();
    kept.retain(|key, _| !PASSED_OVER.contains(&key) && (locked || !OF_LOCKS.contains(&key)));
    kept
}

/// The pyproject.toml of a package whose packages a lock names: uv looks at it to see which package is meant,
/// which groups there are and what its tables say.
pub fn for_lock(table: &Table) -> String {
    let mut spec = Table::new();
    if let Some(project) = workspace::project(table) {
        let mut kept = Table::new();
        for key in ["name", "requires-python", "dependencies", "optional-dependencies"] {
            kept.extend(project.get(key).map(|value| (key.to_owned(), value.clone())));
        }
        kept.insert("version".to_owned(), Value::from("0"));
        spec.insert("project".to_owned(), Value::Table(kept));
    }
    spec.extend(table.get("dependency-groups").map(|groups| ("dependency-groups".to_owned(), groups.clone())));
    with_settings(spec, settings(tool(table, &["uv"]), true))
}

fn with_settings(mut spec: Table, settings: Table) -> String {
    if !settings.is_empty() {
        let uv = Table::from_iter([("uv".to_owned(), Value::Table(settings))]);
        spec.insert("tool".to_owned(), Value::Table(uv));
    }
    toml::to_string(&spec).unwrap_or_default()
}

/// The dependencies that stand in a pyproject.toml. Those that are folders of the project are followed: what
/// they need is installed, and they are found by `sys.path`.
pub fn of_project(
    found: &mut Requirements,
    root: &Root,
    table: &Table,
    project: &Table,
) -> Result<Option<&'static str>, RequirementsError> {
    let mut merged = Merged { root, sources: Table::new(), dependencies: Vec::new() };
    let mut pending = vec![Folder { path: root.path.clone(), table: table.clone(), extras: None }];
    let mut seen = vec![root.path.clone()];
    while let Some(folder) = pending.pop() {
        let Some(project) = workspace::project(&folder.table) else { continue };
        for dependency in folder.dependencies(project) {
            if project.get("name").and_then(Value::as_str).is_some_and(|own| is_named(own, &dependency)) {
                // `own[extra]`: what the extra names.
                pending.push(Folder { extras: Some(extras(&dependency)), ..folder.clone() });
                continue;
            }
            match origin(&folder.path, &folder.table, &dependency)? {
                Origin::Index => merged.add(dependency),
                Origin::Source(source) => {
                    found.git |= source.value.to_string().contains("git");
                    merged.add_from(found, dependency, source);
                }
                Origin::Folder(inner) => {
                    if seen.contains(&inner) || !inner.starts_with(&root.path) {
                        // Another root says itself what it needs; what is in none `validate` refuses.
                        continue;
                    }
                    seen.push(inner.clone());
                    let Some(table) = read_pyproject(&inner)? else { continue };
                    let Some(project) = workspace::project(&table) else {
                        return Ok(Some("a folder that it names is no plain package"));
                    };
                    found.packages.extend(Package::of(project));
                    add_search(found, root, &inner, Some(&table));
                    let more = extras(&dependency);
                    if !more.is_empty() {
                        pending.push(Folder { path: inner.clone(), table: table.clone(), extras: Some(more) });
                    }
                    pending.push(Folder { path: inner, table, extras: None });
                }
            }
        }
    }
    let Merged { sources, dependencies, .. } = merged;
    let mut settings = settings(settings_of(&root.path, table)?.as_ref(), false);
    settings.remove("sources");
    if settings.is_empty() && sources.is_empty() {
        found.git |= dependencies.iter().any(|line| line.contains("git+"));
        found.lines.extend(dependencies);
        return Ok(None);
    }
    find_links(found, root, &settings);
    if !sources.is_empty() {
        settings.insert("sources".to_owned(), Value::Table(sources));
    }
    let name = project.get("name").cloned().unwrap_or_else(|| Value::from(root.name.clone()));
    let mut kept = Table::from_iter([("name".to_owned(), name), ("version".to_owned(), Value::from("0"))]);
    kept.extend(project.get("requires-python").map(|python| ("requires-python".to_owned(), python.clone())));
    found.git |= dependencies.iter().any(|line| line.contains("git+"));
    let dependencies = dependencies.into_iter().map(Value::from).collect();
    kept.insert("dependencies".to_owned(), Value::Array(dependencies));
    let spec = Table::from_iter([("project".to_owned(), Value::Table(kept))]);
    let text = with_settings(spec, settings);
    found.files.push(entry(root, "pyproject.toml", Content::Bytes(text.into_bytes())));
    found.project = Some(format!("{}/pyproject.toml", folder_of(root)));
    Ok(None)
}

/// A folder whose dependencies are looked at: its own, or those of some extras.
#[derive(Clone)]
struct Folder {
    path: PathBuf,
    table: Table,
    extras: Option<Vec<String>>,
}

impl Folder {
    fn dependencies(&self, project: &Table) -> Vec<String> {
        let Some(extras) = &self.extras else { return strings(project.get("dependencies")) };
        let optional = project.get("optional-dependencies").and_then(Value::as_table);
        let named = optional.into_iter().flatten();
        let named = named.filter(|(name, _)| extras.contains(&normalized_name(name)));
        named.flat_map(|(_, list)| strings(Some(list))).collect()
    }
}

fn is_named(name: &str, dependency: &str) -> bool {
    normalized_name(name) == normalized_name(requirement_name(dependency))
}

/// What several pyproject.toml ask for, as one does.
struct Merged<'r> {
    root: &'r Root,
    sources: Table,
    dependencies: Vec<String>,
}

impl Merged<'_> {
    fn add(&mut self, dependency: String) {
        if !self.dependencies.contains(&dependency) {
            self.dependencies.push(dependency);
        }
    }

    fn add_from(&mut self, found: &mut Requirements, dependency: String, source: Source) {
        let name = normalized_name(requirement_name(&dependency));
        if !self.sources.contains_key(&name) {
            let value = self.moved(found, source);
            self.sources.insert(name, value);
        }
        self.add(dependency);
    }

    /// The source as the installation finds it: archives come along.
    fn moved(&self, found: &mut Requirements, source: Source) -> Value {
        let Source { value, base } = source;
        match value {
            Value::Table(mut table) => {
                if let Some(path) = table.get("path").and_then(Value::as_str) {
                    let inner = bring(found, self.root, &normalize(&base.join(path)));
                    table.insert("path".to_owned(), Value::from(inner));
                }
                Value::Table(table)
            }
            Value::Array(list) => {
                let one = |value| self.moved(found, Source { value, base: base.clone() });
                Value::Array(list.into_iter().map(one).collect())
            }
            other => other,
        }
    }
}

/// Takes an archive along. Where it lies then, in the root's folder.
pub fn bring(found: &mut Requirements, root: &Root, path: &Path) -> String {
    let inner = match path.strip_prefix(&root.path) {
        Ok(inner) => inner.display().to_string(),
        Err(_) => format!(".beside/{}", path.file_name().unwrap_or_default().to_string_lossy()),
    };
    let entry = entry(root, &inner, Content::File(path.to_owned()));
    if path.is_file() && !found.files.contains(&entry) {
        found.files.push(entry);
    }
    inner
}

/// Takes along the archives that lie in a folder.
pub fn bring_all(found: &mut Requirements, root: &Root, folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| is_archive(&path.to_string_lossy())) {
        bring(found, root, path);
    }
}

/// The archives of the folders that `find-links` names.
fn find_links(found: &mut Requirements, root: &Root, settings: &Table) {
    for place in strings(settings.get("find-links")) {
        let folder = normalize(&root.path.join(&place));
        if !place.contains("://") && folder.starts_with(&root.path) {
            bring_all(found, root, &folder);
        }
    }
}
