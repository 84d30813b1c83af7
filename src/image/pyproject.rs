//! What a pyproject.toml says of itself without being built: dependencies, where its packages lie.

use crate::image::requirement_set::{Requirements, RequirementsError};
use crate::manifest::ignore::normalize;
use crate::manifest::requirement_line::is_archive;
use crate::manifest::workspace::{self, normalized_name, read_pyproject, tool};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Where a dependency comes from, by `[tool.uv.sources]`.
pub enum Origin {
    /// The index, or what it says itself.
    Index,
    /// A folder of the project.
    Folder(PathBuf),
    /// What uv makes of it.
    Source(Source),
}

/// An entry of `[tool.uv.sources]`.
pub struct Source {
    /// As it stands.
    pub value: Value,
    /// What its paths are relative to.
    pub base: PathBuf,
}

/// The folders of a package below `root`, for `sys.path`.
pub fn add_search(found: &mut Requirements, root: &crate::image::context::Root, folder: &Path, table: Option<&Table>) {
    let Ok(below) = folder.strip_prefix(&root.path) else { return };
    for inner in search_path(folder, false, table) {
        let path = below.join(inner).display().to_string();
        let path = path.trim_end_matches('/').to_owned();
        if !found.search.contains(&path) {
            found.search.push(path);
        }
    }
}

/// Where `[tool.uv.sources]` of the folder or of its workspace say that a dependency comes from.
pub fn origin(folder: &Path, table: &Table, dependency: &str) -> Result<Origin, RequirementsError> {
    let wanted = normalized_name(requirement_name(dependency));
    // A workspace's members share the sources of its root.
    let root = workspace_root(folder);
    let inherited = match &root {
        Some(root) if root != folder => read_pyproject(root)?,
        _ => None,
    };
    let of = |table: &Table| {
        let sources = tool(table, &["uv", "sources"])?;
        sources.iter().find(|(name, _)| normalized_name(name) == wanted).map(|(_, source)| source.clone())
    };
    let (value, base) = match (of(table), inherited.as_ref().and_then(of)) {
        (Some(own), _) => (own, folder.to_owned()),
        (None, Some(other)) => (other, root.clone().unwrap_or_else(|| folder.to_owned())),
        (None, None) => return Ok(Origin::Index),
    };
    let folder_in = |source: &Table| -> Result<Option<PathBuf>, RequirementsError> {
        if let Some(path) = source.get("path").and_then(Value::as_str) {
            let path = normalize(&base.join(path));
            return Ok((!is_archive(&path.to_string_lossy()) && !path.is_file()).then_some(path));
        }
        if source.get("workspace").and_then(Value::as_bool) != Some(true) {
            return Ok(None);
        }
        let packages = workspace::packages(root.as_deref().unwrap_or(folder))?;
        let is_it = |one: &workspace::Package| one.name.as_deref().map(normalized_name).as_deref() == Some(&wanted);
        Ok(packages.into_iter().find(is_it).map(|member| member.folder))
    };
    let alternatives = match &value {
        Value::Table(source) => vec![source],
        Value::Array(list) => list.iter().filter_map(Value::as_table).collect(),
        _ => Vec::new(),
    };
    for source in alternatives {
        if let Some(folder) = folder_in(source)? {
            return Ok(Origin::Folder(folder));
        }
    }
    Ok(Origin::Source(Source { value, base }))
}

/// The `[tool.uv]` that counts for a folder: that of its workspace, else its own.
pub fn settings_of(folder: &Path, table: &Table) -> Result<Option<Table>, RequirementsError> {
    let root = workspace_root(folder).filter(|root| root != folder);
    let inherited = match root {
        Some(root) => read_pyproject(&root)?,
        None => None,
    };
    Ok(tool(inherited.as_ref().unwrap_or(table), &["uv"]).cloned())
}

/// The extras that a requirement names (PEP 508), normalized.
pub fn extras(dependency: &str) -> Vec<String> {
    let rest = &dependency.trim_start()[requirement_name(dependency).len()..];
    let inside = rest.trim_start().strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(inside, _)| inside);
    let names = inside.into_iter().flat_map(|inside| inside.split(','));
    names.map(str::trim).filter(|name| !name.is_empty()).map(normalized_name).collect()
}

/// The nearest folder upwards whose pyproject.toml has `[tool.uv.workspace]`.
fn workspace_root(folder: &Path) -> Option<PathBuf> {
    // What cannot be read further up is not this project's.
    let is_root = |folder: &&Path| {
        read_pyproject(folder).ok().flatten().is_some_and(|table| tool(&table, &["uv", "workspace"]).is_some())
    };
    folder.ancestors().find(is_root).map(Path::to_owned)
}

/// The name at the start of a requirement (PEP 508).
pub fn requirement_name(text: &str) -> &str {
    let text = text.trim_start();
    let end = text.find(|one: char| !(one.is_ascii_alphanumeric() || "._-".contains(one)));
    &text[..end.unwrap_or(text.len())]
}

/// `[tool.setuptools.dynamic] dependencies = {file = …}`
pub fn dynamic_files(table: &Table) -> Option<Vec<String>> {
    match tool(table, &["setuptools", "dynamic"])?.get("dependencies")?.as_table()?.get("file")? {
        Value::String(file) => Some(vec![file.clone()]),
        Value::Array(files) => files.iter().map(|file| file.as_str().map(ToOwned::to_owned)).collect(),
        _ => None,
    }
}

/// The strings of a list.
pub fn strings(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
}

/// The packages that `[tool.setuptools.package-dir]` takes from folders of other names: `"pkg" = "src/lib"`.
pub fn renamed(base: &Path, table: &Table) -> Vec<(String, String)> {
    let mapped = tool(table, &["setuptools", "package-dir"]).into_iter().flatten();
    let mapped = mapped.filter_map(|(name, folder)| Some((name, folder.as_str().filter(|text| !text.contains(".."))?)));
    let mapped = mapped.map(|(name, folder)| (name, normalize(Path::new(folder))));
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|one| one == '_' || one.is_alphanumeric());
    mapped
        .filter(|(name, folder)| is_name(name) && !folder.ends_with(name) && base.join(folder).is_dir())
        .filter(|(_, folder)| folder.is_relative())
        .map(|(name, folder)| (name.clone(), folder.display().to_string()))
        .collect()
}

/// Where Python finds the root's packages: `src/`, what the build backends are told, the root itself.
pub fn search_path(base: &Path, flat: bool, pyproject: Option<&Table>) -> Vec<String> {
    let mut search = Vec::new();
    let mut add = |folder: &str| {
        let folder = folder.trim_start_matches("./").trim_end_matches('/');
        let folder = if folder == "." { "" } else { folder };
        if !folder.contains("..") && !search.iter().any(|known| known == folder) && base.join(folder).is_dir() {
            search.push(folder.to_owned());
        }
    };
    if let Some(table) = pyproject {
        if let Some(find) = tool(table, &["setuptools", "packages", "find"]).and_then(|find| find.get("where")) {
            for folder in strings(Some(find)) {
                add(&folder);
            }
        }
        if let Some(root) =
            tool(table, &["setuptools", "package-dir"]).and_then(|dirs| dirs.get("")).and_then(Value::as_str)
        {
            add(root);
        }
        if let Some(packages) =
            tool(table, &["hatch", "build", "targets", "wheel"]).and_then(|wheel| wheel.get("packages"))
        {
            for package in strings(Some(packages)) {
                add(package.rsplit_once('/').map_or("", |(parent, _)| parent));
            }
        }
        let said = [(["uv", "build-backend"], "module-root"), (["pdm", "build"], "package-dir")];
        for (place, key) in said {
            if let Some(folder) = tool(table, &place).and_then(|table| table.get(key)).and_then(Value::as_str) {
                add(folder);
            }
        }
        if let Some(packages) =
            tool(table, &["poetry"]).and_then(|poetry| poetry.get("packages")).and_then(Value::as_array)
        {
            for package in packages.iter().filter_map(Value::as_table) {
                add(package.get("from").and_then(Value::as_str).unwrap_or(""));
            }
        }
    }
    if !flat {
        add("src");
        add("");
    }
    search
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_name_packages_and_extras() {
        assert_eq!(requirement_name(" my-pkg~=1"), "my-pkg");
        assert_eq!(extras(" A.b [x, My_Y]>=1 ; python_version > '3'"), ["x", "my-y"]);
        assert_eq!((extras("a"), extras("a[]>=1"), extras("a[x")), (vec![], vec![], vec![]));
    }

    #[test]
    fn what_build_backends_are_told_is_where_packages_are() {
        let folder = tempfile::tempdir().unwrap();
        for inner in ["src/panda", "lib", "code"] {
            std::fs::create_dir_all(folder.path().join(inner)).unwrap();
        }
        let read = |text: &str| toml::from_str::<Table>(text).unwrap();
        let table = read(
            "[tool.setuptools.package-dir]\nPanda_Dive='src/panda'\npanda='./src/panda'\n'a.b'='lib'\nnone='none'\nup='../lib'\n",
        );
        assert_eq!(renamed(folder.path(), &table), [("Panda_Dive".to_owned(), "src/panda".to_owned())]);
        let search = |text: &str| search_path(folder.path(), false, Some(&read(text)));
        assert_eq!(search("[tool.uv.build-backend]\nmodule-root='lib'\n"), ["lib", "src", ""]);
        assert_eq!(search("[tool.pdm.build]\npackage-dir='code'\n"), ["code", "src", ""]);
    }
}
