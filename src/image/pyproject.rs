//! What a pyproject.toml says of itself without being built: dependencies, where its packages lie.

use crate::image::archive::{Content, Entry};
use crate::image::context::{Context, OWN};
use crate::image::requirements::{BUILD_DIR, Requirements, RequirementsError};
use crate::manifest::ignore::normalize;
use crate::manifest::workspace::{self, normalized_name, read_pyproject, tool};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Where a dependency comes from, by `[tool.uv.sources]`.
enum Origin {
    /// The index.
    Index,
    /// A URL that a requirement can hold: `git+…`, `https://…`.
    Url(String),
    /// A folder of the project.
    Folder(PathBuf),
    /// Only uv can say, from the pyproject.toml itself.
    Pyproject,
}

/// The dependencies that stand in a pyproject.toml. Those that are folders of the project are followed: what
/// they need is installed, and they are found by `sys.path`.
pub fn static_dependencies(
    found: &mut Requirements,
    context: &Context,
    index: usize,
    table: &Table,
    project: &Table,
) -> Result<(), RequirementsError> {
    let root = &context.roots[index];
    let uv = tool(table, &["uv"]);
    let keys =
        ["index", "index-url", "extra-index-url", "constraint-dependencies", "override-dependencies", "prerelease"];
    let mut needs_pyproject = uv.is_some_and(|uv| keys.iter().any(|key| uv.contains_key(*key)));
    let mut lines = Vec::new();
    let mut local = false;
    let mut pending = vec![(root.path.clone(), table.clone(), project.clone())];
    let mut seen = vec![root.path.clone()];
    while let Some((folder, table, project)) = pending.pop() {
        for dependency in strings(project.get("dependencies")) {
            match origin(&folder, &table, &dependency)? {
                Origin::Index => lines.push(dependency),
                Origin::Url(url) => lines.push(with_url(&dependency, &url)),
                Origin::Pyproject => needs_pyproject = true,
                Origin::Folder(inner) => {
                    local = true;
                    if seen.contains(&inner) || !inner.starts_with(&root.path) {
                        // Another root says itself what it needs; what is in none `validate` refuses.
                        continue;
                    }
                    seen.push(inner.clone());
                    let Some(table) = read_pyproject(&inner)? else { continue };
                    let Some(project) = workspace::project(&table).cloned() else {
                        found.install_whole(context, index, "a folder that it names is no plain package");
                        return Ok(());
                    };
                    found.packages.extend(package_of(&project));
                    add_search(found, root, &inner, Some(&table));
                    pending.push((inner, table, project));
                }
            }
        }
    }
    if needs_pyproject && local {
        found.install_whole(context, index, "its [tool.uv] names folders and indexes");
        return Ok(());
    }
    if needs_pyproject {
        // uv reads its own tables from a pyproject.toml without building the package.
        found.lines.push(format!("-r {BUILD_DIR}/{}/pyproject.toml", root.name));
        found.files.push(Entry {
            path: format!("{OWN}/deps/{}/pyproject.toml", root.name),
            content: Content::File(root.path.join("pyproject.toml")),
            executable: false,
        });
        found.git |= uv.is_some_and(|uv| format!("{uv:?}").contains("\"git"));
        return Ok(());
    }
    found.git |= lines.iter().any(|line| line.contains("git+"));
    found.lines.extend(lines);
    Ok(())
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

/// The dependencies of a locked project that stand for themselves: those that `[tool.uv.sources]` sends elsewhere
/// the lock alone knows.
pub fn plain_dependencies(folder: &Path, table: &Table) -> Result<Vec<String>, RequirementsError> {
    let mut plain = Vec::new();
    let project = workspace::project(table);
    for dependency in strings(project.and_then(|project| project.get("dependencies"))) {
        if matches!(origin(folder, table, &dependency)?, Origin::Index) {
            plain.push(dependency);
        }
    }
    Ok(plain)
}

fn origin(folder: &Path, table: &Table, dependency: &str) -> Result<Origin, RequirementsError> {
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
    let (source, base) = match (of(table), inherited.as_ref().and_then(of)) {
        (Some(own), _) => (own, folder.to_owned()),
        (None, Some(other)) => (other, root.clone().unwrap_or_else(|| folder.to_owned())),
        (None, None) => return Ok(Origin::Index),
    };
    let Some(source) = source.as_table() else { return Ok(Origin::Pyproject) };
    let text = |key: &str| source.get(key).and_then(Value::as_str);
    if let Some(path) = text("path") {
        return Ok(Origin::Folder(normalize(&base.join(path))));
    }
    if source.get("workspace").and_then(Value::as_bool) == Some(true) {
        let packages = workspace::packages(root.as_deref().unwrap_or(folder))?;
        let member =
            packages.into_iter().find(|one| one.name.as_deref().map(normalized_name).as_deref() == Some(&wanted));
        return Ok(member.map_or(Origin::Pyproject, |member| Origin::Folder(member.folder)));
    }
    if let Some(git) = text("git") {
        let reference = ["rev", "tag", "branch"].iter().find_map(|key| text(key));
        let reference = reference.map_or_else(String::new, |reference| format!("@{reference}"));
        let inner = text("subdirectory").map_or_else(String::new, |inner| format!("#subdirectory={inner}"));
        let prefix = if git.starts_with("git+") { "" } else { "git+" };
        return Ok(Origin::Url(format!("{prefix}{git}{reference}{inner}")));
    }
    Ok(text("url").map_or(Origin::Pyproject, |url| Origin::Url(url.to_owned())))
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

/// `name[extras] @ URL ; marker` in place of a version.
fn with_url(dependency: &str, url: &str) -> String {
    let name = requirement_name(dependency);
    let rest = &dependency.trim_start()[name.len()..];
    let extras = rest.trim_start().strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(extras, _)| extras);
    let extras = extras.map_or_else(String::new, |extras| format!("[{extras}]"));
    let marker = dependency.split_once(';').map_or_else(String::new, |(_, marker)| format!(" ; {}", marker.trim()));
    format!("{name}{extras} @ {url}{marker}")
}

/// A package's name and version.
pub fn package_of(project: &Table) -> Option<(String, String)> {
    let name = project.get("name")?.as_str()?;
    let version = project.get("version").and_then(Value::as_str).unwrap_or("0");
    let plain = |text: &str| {
        !text.is_empty() && !text.contains(|one: char| one.is_control() || one.is_whitespace() || one == '/')
    };
    (plain(name) && plain(version)).then(|| (name.to_owned(), version.to_owned()))
}

/// `[tool.setuptools.dynamic] dependencies = {file = …}`
pub fn dynamic_files(table: &Table) -> Option<Vec<String>> {
    match tool(table, &["setuptools", "dynamic"])?.get("dependencies")?.as_table()?.get("file")? {
        Value::String(file) => Some(vec![file.clone()]),
        Value::Array(files) => files.iter().map(|file| file.as_str().map(ToOwned::to_owned)).collect(),
        _ => None,
    }
}

fn strings(value: Option<&Value>) -> Vec<String> {
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
    fn requirements_take_urls_in_place_of_versions() {
        assert_eq!(
            with_url("A.b[x,y]>=1 ; python_version > '3'", "git+u@r"),
            "A.b[x,y] @ git+u@r ; python_version > '3'"
        );
        assert_eq!(with_url("a", "https://h/a.whl"), "a @ https://h/a.whl");
        assert_eq!(requirement_name(" my-pkg~=1"), "my-pkg");
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
