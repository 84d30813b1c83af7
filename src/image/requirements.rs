//! What a folder of the project depends on, found without running any of its code, so that the
//! dependencies can be installed before any source is copied.
//!
//! As langgraph-cli has it: a folder with a pyproject.toml or setup.py is a package and says itself
//! what it needs; in any other folder a requirements.txt does.

use crate::image::archive::{Content, Entry};
use crate::image::context::{Context, OWN, Root};
use crate::image::described;
use crate::image::package::Package;
use crate::image::pyproject::{self, dynamic_files, search_path};
use crate::image::requirement_set::{BUILD_DIR, Requirements, RequirementsError};
use crate::image::spec;
use crate::manifest::ignore::normalize;
use crate::manifest::requirement_line::{Line, classify, places};
use crate::manifest::requires;
use crate::manifest::workspace::{self, read_pyproject, tool};
use std::path::{Path, PathBuf};
use toml::Value;

/// What a build backend gets of a package that only it can describe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// What describes the package.
    Description,
    /// All of its code, which each change of it installs anew: the description did not do.
    Code,
}

/// What the root `index` of `context` depends on. Blocks.
pub fn of_root(context: &Context, index: usize, backend: Backend) -> Result<Requirements, RequirementsError> {
    let root = &context.roots[index];
    let pyproject = read_pyproject(&root.path)?;
    let python = pyproject.as_ref().and_then(requires::python_of).map(ToOwned::to_owned);
    let mut found = Requirements { python, ..Requirements::default() };
    let project = pyproject.as_ref().and_then(workspace::project);
    let has = |name: &str| root.path.join(name).is_file();
    if let (Some(table), Some(project)) = (&pyproject, project) {
        found.packages.extend(Package::of(project));
        let names = |key: &str| {
            project
                .get("dynamic")
                .and_then(Value::as_array)
                .is_some_and(|list| list.iter().any(|name| name.as_str() == Some(key)))
        };
        if names("dependencies") {
            match dynamic_files(table) {
                Some(files) => files.iter().try_for_each(|file| found.include(root, file))?,
                None => found.ask_backend(context, index, backend, "its dependencies are dynamic"),
            }
        } else if let Some(why) = spec::of_project(&mut found, root, table, project)? {
            found.ask_backend(context, index, Backend::Code, why);
        }
    } else if pyproject.as_ref().is_some_and(|table| tool(table, &["poetry"]).is_some()) {
        found.ask_backend(context, index, backend, "its dependencies are in Poetry's form");
    } else if has("setup.py") {
        found.ask_backend(context, index, backend, "its dependencies are in its setup.py");
    } else if has("requirements.txt") {
        found.include(root, "requirements.txt")?;
    }
    found.renamed = pyproject.as_ref().map(|table| pyproject::renamed(&root.path, table)).unwrap_or_default();
    // Its own folders come first.
    let mut search = search_path(&root.path, root.flat, pyproject.as_ref());
    let others = std::mem::take(&mut found.search).into_iter().filter(|path| !search.contains(path));
    let others: Vec<String> = others.collect();
    search.extend(others);
    found.search = search;
    Ok(found)
}

impl Requirements {
    /// Takes over a requirements file of the root and those that it includes.
    fn include(&mut self, root: &Root, file: &str) -> Result<(), RequirementsError> {
        let mut pending = vec![file.to_owned()];
        self.lines.push(format!("-r {BUILD_DIR}/{}/{file}", root.name));
        while let Some(file) = pending.pop() {
            let target = format!("{OWN}/deps/{}/{file}", root.name);
            if self.files.iter().any(|entry| entry.path == target) {
                continue;
            }
            let path = root.path.join(&file);
            let text = std::fs::read(&path).map_err(|source| RequirementsError::Unreadable { path, source })?;
            let mut kept = String::new();
            for line in decoded(&text).lines() {
                let Some(line) = self.moved(root, &file, line, &mut pending)? else { continue };
                self.git |= line.contains("git+");
                kept += &line;
                kept.push('\n');
            }
            self.files.push(Entry::text(target, kept));
        }
        Ok(())
    }

    /// A line of a requirements file as the installation reads it, which stands elsewhere; what it names comes along,
    /// and the files that it includes become `pending`. Nothing where it is left out.
    fn moved(
        &mut self,
        root: &Root,
        file: &str,
        line: &str,
        pending: &mut Vec<String>,
    ) -> Result<Option<String>, RequirementsError> {
        let not_there =
            |name: &str| RequirementsError::Include { path: root.path.join(file), included: name.to_owned() };
        match classify(line) {
            Line::Include(name) => {
                let inner = included(root, file, name).ok_or_else(|| not_there(name))?;
                pending.push(inner.to_string_lossy().into_owned());
                let is_constraint = line.trim_start().starts_with("-c") || line.contains("--constraint");
                // Without the space some readers of such files lose it.
                Ok(Some(format!("{} {name}", if is_constraint { "-c" } else { "-r" })))
            }
            Line::Local(name) | Line::Named(_, name) => {
                let Some(inner) = inside(root, file, name) else {
                    self.note_folder(file, name);
                    return Ok(None);
                };
                let there = format!("{BUILD_DIR}/{}/{}", root.name, inner.display());
                let content = Content::File(root.path.join(&inner));
                self.files.push(spec::entry(root, &inner.display().to_string(), content));
                Ok(Some(match classify(line) {
                    Line::Named(head, _) => format!("{head} @ file://{there}"),
                    _ => line.replacen(name, &there, 1),
                }))
            }
            Line::FindLinks(name) => {
                let mut places = places(Path::new(file), name).into_iter();
                let inner = places.find(|place| is_below(place) && root.path.join(place).is_dir());
                let inner = inner.ok_or_else(|| not_there(name))?;
                spec::bring_all(self, root, &root.path.join(&inner));
                Ok(Some(format!("--find-links {BUILD_DIR}/{}/{}", root.name, inner.display())))
            }
            Line::Rewritten(text) => Ok(Some(text)),
            Line::Refused(_) | Line::Other => Ok(Some(line.to_owned())),
        }
    }

    /// Says that a file names a folder, which is no dependency by that.
    fn note_folder(&mut self, file: &str, name: &str) {
        if matches!(name, "." | "./") {
            return;
        }
        let folder = folder_of(file);
        let place = if folder == Path::new("") { String::new() } else { format!(" in {}", folder.display()) };
        self.notes.push(format!(
            "{file}{place} names the folder {name}: add it to `dependencies` so that what it needs is installed"
        ));
    }

    /// Only the package's build backend knows. Where its description does not do, its code is copied before the
    /// installation, which then builds it.
    fn ask_backend(&mut self, context: &Context, index: usize, backend: Backend, why: &str) {
        let root = &context.roots[index];
        if backend == Backend::Description && described::take(self, context, root) {
            self.packages.clear();
            return;
        }
        self.lines.push(format!("{BUILD_DIR}/{}", root.name));
        self.files.extend(context.files_of(root).map(|(file, path)| Entry {
            path: format!("{OWN}/deps/{}/{path}", root.name),
            content: file.content(),
            executable: file.executable,
        }));
        self.notes.push(format!(
            "{}: {why}, so that it is built before; each change of its code installs the dependencies again",
            root.name
        ));
    }
}

/// The folder of a file, by a path relative to the root.
fn folder_of(file: &str) -> &Path {
    Path::new(file).parent().unwrap_or(Path::new(""))
}

/// A file of the root that `file` includes.
fn included(root: &Root, file: &str, name: &str) -> Option<PathBuf> {
    let path = folder_of(file).join(name);
    let depth = path.components().fold(0_i32, |depth, part| match part {
        std::path::Component::ParentDir if depth >= 0 => depth - 1,
        std::path::Component::Normal(_) => depth + 1,
        _ => depth,
    });
    let inner = normalize(&path);
    (depth >= 0 && root.path.join(&inner).is_file()).then_some(inner)
}

/// A file of the root that a line of `file` names.
fn inside(root: &Root, file: &str, name: &str) -> Option<PathBuf> {
    // As this machine names it, too.
    let own = Path::new(name).strip_prefix(&root.path).ok().map(Path::to_owned);
    let mut places = own.into_iter().chain(places(Path::new(file), name));
    places.find(|place| is_below(place) && root.path.join(place).is_file())
}

fn is_below(place: &Path) -> bool {
    !place.is_absolute() && !place.starts_with("..")
}

/// The text of a requirements file. PowerShell's `pip freeze > requirements.txt` writes UTF-16, which pip reads
/// by its first bytes and uv does not.
fn decoded(bytes: &[u8]) -> String {
    let units = |read: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes[2..].chunks_exact(2).map(|pair| read([pair[0], pair[1]])).collect();
        String::from_utf16_lossy(&units)
    };
    match bytes {
        [0xff, 0xfe, ..] => units(u16::from_le_bytes),
        [0xfe, 0xff, ..] => units(u16::from_be_bytes),
        _ => String::from_utf8_lossy(bytes).trim_start_matches('\u{feff}').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::context::{collect, tests::project};

    fn of(files: &[(&str, &str)]) -> Result<Requirements, RequirementsError> {
        let (_folder, project) = project(r#"{"dependencies": ["."], "graphs": {"a": "m:g"}}"#, files);
        of_root(&collect(&project).unwrap(), 0, Backend::Code)
    }

    fn paths(found: &Requirements) -> Vec<&str> {
        found.files.iter().map(|entry| entry.path.as_str()).collect()
    }

    #[test]
    fn requirements_that_powershell_wrote_are_read() {
        let text = "langgraph\r\nhttpx\r\n";
        let little: Vec<u8> = [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_be_bytes).collect();
        for bytes in [&little[..], &big, text.as_bytes(), &[b"\xef\xbb\xbf", text.as_bytes()].concat()] {
            assert_eq!(decoded(bytes), text);
        }
        assert_eq!((decoded(&[0xff, 0xfe]), decoded(&[])), (String::new(), String::new()));
    }

    #[test]
    fn a_requirements_file_is_taken_with_what_it_includes_and_without_the_project_itself() {
        let found = of(&[
            (
                "requirements.txt",
                "# c\n-r req/base.txt\n-c limits.txt\n-e .\nlanggraph>=1 # x\n./wheels/x.whl\n-e ./lib\n",
            ),
            ("req/base.txt", "-r more.txt\nhttpx\n"),
            ("req/more.txt", "-r https://h/r.txt\n"),
            ("limits.txt", "x<2\n"),
            ("wheels/x.whl", ""),
            ("lib/setup.py", ""),
        ])
        .unwrap();
        assert_eq!(found.lines, ["-r /opt/build/app/requirements.txt"]);
        let mut seen = paths(&found);
        seen.sort_unstable();
        let want = ["limits.txt", "req/base.txt", "req/more.txt", "requirements.txt", "wheels/x.whl"];
        assert_eq!(seen, want.map(|path| format!(".rapidclaw/deps/app/{path}")));
        let Content::Bytes(text) =
            &found.files.iter().find(|entry| entry.path.ends_with("app/requirements.txt")).unwrap().content
        else {
            panic!()
        };
        assert_eq!(
            String::from_utf8_lossy(text),
            "# c\n-r req/base.txt\n-c limits.txt\nlanggraph>=1 # x\n/opt/build/app/wheels/x.whl\n"
        );
        assert_eq!(found.notes.len(), 1);
        assert!(matches!(of(&[("requirements.txt", "-r ../x.txt")]), Err(RequirementsError::Include { .. })));
    }

    #[test]
    fn static_dependencies_are_read_from_pyproject() {
        let text = "[project]\nname='n'\nversion='1'\ndependencies=['langgraph>=1', 'httpx']\n[tool.hatch.build.targets.wheel]\npackages=['src/n']\n";
        let found = of(&[("pyproject.toml", text), ("requirements.txt", "no"), ("src/n/__init__.py", "")]).unwrap();
        assert_eq!(found.lines, ["langgraph>=1", "httpx"]);
        assert_eq!(found.search, ["src", ""]);
        assert_eq!(found.packages.iter().map(|one| (&*one.name, &*one.version)).collect::<Vec<_>>(), [("n", "1")]);
        assert!(found.files.is_empty() && found.notes.is_empty());
        // What `[tool.uv]` says is for uv: it gets a pyproject.toml with that, and with nothing else.
        let spec = |more: &str| {
            let mut found =
                of(&[("pyproject.toml", &format!("{text}{more}")), ("wheels/x-1.whl", "x"), ("a.txt", "")]).unwrap();
            assert_eq!(
                (found.lines.len(), found.project.take().as_deref()),
                (0, Some("/opt/build/app/pyproject.toml"))
            );
            let archives: Vec<String> = paths(&found).iter().map(|path| (*path).to_owned()).collect();
            let Some(Content::Bytes(bytes)) = found.files.pop().map(|entry| entry.content) else { panic!() };
            (String::from_utf8(bytes).unwrap(), found.git, archives)
        };
        let (git, is_git, _) =
            spec("[tool.uv.sources]\nhttpx={git='https://h/x', tag='v1'}\n[tool.ruff]\nline-length=1\n");
        let want = "[project]\ndependencies = [\"langgraph>=1\", \"httpx\"]\nname = \"n\"\nversion = \"0\"\n\n\
            [tool.uv.sources.httpx]\ngit = \"https://h/x\"\ntag = \"v1\"\n";
        assert_eq!((git.as_str(), is_git), (want, true));
        let (index, is_git, _) = spec(
            "[tool.uv]\nrequired-version='<1'\noverride-dependencies=['a>1']\n[[tool.uv.index]]\nname='i'\nurl='https://h/simple'\n",
        );
        assert!(index.contains("[[tool.uv.index]]") && index.contains("override-dependencies = [\"a>1\"]"), "{index}");
        assert!(!index.contains("required-version") && !is_git, "{index}");
        let wheel = "[tool.uv.sources]\nhttpx=[{path='wheels/x-1.whl', marker=\"sys_platform == 'linux'\"}, {index='i'}]\n[tool.uv]\nfind-links=['wheels']\n";
        let (_, _, archives) = spec(wheel);
        assert_eq!(archives, [".rapidclaw/deps/app/wheels/x-1.whl", ".rapidclaw/deps/app/pyproject.toml"]);
    }

    #[test]
    fn folders_that_a_pyproject_names_are_followed() {
        let text = "[project]\nname='n'\ndependencies=['My_Lib[x]>=1', 'other', 'httpx']\n[tool.uv.workspace]\nmembers=['libs/*']\n\
            [tool.uv.sources]\nmy-lib={workspace=true}\nother={path='other'}\n";
        let found = of(&[
            ("pyproject.toml", text),
            ("libs/a/pyproject.toml", "[project]\nname='my.lib'\nversion='3'\ndependencies=['six', 'n']\n[tool.uv.sources]\nn={workspace=true}\n"),
            ("libs/a/src/my_lib/__init__.py", ""),
            ("other/pyproject.toml", "[project]\nname='other'\ndependencies=['idna']\n"),
        ])
        .unwrap();
        let mut lines = found.lines.clone();
        lines.sort();
        assert_eq!(lines, ["httpx", "idna", "six"]);
        let mut search = found.search.clone();
        search.sort();
        assert_eq!(search, ["", "libs/a", "libs/a/src", "other"]);
        assert_eq!(found.packages.len(), 3);
        assert!(found.notes.is_empty(), "nothing is built: {:?}", found.notes);
    }

    #[test]
    fn what_only_a_build_knows_is_installed_whole_and_said() {
        let setuptools = "[project]\nname='n'\ndynamic=['dependencies']\n[tool.setuptools.dynamic]\ndependencies={file=['requirements.txt']}\n";
        let found = of(&[("pyproject.toml", setuptools), ("requirements.txt", "httpx")]).unwrap();
        assert_eq!((found.lines, found.notes.len()), (vec!["-r /opt/build/app/requirements.txt".to_owned()], 0));
        for files in [
            [("pyproject.toml", "[tool.poetry]\nname='n'\n"), ("n.py", "")],
            [("setup.py", "setup()"), ("n.py", "")],
            [("pyproject.toml", "[project]\nname='n'\ndynamic=['dependencies']"), ("n.py", "")],
        ] {
            let found = of(&files).unwrap();
            assert_eq!(found.lines, ["/opt/build/app"], "{files:?}");
            assert_eq!((paths(&found).len(), found.notes.len()), (2, 1));
        }
        let found = of(&[("pyproject.toml", "[tool.ruff]\n"), ("requirements.txt", "httpx")]).unwrap();
        assert_eq!(found.lines, ["-r /opt/build/app/requirements.txt"]);
    }
}
