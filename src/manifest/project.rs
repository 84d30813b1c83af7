//! The project behind a manifest: what the manifest names must be there and must enter the image.
//!
//! langgraph-cli finds most of these only when it writes a Dockerfile (`_assemble_local_deps`,
//! `_update_graph_paths`), or never; here all are said at once, at the value in the manifest.

use crate::manifest::diagnostic::{Diagnostic, Span};
use crate::manifest::files::Files;
use crate::manifest::folders::{context_root, env_file, local_dependencies, private_files};
use crate::manifest::ignore::{IgnoreRules, normalize};
use crate::manifest::reader::Faults;
use crate::manifest::syntax::has_credentials;
use crate::manifest::workspace::{self, read_pyproject};
use crate::manifest::{Graph, GraphTarget, Loaded, asked, code, left_out, lower_bound, requirements, sources};
use std::path::{Path, PathBuf};

/// The files of a local dependency that say what it depends on.
const DEPENDENCY_FILES: [&str; 4] = ["requirements.txt", "pyproject.toml", "setup.py", "setup.cfg"];

/// The code of a fault: a dotenv file is there and the manifest names none. A deploy with `--env-file` has none.
pub const ENV_UNREAD: &str = "env-unread";
/// The code of a fault: the dotenv file is missing, and an example of it is there. In CI it usually is.
pub const ENV_MISSING: &str = "env-missing";

/// The example that stands beside a missing dotenv file, by the usual names.
pub fn example_of(env_file: &Path) -> Option<PathBuf> {
    let name = env_file.file_name()?.to_string_lossy().into_owned();
    let ends = [".example", ".sample", ".template", ".dist"].map(|end| format!("{name}{end}"));
    let plain = [format!("example{name}"), "env.example".to_owned()];
    let mut places = ends.into_iter().chain(plain).map(|name| env_file.with_file_name(name));
    places.find(|place| place.is_file())
}

/// Checks what lies in `folder` (absolute; the manifest's) and returns all faults.
pub fn check(loaded: &Loaded, folder: &Path) -> Vec<Diagnostic> {
    let mut check = Check { loaded, folder, faults: Faults { source: &loaded.source, list: Vec::new() } };
    let roots = check.dependencies();
    check.graphs(&roots);
    check.other_files();
    check.environment();
    check.javascript();
    let mut files = Files::default();
    let sources = sources::find(&loaded.manifest, folder, &mut files);
    let left_out = left_out::check(loaded, folder, &roots, &mut files);
    check.faults.list.extend(left_out);
    check.faults.list.sort_by_key(|fault| (fault.line, fault.column));
    // Of the sources: behind those of the manifest.
    check.faults.list.extend(asked::check(&loaded.manifest, folder, (&sources, &mut files)));
    check.faults.list
}

struct Check<'a> {
    loaded: &'a Loaded,
    folder: &'a Path,
    faults: Faults<'a>,
}

impl Check<'_> {
    /// Checks `dependencies` and returns the folders that are there.
    fn dependencies(&mut self) -> Vec<PathBuf> {
        let manifest = &self.loaded.manifest;
        let mut roots = Vec::new();
        let mut named = Vec::new();
        for (index, path) in local_dependencies(manifest, self.folder) {
            let span = place(&self.loaded.places.dependencies, index);
            let name = &manifest.dependencies[index];
            match std::fs::metadata(&path) {
                Ok(_) if path.parent().is_none() => {
                    let message = format!("the dependency \"{name}\" is the root of this machine's files");
                    self.faults.error("dependency-too-wide", &span, message, None);
                }
                Ok(meta) if meta.is_dir() => {
                    self.credentials(&path, &span);
                    named.push((path.clone(), name.clone(), span));
                    roots.push(path);
                }
                Ok(_) => {
                    let fix = path.file_name().filter(|file| *file == "requirements.txt").map(|_| {
                        let folder = Path::new(name).parent().unwrap_or(Path::new("."));
                        format!("name its folder: \"{}\"; the requirements.txt in it is installed", folder.display())
                    });
                    let message = format!("the dependency \"{name}\" is not a folder");
                    self.faults.error("dependency-not-a-folder", &span, message, fix);
                }
                Err(error) => {
                    let message = match error.kind() {
                        std::io::ErrorKind::NotFound => format!("there is no folder \"{name}\""),
                        _ => format!("the folder \"{name}\" cannot be read: {error}"),
                    };
                    self.faults.error("missing-dependency", &span, message, None);
                }
            }
        }
        for (path, name, span) in &named {
            let is_package = ["setup.py", "setup.cfg"].iter().any(|file| path.join(file).is_file())
                || read_pyproject(path).is_ok_and(|table| {
                    table.is_some_and(|table| {
                        workspace::project(&table).is_some() || workspace::tool(&table, &["poetry"]).is_some()
                    })
                });
            if !is_package {
                self.faults.list.extend(requirements::check(path, name));
            }
            self.faults.list.extend(lower_bound::check(path, name));
            code::pyproject(&mut self.faults, span, path, &roots);
            code::python_version(&mut self.faults, span, self.loaded, name, path);
            code::lock_above(&mut self.faults, span, path, self.folder);
        }
        code::shared_names(&mut self.faults, &named);
        for (index, name) in manifest.dependencies.iter().enumerate().filter(|(_, name)| !name.starts_with('.')) {
            if name.starts_with(['/', '~']) {
                let span = place(&self.loaded.places.dependencies, index);
                let message = format!("\"{name}\" is a place of this machine, which no image has");
                let fix = "write the folder relative to the manifest, such as \"../lib\"";
                self.faults.error("absolute-dependency", &span, message, Some(fix.into()));
                continue;
            }
            if let Some(asked) = lower_bound::specifier(name).filter(|asked| lower_bound::admits_older_alone(asked)) {
                let span = place(&self.loaded.places.dependencies, index);
                let message = format!(
                    "rapidclaw itself needs LangGraph {} or newer, and this asks for {asked}",
                    lower_bound::lowest()
                );
                self.faults.error("langgraph-too-old", &span, message, Some("write \"langgraph>=1,<2\"".into()));
            }
            if self.folder.join(name).is_dir() {
                let span = place(&self.loaded.places.dependencies, index);
                let message =
                    format!("\"{name}\" is taken for a package of the index, and there is a folder of that name");
                self.faults.warn(
                    "package-or-folder",
                    &span,
                    message,
                    Some(format!("for the folder write \"./{name}\"")),
                );
            }
        }
        roots
    }

    fn credentials(&mut self, root: &Path, span: &Span) {
        for name in DEPENDENCY_FILES {
            let Ok(bytes) = std::fs::read(root.join(name)) else { continue };
            if has_credentials(&String::from_utf8_lossy(&bytes)) {
                let message =
                    format!("{name} of this folder has a Git URL with credentials, which would end up in the image");
                let fix = "write the URL without them and give credentials to the build's Git credential helper";
                self.faults.error("credentials-in-url", span, message, Some(fix.into()));
            }
        }
    }

    fn graphs(&mut self, roots: &[PathBuf]) {
        let private = private_files(&self.loaded.manifest, self.folder);
        for (index, graph) in self.loaded.manifest.graphs.iter().enumerate() {
            let span = place(&self.loaded.places.graphs, index);
            let name = match &graph.target {
                GraphTarget::File { path, .. } => path,
                GraphTarget::Module { module, .. } => {
                    self.module(roots, graph, module, &span);
                    continue;
                }
            };
            let path = normalize(&self.folder.join(name));
            match std::fs::metadata(&path) {
                Err(_) => {
                    let fix = (name.contains(".py") && !self.folder.join(name).exists())
                        .then(|| self.similar_file(&path))
                        .flatten()
                        .map(|file| format!("did you mean \"{file}\"?"));
                    let message = format!("there is no file {name} (graph `{}`)", graph.id);
                    self.faults.error("missing-graph-file", &span, message, fix);
                    continue;
                }
                Ok(meta) if !meta.is_file() => {
                    let message = format!("{name} is not a file (graph `{}`)", graph.id);
                    self.faults.error("graph-not-a-file", &span, message, None);
                    continue;
                }
                Ok(_) => {}
            }
            let holder = match self.holder(roots, &path) {
                Some(holder) => holder,
                None if graph.is_javascript() => continue,
                None => {
                    let folder =
                        Path::new(name).parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
                    let message = format!("{name} is in no folder of `dependencies` and would not enter the image");
                    let fix = Some(format!("add \"{}\" to `dependencies`", dotted(folder)));
                    self.faults.error("graph-outside-dependencies", &span, message, fix);
                    continue;
                }
            };
            if let (Ok(real), Ok(real_holder)) = (path.canonicalize(), holder.canonicalize())
                && !real.starts_with(&real_holder)
            {
                let message = format!("{name} is a link that leads out of its folder, to {}", real.display());
                self.faults.error("graph-outside-dependencies", &span, message, None);
                continue;
            }
            if !graph.is_javascript() {
                code::attribute(&mut self.faults, &span, graph, &path);
            }
            let rules_root = context_root(&holder, self.folder);
            match IgnoreRules::load(&rules_root, &private) {
                Ok(mut rules) => {
                    if let Some(why) = rules.excludes_file(&path) {
                        let message = format!("{name} would not enter the image: {} excludes it", why.as_str());
                        self.faults.error(
                            "graph-excluded",
                            &span,
                            message,
                            Some("take it back with a `!` line, or move it".into()),
                        );
                    }
                }
                Err(error) => {
                    let message = format!("{} cannot be read: {error}", rules_root.join(".dockerignore").display());
                    self.faults.error("ignore-file", &span, message, None);
                }
            }
        }
    }

    /// A graph that is named as a module: of the project, or of a package that is installed.
    fn module(&mut self, roots: &[PathBuf], graph: &Graph, module: &str, span: &Span) {
        let uv = self.uv_root();
        let all: Vec<PathBuf> = roots.iter().cloned().chain(uv).collect();
        match code::find_module(&all, module) {
            Ok(Some(file)) => code::attribute(&mut self.faults, span, graph, &file),
            Ok(None) => {}
            Err(missing) => {
                let shown = missing.strip_prefix(self.folder).map_or(missing.as_path(), |path| path).display();
                let message = format!("there is no module {module}: {shown} is missing (graph `{}`)", graph.id);
                self.faults.error("missing-graph-file", span, message, None);
            }
        }
    }

    fn uv_root(&self) -> Option<PathBuf> {
        self.loaded.manifest.source.as_ref().map(|source| normalize(&self.folder.join(&source.root)))
    }

    /// What belongs to JavaScript graphs.
    fn javascript(&mut self) {
        let (manifest, places) = (&self.loaded.manifest, &self.loaded.places);
        if let Some(index) = manifest.graphs.iter().position(Graph::is_javascript) {
            let span = places.node_version.clone().unwrap_or_else(|| place(&places.graphs, index));
            code::package_json(&mut self.faults, &span, self.folder);
        }
    }

    /// The dependency that holds `path`; with `source` it is the folder of the lock.
    fn holder(&self, roots: &[PathBuf], path: &Path) -> Option<PathBuf> {
        roots.iter().cloned().chain(self.uv_root()).find(|root| path.starts_with(root))
    }

    /// A file of the same name, or the nearest one, in the same folder.
    fn similar_file(&self, path: &Path) -> Option<String> {
        let wanted = path.file_name()?.to_string_lossy().into_owned();
        let folder = path.parent()?;
        let names: Vec<String> = std::fs::read_dir(folder)
            .ok()?
            .filter_map(Result::ok)
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "py"))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let near = crate::manifest::reader::nearest(&wanted, &names)?;
        let found = folder.join(near);
        Some(dotted(found.strip_prefix(self.folder).ok()?))
    }

    /// A dotenv file that nobody reads, and one that an example stands in for.
    fn environment(&mut self) {
        let (manifest, place) = (&self.loaded.manifest, &self.loaded.places.env);
        if place.is_none() && self.folder.join(".env").is_file() {
            let message = "there is a .env beside the manifest, and nothing reads it: the manifest has no `env`";
            let fix = "write \"env\": \".env\", or name it when you deploy: `rapidclaw deploy --env-file .env`";
            self.faults.warn(ENV_UNREAD, &(0..1), message, Some(fix.into()));
        }
        let (Some(file), Some(span)) = (env_file(manifest, self.folder), place) else { return };
        if !file.exists
            && let Some(example) = example_of(&file.path)
        {
            let name = |path: &Path| path.strip_prefix(self.folder).unwrap_or(path).display().to_string();
            let (missing, example) = (name(&file.path), name(&example));
            let message = format!("there is no {missing}; {example} beside it says what it holds");
            self.faults.warn(ENV_MISSING, span, message, Some(format!("copy {example} to {missing} and fill it in")));
        }
    }

    fn other_files(&mut self) {
        let (manifest, places) = (&self.loaded.manifest, &self.loaded.places);
        if let (Some(name), Some(span)) = (&manifest.pip_config_file, &places.pip_config_file)
            && !self.folder.join(name).is_file()
        {
            self.faults.error("missing-file", span, format!("there is no file {name}"), None);
        }
        if let (Some(source), Some(span)) = (&manifest.source, &places.source) {
            let root = normalize(&self.folder.join(&source.root));
            let package = code::uv_workspace(&mut self.faults, span, manifest, &root, self.folder);
            let shown = source.package.as_deref().unwrap_or(&source.root);
            let of_package = package.iter().filter(|package| **package != root);
            for folder in of_package.chain([&root]) {
                let name = folder.strip_prefix(self.folder).map_or(source.root.as_str().into(), Path::to_string_lossy);
                self.faults.list.extend(lower_bound::check(folder, &name));
            }
            code::python_version(&mut self.faults, span, self.loaded, shown, package.as_deref().unwrap_or(&root));
            for file in ["pyproject.toml", "uv.lock"] {
                if !root.join(file).is_file() {
                    let fix = (file == "uv.lock").then(|| "run `uv lock` there".to_owned());
                    self.faults.error("missing-file", span, format!("there is no {file} in \"{}\"", source.root), fix);
                }
            }
        }
    }
}

fn place(spans: &[Span], index: usize) -> Span {
    spans.get(index).cloned().unwrap_or(0..1)
}

/// A relative path as the manifest writes it: with a leading `./`.
fn dotted(path: &Path) -> String {
    let text = path.display().to_string();
    if text.starts_with('.') { text } else { format!("./{text}") }
}

#[cfg(test)]
mod tests;
