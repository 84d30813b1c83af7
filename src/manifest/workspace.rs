//! The packages of a uv workspace: what `uv.lock` beside a pyproject.toml locks (uv's documentation,
//! "Workspaces": `[tool.uv.workspace]` with `members` and `exclude`, globs of folders).

use crate::manifest::ignore::normalize;
use std::io;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// How deep a glob of members is followed.
const MAX_DEPTH: usize = 8;

/// A package of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// `[project] name`, where it has one.
    pub name: Option<String>,
    /// Its folder, absolute.
    pub folder: PathBuf,
}

/// Why a pyproject.toml says nothing.
#[derive(Debug, thiserror::Error)]
pub enum PyprojectError {
    /// It cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not TOML.
    #[error("{} is not valid TOML", path.display())]
    Toml {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Box<toml::de::Error>,
    },
}

/// The pyproject.toml of a folder, if there is one.
pub fn read_pyproject(folder: &Path) -> Result<Option<Table>, PyprojectError> {
    let path = folder.join("pyproject.toml");
    match std::fs::read_to_string(&path) {
        Ok(text) => match toml::from_str(text.trim_start_matches('\u{feff}')) {
            Ok(table) => Ok(Some(table)),
            Err(source) => Err(PyprojectError::Toml { path, source: Box::new(source) }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PyprojectError::Unreadable { path, source }),
    }
}

/// `[tool.A.B]`
pub fn tool<'t>(table: &'t Table, keys: &[&str]) -> Option<&'t Table> {
    keys.iter().try_fold(table.get("tool")?.as_table()?, |table, key| table.get(*key)?.as_table())
}

/// `[project]`
pub fn project(table: &Table) -> Option<&Table> {
    table.get("project").and_then(Value::as_table)
}

/// The packages of the workspace at `root` (absolute): the root itself first, where it is a package, then its
/// members, by path. A root without `[tool.uv.workspace]` is alone.
pub fn packages(root: &Path) -> Result<Vec<Package>, PyprojectError> {
    let Some(table) = read_pyproject(root)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    if project(&table).is_some() {
        found.push(Package { name: name_of(&table), folder: root.to_owned() });
    }
    let Some((members, excluded)) = members(&table) else { return Ok(found) };
    let mut folders = Vec::new();
    let mut pending = vec![(root.to_owned(), Vec::<String>::new())];
    while let Some((folder, path)) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') || path.len() >= MAX_DEPTH {
                continue;
            }
            let path: Vec<String> = path.iter().cloned().chain([name]).collect();
            if is_among(&members, &excluded, &path) {
                folders.push(entry.path());
            }
            if members.iter().any(|glob| may_match_below(glob, &path)) {
                pending.push((entry.path(), path));
            }
        }
    }
    folders.sort();
    for folder in folders {
        if let Some(table) = read_pyproject(&folder)? {
            found.push(Package { name: name_of(&table), folder });
        }
    }
    Ok(found)
}

/// Whether `folder` (absolute, below `root`) is a member of the workspace at `root`.
pub fn is_member(root: &Path, folder: &Path) -> Result<bool, PyprojectError> {
    let Some(table) = read_pyproject(root)? else { return Ok(false) };
    let (Some((members, excluded)), Ok(below)) = (members(&table), folder.strip_prefix(root)) else {
        return Ok(false);
    };
    let path: Vec<String> = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    Ok(is_among(&members, &excluded, &path))
}

/// Globs of folders, in parts.
type Globs = Vec<Vec<String>>;

/// `members` and `exclude` of a workspace; none where it is none.
fn members(table: &Table) -> Option<(Globs, Globs)> {
    let workspace = tool(table, &["uv", "workspace"])?;
    let globs = |key: &str| -> Globs {
        let list = workspace.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(Value::as_str).map(parts).collect()
    };
    Some((globs("members"), globs("exclude")))
}

fn is_among(members: &Globs, excluded: &Globs, path: &[String]) -> bool {
    let any = |globs: &Globs| globs.iter().any(|glob| matches(glob, path));
    any(members) && !any(excluded)
}

/// The package that a manifest in `folder` is of, without `source.package`: the deepest that holds it. The root
/// of a workspace of several is meant only where the manifest lies in it (langgraph-cli 0.4.40, `uv_lock.py`).
/// `Err`: none can be told.
pub fn own_package<'p>(packages: &'p [Package], root: &Path, folder: &Path) -> Option<&'p Package> {
    let holders = packages.iter().filter(|package| folder.starts_with(&package.folder));
    let deepest = holders.max_by_key(|package| package.folder.components().count());
    let deepest = deepest.filter(|package| package.folder != root || packages.len() == 1 || folder == root);
    deepest.or(if let [only] = packages { Some(only) } else { None })
}

/// A package's name as all ways to write it have it (PEP 503).
pub fn normalized_name(name: &str) -> String {
    let mut normalized = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            '-' | '_' | '.' if normalized.ends_with('-') => {}
            '-' | '_' | '.' => normalized.push('-'),
            _ => normalized.extend(character.to_lowercase()),
        }
    }
    normalized
}

fn name_of(table: &Table) -> Option<String> {
    project(table)?.get("name")?.as_str().map(ToOwned::to_owned)
}

fn parts(glob: &str) -> Vec<String> {
    let clean = normalize(Path::new(glob));
    clean.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).filter(|part| part != ".").collect()
}

fn matches(glob: &[String], path: &[String]) -> bool {
    match glob.split_first() {
        None => path.is_empty(),
        Some((first, rest)) if first == "**" => matches(rest, path) || (!path.is_empty() && matches(glob, &path[1..])),
        Some((first, rest)) => {
            path.split_first().is_some_and(|(name, below)| matches_name(first, name) && matches(rest, below))
        }
    }
}

fn may_match_below(glob: &[String], path: &[String]) -> bool {
    match (glob.split_first(), path.split_first()) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some((first, _)), Some(_)) if first == "**" => true,
        (Some((first, rest)), Some((name, below))) => matches_name(first, name) && may_match_below(rest, below),
    }
}

fn matches_name(glob: &str, name: &str) -> bool {
    let glob: Vec<char> = glob.chars().collect();
    let name: Vec<char> = name.chars().collect();
    crate::manifest::ignore::matches_glob(&glob, &name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn members_are_found_by_their_globs() {
        let folder = workspace(&[
            (
                "pyproject.toml",
                "[project]\nname='Root'\n[tool.uv.workspace]\nmembers=['packages/*', 'apps/**', './one']\nexclude=['packages/old']",
            ),
            ("packages/a/pyproject.toml", "[project]\nname='a'"),
            ("packages/old/pyproject.toml", "[project]\nname='old'"),
            ("packages/none/readme", ""),
            ("packages/a/deep/pyproject.toml", "[project]\nname='deep'"),
            ("apps/x/y/pyproject.toml", "[project]\nname='y'"),
            ("one/pyproject.toml", "[tool.x]"),
            ("other/pyproject.toml", "[project]\nname='other'"),
        ]);
        let found = packages(folder.path()).unwrap();
        let names: Vec<_> = found.iter().map(|package| package.name.as_deref()).collect();
        assert_eq!(names, [Some("Root"), Some("y"), None, Some("a")]);
        let own =
            |inner: &str| own_package(&found, folder.path(), &folder.path().join(inner)).map(|own| own.name.clone());
        assert_eq!(own("packages/a/src"), Some(Some("a".into())));
        assert_eq!(own(""), Some(Some("Root".into())));
        assert_eq!(own("other"), None);
        let member = |inner: &str| is_member(folder.path(), &folder.path().join(inner)).unwrap();
        assert_eq!(
            ["packages/a", "apps/x/y", "one", "packages/old", "other", "packages"].map(member),
            [true, true, true, false, false, false]
        );
    }

    #[test]
    fn names_are_compared_as_indexes_do() {
        assert_eq!(normalized_name("My__Pkg.-x"), "my-pkg-x");
    }
}
