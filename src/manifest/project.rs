//! The project behind a manifest: what the manifest names must be there and must enter the image.
//!
//! langgraph-cli finds most of these only when it writes a Dockerfile (`_assemble_local_deps`,
//! `_update_graph_paths`), or never; here all are said at once, at the value in the manifest.

use crate::manifest::diagnostic::{Diagnostic, Span};
use crate::manifest::ignore::{IgnoreRules, normalize};
use crate::manifest::reader::Faults;
use crate::manifest::syntax::has_credentials;
use crate::manifest::{EnvSource, GraphTarget, Loaded, Manifest};
use std::path::{Path, PathBuf};

/// The files of a local dependency that say what it depends on.
const DEPENDENCY_FILES: [&str; 4] = ["requirements.txt", "pyproject.toml", "setup.py", "setup.cfg"];

/// A dotenv file that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvFile {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it is there. In CI it usually is not, and the values last deployed stay.
    pub exists: bool,
}

/// The dotenv file of `env`, where it names one. Whether its absence is a fault is the caller's to say.
pub fn env_file(manifest: &Manifest, folder: &Path) -> Option<EnvFile> {
    let EnvSource::File(name) = &manifest.env else { return None };
    let path = folder.join(name);
    let exists = path.is_file();
    Some(EnvFile { path, exists })
}

/// The files that the manifest names and that never enter an image: its dotenv file and its pip.conf
/// (which may hold an index' password).
pub fn private_files(manifest: &Manifest, folder: &Path) -> Vec<PathBuf> {
    let env = env_file(manifest, folder).map(|file| file.path);
    env.into_iter().chain(manifest.pip_config_file.as_ref().map(|name| folder.join(name))).collect()
}

/// The folders of `dependencies`, as absolute paths without `..`, beside their index.
pub fn local_dependencies(manifest: &Manifest, folder: &Path) -> Vec<(usize, PathBuf)> {
    let local = manifest.dependencies.iter().enumerate().filter(|(_, name)| name.starts_with('.'));
    local.map(|(index, name)| (index, normalize(&folder.join(name)))).collect()
}

/// Checks what lies in `folder` (absolute; the manifest's) and returns all faults.
pub fn check(loaded: &Loaded, folder: &Path) -> Vec<Diagnostic> {
    let mut check = Check { loaded, folder, faults: Faults { source: &loaded.source, list: Vec::new() } };
    let roots = check.dependencies();
    check.graphs(&roots);
    check.other_files();
    check.faults.list.sort_by_key(|fault| (fault.line, fault.column));
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
        for (index, path) in local_dependencies(manifest, self.folder) {
            let span = place(&self.loaded.places.dependencies, index);
            let name = &manifest.dependencies[index];
            match std::fs::metadata(&path) {
                Ok(meta) if meta.is_dir() => {
                    self.credentials(&path, &span);
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
        for (index, name) in manifest.dependencies.iter().enumerate().filter(|(_, name)| !name.starts_with('.')) {
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
            let GraphTarget::File { path: name, .. } = &graph.target else { continue };
            let span = place(&self.loaded.places.graphs, index);
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

    /// The dependency that holds `path`; with `source` it is the folder of the lock.
    fn holder(&self, roots: &[PathBuf], path: &Path) -> Option<PathBuf> {
        let uv = self.loaded.manifest.source.as_ref().map(|source| normalize(&self.folder.join(&source.root)));
        roots.iter().cloned().chain(uv).find(|root| path.starts_with(root))
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

    fn other_files(&mut self) {
        let (manifest, places) = (&self.loaded.manifest, &self.loaded.places);
        if let (Some(name), Some(span)) = (&manifest.pip_config_file, &places.pip_config_file)
            && !self.folder.join(name).is_file()
        {
            self.faults.error("missing-file", span, format!("there is no file {name}"), None);
        }
        if let (Some(source), Some(span)) = (&manifest.source, &places.source) {
            let root = normalize(&self.folder.join(&source.root));
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

/// The folder whose ignore files count for a dependency: the manifest's for what lies in it.
pub(crate) fn context_root(dependency: &Path, folder: &Path) -> PathBuf {
    if dependency.starts_with(folder) { folder.to_owned() } else { dependency.to_owned() }
}

/// A relative path as the manifest writes it: with a leading `./`.
fn dotted(path: &Path) -> String {
    let text = path.display().to_string();
    if text.starts_with('.') { text } else { format!("./{text}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Severity, parse};

    fn project(manifest: &str, files: &[(&str, &str)]) -> (tempfile::TempDir, Loaded) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let loaded = parse(manifest, "langgraph.json", "x").unwrap();
        (folder, loaded)
    }

    #[test]
    fn a_whole_project_has_no_faults() {
        let (folder, loaded) = project(
            r#"{"dependencies": ["./app", "langchain-openai"], "graphs": {"a": "./app/agent.py:graph", "m": "pkg.mod:g"}, "env": ".env"}"#,
            &[("app/agent.py", ""), (".gitignore", "*.db\n")],
        );
        assert_eq!(check(&loaded, folder.path()), []);
        let env = env_file(&loaded.manifest, folder.path()).unwrap();
        assert!(!env.exists && env.path.ends_with(".env"));
    }

    #[test]
    fn what_is_missing_or_left_out_is_said_at_its_value() {
        let manifest = r#"{"dependencies": ["./app", "./none", "./app/requirements.txt", "lib"],
 "graphs": {"a": "./app/agnet.py:graph",
  "b": "./app/secret.py:graph",
  "c": "./other/c.py:graph",
  "d": "./app:graph"}, "pip_config_file": "pip.conf"}"#;
        let (folder, loaded) = project(
            manifest,
            &[
                ("app/agent.py", ""),
                ("app/secret.py", ""),
                ("app/requirements.txt", "x @ git+https://u:p@h/x"),
                ("other/c.py", ""),
                ("lib/x.py", ""),
                (".dockerignore", "**/secret.py\n"),
            ],
        );
        let faults = check(&loaded, folder.path());
        let seen: Vec<_> = faults.iter().map(|fault| (fault.code, fault.line, fault.column)).collect();
        assert_eq!(
            seen,
            [
                ("credentials-in-url", 1, 19),
                ("missing-dependency", 1, 28),
                ("dependency-not-a-folder", 1, 38),
                ("package-or-folder", 1, 64),
                ("missing-graph-file", 2, 18),
                ("graph-excluded", 3, 8),
                ("graph-outside-dependencies", 4, 8),
                ("graph-not-a-file", 5, 8),
                ("missing-file", 5, 43),
            ]
        );
        assert_eq!(faults[3].severity, Severity::Warning);
        assert_eq!(faults[4].fix.as_deref(), Some("did you mean \"./app/agent.py\"?"));
        assert_eq!(faults[6].fix.as_deref(), Some("add \"./other\" to `dependencies`"));
        assert!(!crate::manifest::render(&faults).contains("u:p"));
    }
}
