//! A `uv.lock`: what it locks is what is installed. uv itself reads it, in the stage of the dependencies.

use crate::image::archive::{Content, Entry};
use crate::image::context::{Context, Kind, OWN, Root};
use crate::image::pyproject::{add_search, package_of, plain_dependencies, renamed};
use crate::image::requirements::{BUILD_DIR, Requirements, RequirementsError};
use crate::manifest::Manifest;
use crate::manifest::ignore::normalize;
use crate::manifest::requires;
use crate::manifest::workspace::{self, own_package, read_pyproject};
use std::path::Path;

/// How a root's lock is exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// The root's name.
    pub root: String,
    /// The package of the workspace; none: the root's own.
    pub package: Option<String>,
}

/// What the locked root `index` depends on; none where its lock is not what is to be installed. The lock of
/// `source` is exported as it stands. One that lies beside the pyproject.toml of a folder of `dependencies`
/// counts, too (LangGraph's own tools pass it over); there what pyproject.toml says is added, so that a lock
/// that is older does not hide what it does not know. Blocks.
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
    let mut found = Requirements {
        lines: vec![format!("-r {}", locked_file(&root.name))],
        lock: Some(Lock { root: root.name.clone(), package: own.clone() }),
        ..Requirements::default()
    };
    for (file, inner) in context.files_of(root).filter(|(file, _)| file.kind == Kind::File) {
        if inner == "uv.lock" {
            let text = std::fs::read_to_string(&file.source)
                .map_err(|source| RequirementsError::Unreadable { path: file.source.clone(), source })?;
            found.git |= text.contains("git = \"");
        } else if Path::new(&inner).file_name().is_none_or(|name| name != "pyproject.toml") {
            continue;
        }
        let path = format!("{OWN}/deps/{}/{inner}", root.name);
        found.files.push(Entry { path, content: Content::File(file.source.clone()), executable: false });
    }
    // The package that is meant comes first, then the root, then the others.
    let mut ordered: Vec<&workspace::Package> = packages.iter().collect();
    ordered.sort_by_key(|package| (package.name != own, package.folder != root.path));
    for package in ordered {
        let pyproject = read_pyproject(&package.folder)?;
        found.packages.extend(pyproject.as_ref().and_then(workspace::project).and_then(package_of));
        let is_meant = package.folder == root.path || package.name == own;
        let python = pyproject.as_ref().and_then(requires::python_of).filter(|_| is_meant && found.python.is_none());
        found.python = python.map(ToOwned::to_owned).or(found.python);
        add_search(&mut found, root, &package.folder, pyproject.as_ref());
        if let (Some(table), true) = (&pyproject, package.folder == root.path) {
            found.renamed = renamed(&root.path, table);
        }
    }
    add_folder(&mut found, root);
    if source.is_none() {
        found.lines.extend(plain_dependencies(&root.path, &table)?);
    }
    Ok(Some(found))
}

/// A root that is no package itself may still hold modules.
fn add_folder(found: &mut Requirements, root: &Root) {
    add_search(found, root, &root.path, None);
}

fn locked_file(root: &str) -> String {
    format!("{BUILD_DIR}/{root}.locked.txt")
}

impl Lock {
    /// The commands of a shell that write what is locked where the requirements look for it. What lies in
    /// folders comes with the code.
    pub fn export(&self) -> String {
        let package = self.package.as_ref().map(|name| format!(" --package '{}'", name.replace('\'', "'\\''")));
        let (all, locked) = (format!("{BUILD_DIR}/{}.all.txt", self.root), locked_file(&self.root));
        format!(
            "cd {BUILD_DIR}/{}; /opt/uv/bin/uv export --quiet --frozen --no-hashes --no-dev --no-emit-workspace{} \
             --output-file {all} >/dev/null; cd /; grep -vE '^(-e |[.]|/|file:)' {all} >{locked} || true; ",
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
        let found = of(HERE, &[PROJECT, ("uv.lock", "source = { git = \"https://h/x\" }")]).unwrap();
        assert_eq!(found.lines, ["-r /opt/build/app.locked.txt", "httpx"]);
        assert_eq!(found.lock, Some(Lock { root: "app".into(), package: None }));
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
        assert_eq!(found.lines.len(), 1);
    }
}
