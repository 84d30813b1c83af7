//! A `uv.lock`: what it locks is what is installed, by uv itself and as it stands (uv's documentation, "Locking and
//! syncing"): nothing is resolved anew. It enters the stage of the dependencies without what changes no package.

use crate::image::archive::Content;
use crate::image::context::{Context, Kind, Root};
use crate::image::package::Package;
use crate::image::pyproject::{Origin, add_search, extras, origin, renamed, requirement_name, strings};
use crate::image::requirement_set::{BUILD_DIR, Lock, Requirements, RequirementsError};
use crate::image::spec;
use crate::manifest::Manifest;
use crate::manifest::ignore::normalize;
use crate::manifest::lower_bound;
use crate::manifest::requires;
use crate::manifest::workspace::{self, PyprojectError, normalized_name, own_package, read_pyproject, tool};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// What the locked root `index` depends on; none where its lock is not what is to be installed. The lock of
/// `source` counts as it stands. One that lies beside the pyproject.toml of a folder of `dependencies` counts, too
/// (LangGraph's own tools pass it over); there what pyproject.toml says and it does not know is added. Blocks.
pub fn of_lock(
    context: &Context,
    index: usize,
    manifest: &Manifest,
    folder: &Path,
) -> Result<Option<Requirements>, RequirementsError> {
    let root = &context.roots[index];
    let Some(table) = read_pyproject(&root.path)? else { return Ok(None) };
    let source = manifest.source.as_ref().filter(|source| normalize(&folder.join(&source.root)) == root.path);
    let is_project = workspace::project(&table).is_some();
    if source.is_none() && !(is_project && root.path.join("uv.lock").is_file()) {
        return Ok(None);
    }
    let packages = workspace::packages(&root.path)?;
    let named = source.and_then(|source| source.package.clone());
    let own = named.or_else(|| {
        let own = own_package(&packages, &root.path, folder)?;
        own.name.clone().filter(|_| own.folder != root.path)
    });
    let locked = Locked::read(&root.path.join("uv.lock"))?;
    let mut found = Requirements::default();
    found.files.push(spec::entry(root, "uv.lock", Content::Bytes(locked.text().into_bytes())));
    for (file, inner) in context.files_of(root).filter(|(file, _)| file.kind == Kind::File) {
        let is_pyproject = Path::new(&inner).file_name().is_some_and(|name| name == "pyproject.toml");
        if let (true, Some(table)) = (is_pyproject, file.source.parent().map(read_pyproject).transpose()?.flatten()) {
            found.files.push(spec::entry(root, &inner, Content::Bytes(spec::for_lock(&table).into_bytes())));
        }
    }
    // The package that is meant comes first, then the root, then the others.
    let mut ordered: Vec<&workspace::Package> = packages.iter().collect();
    ordered.sort_by_key(|package| (package.name != own, package.folder != root.path));
    for package in ordered {
        let pyproject = read_pyproject(&package.folder)?;
        found.packages.extend(pyproject.as_ref().and_then(workspace::project).and_then(Package::of));
        let is_meant = package.folder == root.path || package.name == own;
        let python = pyproject.as_ref().and_then(requires::python_of).filter(|_| is_meant && found.python.is_none());
        found.python = python.map(ToOwned::to_owned).or(found.python);
        add_search(&mut found, root, &package.folder, pyproject.as_ref());
        if let (Some(table), true) = (&pyproject, package.folder == root.path) {
            found.renamed = renamed(&root.path, table);
        }
    }
    // A root that is no package itself may still hold modules.
    add_search(&mut found, root, &root.path, None);
    let members: Vec<&Path> = packages.iter().map(|package| package.folder.as_path()).collect();
    let folders = locked.bring(&mut found, root, &members)?;
    let overrides = strings(tool(&table, &["uv"]).and_then(|uv| uv.get("override-dependencies")));
    found.lock = Some(Lock { root: root.name.clone(), package: own, folders, overrides });
    if source.is_none() {
        let unknown = locked.unknown(&root.path, &table)?;
        if !unknown.is_empty() {
            let lines: Vec<&str> = unknown.iter().map(|line| requirement_name(line)).collect();
            found.notes.push(format!(
                "{}: uv.lock is older than pyproject.toml ({}), which is resolved now; `uv lock` renews it",
                root.name,
                lines.join(", ")
            ));
        }
        found.lines.extend(unknown);
    }
    Ok(Some(found))
}

/// A lock that was read.
struct Locked {
    path: PathBuf,
    text: String,
    packages: Vec<Table>,
}

impl Locked {
    fn read(path: &Path) -> Result<Self, RequirementsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| RequirementsError::Unreadable { path: path.to_owned(), source })?;
        let table: Table = toml::from_str(&text)
            .map_err(|source| PyprojectError::Toml { path: path.to_owned(), source: Box::new(source) })?;
        let packages = table.get("package").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let packages: Vec<Table> = packages.iter().filter_map(|package| package.as_table().cloned()).collect();
        let locked = Self { path: path.to_owned(), text, packages };
        locked.check_langgraph()?;
        Ok(locked)
    }

    fn check_langgraph(&self) -> Result<(), RequirementsError> {
        let version = self.packages.iter().find(|package| name_of(package) == "langgraph").and_then(|package| {
            let version = package.get("version")?.as_str()?;
            (requires::minor(version)? < lower_bound::LOWEST).then(|| version.to_owned())
        });
        match version {
            Some(version) => Err(RequirementsError::Langgraph { path: self.path.clone(), version }),
            None => Ok(()),
        }
    }

    /// The lock without the versions of the project's own packages, which no installation looks at: a new one
    /// installs nothing anew.
    fn text(&self) -> String {
        let mut blocks = self.text.split("[[package]]\n");
        let head = blocks.next().unwrap_or_default().to_owned();
        blocks.fold(head, |mut text, block| {
            let own = ["virtual", "editable", "directory"];
            let is_own = own.iter().any(|kind| block.contains(&format!("\nsource = {{ {kind} = ")));
            text += "[[package]]\n";
            for line in block.split_inclusive('\n') {
                let is_version = is_own && line.starts_with("version = ");
                text += if is_version { "version = \"0\"\n" } else { line };
            }
            text
        })
    }

    /// Takes along what is installed from files of the project, and puts folders of it on the path. The names of
    /// the folders that are no members of the workspace.
    fn bring(
        &self,
        found: &mut Requirements,
        root: &Root,
        members: &[&Path],
    ) -> Result<Vec<String>, RequirementsError> {
        let mut folders = Vec::new();
        for package in &self.packages {
            let source = package.get("source").and_then(Value::as_table);
            let text = |key: &str| source.and_then(|source| source.get(key)).and_then(Value::as_str);
            found.git |= text("git").is_some();
            let inside = |inner: &Path| {
                let path = normalize(&root.path.join(inner));
                if path.starts_with(&root.path) {
                    return Ok(path);
                }
                Err(RequirementsError::Include { path: self.path.clone(), included: inner.display().to_string() })
            };
            if let Some(archive) = text("path") {
                spec::bring(found, root, &inside(Path::new(archive))?);
            }
            // A folder of archives as an index (`find-links`, `format = "flat"`).
            if let Some(index) = text("registry").filter(|index| !index.contains("://")) {
                for archive in archives(package) {
                    spec::bring(found, root, &inside(&Path::new(index).join(archive))?);
                }
            }
            let Some(folder) = ["directory", "editable", "virtual"].iter().find_map(|kind| text(kind)) else {
                continue;
            };
            let folder = normalize(&root.path.join(folder));
            if members.contains(&folder.as_path()) {
                continue;
            }
            folders.push(name_of(package).to_owned());
            if let Some(table) = read_pyproject(&folder)? {
                found.packages.extend(workspace::project(&table).and_then(Package::of));
                add_search(found, root, &folder, Some(&table));
            }
        }
        Ok(folders)
    }

    /// What the project asks for, and the lock was made without.
    fn unknown(&self, folder: &Path, table: &Table) -> Result<Vec<String>, RequirementsError> {
        let project = workspace::project(table);
        let own = project.and_then(|project| project.get("name")).and_then(Value::as_str).map(normalized_name);
        let own = self.packages.iter().find(|package| Some(normalized_name(name_of(package))) == own);
        let known = own.and_then(|own| own.get("metadata")?.get("requires-dist")?.as_array());
        let known = known.map(Vec::as_slice).unwrap_or_default();
        let mut unknown = Vec::new();
        for dependency in strings(project.and_then(|project| project.get("dependencies"))) {
            let name = normalized_name(requirement_name(&dependency));
            let is_known = known.iter().filter_map(Value::as_table).any(|one| {
                let specifier = one.get("specifier").and_then(Value::as_str).unwrap_or_default();
                name_of(one) == name && parts(specifier) == parts(&specifier_of(&dependency))
            });
            let is_own = own.is_some_and(|own| name_of(own) == name);
            if !is_known && !is_own && matches!(origin(folder, table, &dependency)?, Origin::Index) {
                unknown.push(dependency);
            }
        }
        Ok(unknown)
    }
}

fn name_of(package: &Table) -> &str {
    package.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// The files of a locked package that lie in a folder.
fn archives(package: &Table) -> impl Iterator<Item = &str> {
    let wheels = package.get("wheels").and_then(Value::as_array).into_iter().flatten();
    wheels.chain(package.get("sdist")).filter_map(|one| one.get("path")?.as_str())
}

/// The versions that a requirement admits; those of a URL are its own.
fn specifier_of(dependency: &str) -> String {
    let rest = &dependency.trim_start()[requirement_name(dependency).len()..];
    let rest = rest.split(';').next().unwrap_or_default();
    let rest = if extras(dependency).is_empty() { rest } else { rest.split_once(']').map_or("", |(_, rest)| rest) };
    if rest.trim_start().starts_with('@') { String::new() } else { rest.replace(['(', ')'], "") }
}

fn parts(specifier: &str) -> Vec<String> {
    let parts = specifier.split(',').map(|part| part.split_whitespace().collect::<String>());
    let mut parts: Vec<String> = parts.filter(|part| !part.is_empty()).collect();
    parts.sort();
    parts
}

impl Lock {
    /// The command of a shell that installs what is locked. What lies in folders comes with the code.
    pub fn install(&self) -> String {
        let quoted = |name: &str| format!("'{}'", name.replace('\'', "'\\''"));
        let package = self.package.as_ref().map(|name| format!(" --package {}", quoted(name)));
        let folders: Vec<String> =
            self.folders.iter().map(|name| format!(" --no-install-package {}", quoted(name))).collect();
        let folders = folders.concat();
        format!(
            "UV_PROJECT_ENVIRONMENT=/opt/venv /opt/uv/bin/uv sync --project {BUILD_DIR}/{} --frozen --inexact --no-dev \
             --no-install-workspace{folders} --compile-bytecode{}",
            self.root,
            package.unwrap_or_default()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::context::{collect, tests::project};

    fn of(manifest: &str, files: &[(&str, &str)]) -> Option<Requirements> {
        let (_folder, project) = project(manifest, files);
        of_lock(&collect(&project).unwrap(), 0, &project.manifest, &project.folder).unwrap()
    }

    const HERE: &str = r#"{"dependencies": ["."], "graphs": {"a": "m:g"}}"#;
    const PROJECT: (&str, &str) = (
        "pyproject.toml",
        "[project]\nname='n'\ndependencies=['httpx', 'mine']\n[tool.uv.sources]\nmine={git='https://h/x'}\n",
    );

    #[test]
    fn a_lock_beside_the_project_counts_and_what_it_may_not_know_is_added() {
        assert_eq!(of(HERE, &[PROJECT]), None);
        assert_eq!(of(HERE, &[("uv.lock", ""), ("requirements.txt", "x")]), None);
        let git = "[[package]]\nname = \"mine\"\nversion = \"1\"\nsource = { git = \"https://h/x\" }\n";
        let found = of(HERE, &[PROJECT, ("uv.lock", git)]).unwrap();
        assert_eq!((found.lines.as_slice(), found.notes.len()), (["httpx".to_owned()].as_slice(), 1));
        assert_eq!(found.lock, Some(Lock { root: "app".into(), package: None, folders: vec![], overrides: vec![] }));
        assert!(found.git && found.files.len() == 2);
    }

    #[test]
    fn of_a_workspace_the_package_is_exported_that_the_manifest_lies_in() {
        let files = [
            ("pyproject.toml", "[tool.uv.workspace]\nmembers=['apps/*']"),
            ("uv.lock", ""),
            ("apps/one/pyproject.toml", "[project]\nname='one'"),
            ("apps/two/pyproject.toml", "[project]\nname='two'"),
        ];
        let (folder, mut project) =
            project(r#"{"source": {"kind": "uv", "root": "../.."}, "graphs": {"a": "./x.py:g"}}"#, &files);
        project.folder = folder.path().join("apps/two");
        let found = of_lock(&collect(&project).unwrap(), 0, &project.manifest, &project.folder).unwrap().unwrap();
        assert_eq!(found.lock.unwrap().package.as_deref(), Some("two"));
        assert_eq!(found.search.first().map(String::as_str), Some("apps/two"));
        assert!(found.lines.is_empty());
    }

    const LOCKED: &str = "version = 1\n\n[[package]]\nname = \"n\"\nversion = \"4.2\"\nsource = { virtual = \".\" }\n\n\
        [package.metadata]\nrequires-dist = [\n    { name = \"httpx\", extras = [\"http2\"], specifier = \">=0.27,<1\" },\n    \
        { name = \"six\", path = \"vendor/six.whl\" },\n    { name = \"lib\", directory = \"lib\" },\n]\n\n\
        [[package]]\nname = \"six\"\nversion = \"1.16.0\"\nsource = { path = \"vendor/six.whl\" }\n\n\
        [[package]]\nname = \"flat\"\nversion = \"3\"\nsource = { registry = \"wheels\" }\nwheels = [\n    { path = \"flat-3.whl\" },\n]\n\n\
        [[package]]\nname = \"lib\"\nversion = \"7\"\nsource = { directory = \"lib\" }\n";

    #[test]
    fn what_is_locked_from_files_comes_along_and_folders_are_code() {
        let pyproject = |version: &str, more: &str| {
            format!(
                "[project]\nname='n'\nversion='{version}'\ndependencies=['httpx[http2] < 1, >= 0.27', 'six', 'lib'{more}]\n\
                 [tool.ruff]\nline-length={version}\n[tool.uv.sources]\nsix={{path='vendor/six.whl'}}\nlib={{path='lib'}}\n"
            )
        };
        let of = |version: &str, more: &str, lock: &str| {
            let text = pyproject(version, more);
            let files = [
                ("pyproject.toml", text.as_str()),
                ("uv.lock", lock),
                ("vendor/six.whl", "six"),
                ("wheels/flat-3.whl", "flat"),
                ("lib/pyproject.toml", "[project]\nname='lib'\nversion='7'"),
                ("lib/src/lib/__init__.py", ""),
            ];
            let (_folder, project) = project(HERE, &files);
            let found = of_lock(&collect(&project).unwrap(), 0, &project.manifest, &project.folder).unwrap().unwrap();
            let inner = |path: &str| path.trim_start_matches(".rapidclaw/deps/app/").to_owned();
            let bytes = |content: &Content| match content {
                Content::Bytes(bytes) => String::from_utf8(bytes.clone()).unwrap(),
                _ => String::new(),
            };
            let files: Vec<(String, String)> =
                found.files.iter().map(|entry| (inner(&entry.path), bytes(&entry.content))).collect();
            (found, files)
        };
        let (found, files) = of("1", "", LOCKED);
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["uv.lock", "lib/pyproject.toml", "pyproject.toml", "vendor/six.whl", "wheels/flat-3.whl"]);
        assert_eq!(found.lock.clone().unwrap().folders, ["lib"]);
        assert!(
            found.search.contains(&"lib/src".to_owned())
                && found.packages.iter().any(|one| one.name == "lib" && one.version == "7")
        );
        assert!(found.lines.is_empty() && found.notes.is_empty(), "{found:?}");
        let command = found.lock.unwrap().install();
        assert!(command.contains("--frozen") && command.contains("--no-install-package 'lib'"), "{command}");
        // What decides no package changes nothing: another version, in both files, and other tools' tables.
        assert_eq!(of("2", "", &LOCKED.replace("4.2", "4.3")).1, files);
        assert_ne!(of("1", "", &LOCKED.replace("1.16.0", "1.17.0")).1, files);
        // What the lock was made without is added and said.
        let (found, _) = of("1", ", 'idna>3'", LOCKED);
        assert_eq!((found.lines, found.notes.len()), (vec!["idna>3".to_owned()], 1));
    }

    #[test]
    fn locks_of_what_cannot_be_installed_are_named() {
        let of = |lock: &str| {
            let (_folder, project) = project(HERE, &[PROJECT, ("uv.lock", lock)]);
            of_lock(&collect(&project).unwrap(), 0, &project.manifest, &project.folder).unwrap_err().to_string()
        };
        let old = of("[[package]]\nname = \"langgraph\"\nversion = \"0.5.4\"\n");
        assert!(old.contains("langgraph 0.5.4") && old.contains("0.6"), "{old}");
        let outside = of("[[package]]\nname = \"a\"\nsource = { path = \"../a.whl\" }\n");
        assert!(outside.contains("../a.whl"), "{outside}");
        assert!(of("[[package").contains("is not valid TOML"));
    }
}
