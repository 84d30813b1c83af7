//! What an installation would say of a package whose code is copied: its metadata, its entry points, its scripts
//! (Python packaging's "Core metadata", "Entry points specification", and the `[project]` table of PEP 621).

use std::fmt::Write as _;
use toml::{Table, Value};

/// The Python of the image's environment.
const PYTHON: &str = "/opt/venv/bin/python";
/// The group of the programs that a package brings.
const SCRIPTS: [(&str, &str); 2] = [("scripts", "console_scripts"), ("gui-scripts", "gui_scripts")];

/// A package of the project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// As it is written.
    pub name: String,
    /// As it is written; `0` where only its build knows.
    pub version: String,
    /// Group, name and object.
    entry_points: Vec<(String, String, String)>,
}

impl Package {
    /// What `[project]` says.
    pub fn of(project: &Table) -> Option<Self> {
        let name = project.get("name")?.as_str()?;
        let version = project.get("version").and_then(Value::as_str).unwrap_or("0");
        let plain = |text: &str| {
            !text.is_empty() && !text.contains(|one: char| one.is_control() || one.is_whitespace() || one == '/')
        };
        if !plain(name) || !plain(version) {
            return None;
        }
        let mut entry_points = Vec::new();
        let mut take = |group: &str, table: Option<&Value>| {
            let named = table.and_then(Value::as_table).into_iter().flatten();
            let named = named.filter_map(|(name, object)| Some((name, object.as_str()?)));
            // A name or an object that would end its line belongs to no file.
            let is_line = |text: &str| !text.contains(char::is_control);
            let whole = named
                .filter(|(name, object)| is_line(name) && is_line(object) && is_line(group) && !group.contains(']'));
            entry_points.extend(whole.map(|(name, object)| (group.to_owned(), name.clone(), object.to_owned())));
        };
        for (key, group) in SCRIPTS {
            take(group, project.get(key));
        }
        let groups = project.get("entry-points").and_then(Value::as_table).into_iter().flatten();
        for (group, table) in groups {
            take(group, Some(table));
        }
        Some(Self { name: name.to_owned(), version: version.to_owned(), entry_points })
    }

    /// The folder's name of what is known of it, and its files.
    pub fn metadata(&self) -> (String, Vec<(&'static str, String)>) {
        let Self { name, version, .. } = self;
        let folder = format!("{}-{version}.dist-info", name.replace(['-', '.'], "_"));
        let mut files = vec![("METADATA", format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"))];
        let mut text = String::new();
        let mut last = "";
        for (group, name, object) in &self.entry_points {
            if group != last {
                let _ = writeln!(text, "{}[{group}]", if text.is_empty() { "" } else { "\n" });
            }
            let _ = writeln!(text, "{name} = {object}");
            last = group;
        }
        if !text.is_empty() {
            files.push(("entry_points.txt", text));
        }
        (folder, files)
    }

    /// The programs that an installation makes of its entry points: name and text.
    pub fn scripts(&self) -> impl Iterator<Item = (&str, String)> {
        let scripts = self.entry_points.iter().filter(|(group, ..)| SCRIPTS.iter().any(|(_, one)| one == group));
        scripts.filter_map(|(_, name, object)| Some((file_name(name)?, script(object)?)))
    }
}

fn file_name(name: &str) -> Option<&str> {
    let is_one =
        !name.is_empty() && !name.starts_with('.') && !name.contains(|one: char| one == '/' || one.is_control());
    is_one.then_some(name)
}

/// Calls `module:object.attribute`; what stands behind in brackets are extras.
fn script(object: &str) -> Option<String> {
    let object = object.split('[').next().unwrap_or_default();
    let (module, attribute) = object.split_once(':')?;
    let (module, attribute) = (module.trim(), attribute.trim());
    let is_name = |name: &str| {
        !name.is_empty()
            && name.chars().all(|one| one == '_' || one.is_alphanumeric())
            && !name.starts_with(char::is_numeric)
    };
    if !module.split('.').chain(attribute.split('.')).all(is_name) {
        return None;
    }
    let first = attribute.split('.').next()?;
    Some(format!("#!{PYTHON}\nimport sys\n\nfrom {module} import {first}\n\nsys.exit({attribute}())\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Package> {
        Package::of(&toml::from_str(text).unwrap())
    }

    #[test]
    fn entry_points_are_those_of_an_installation() {
        let package = of(
            "name='My-App'\nversion='1.2'\n[scripts]\nrun='my_app.cli:app.main'\nbad='no-module:x'\n'../up'='a:b'\n\
             [entry-points.'my.plugins']\none='my_app.plugins:One [extra]'\n",
        )
        .unwrap();
        let (folder, files) = package.metadata();
        assert_eq!(folder, "My_App-1.2.dist-info");
        assert_eq!(files[1], ("entry_points.txt", "[console_scripts]\n../up = a:b\nbad = no-module:x\nrun = my_app.cli:app.main\n\n[my.plugins]\none = my_app.plugins:One [extra]\n".to_owned()));
        let scripts: Vec<(&str, String)> = package.scripts().collect();
        assert_eq!(
            scripts,
            [(
                "run",
                "#!/opt/venv/bin/python\nimport sys\n\nfrom my_app.cli import app\n\nsys.exit(app.main())\n".to_owned()
            )]
        );
        assert_eq!(of("name='x'\n[scripts]\n\"a\\nb\"='m:f'\n").unwrap().metadata().1.len(), 1);
        assert_eq!((of("version='1'"), of("name='a b'")), (None, None));
    }
}
