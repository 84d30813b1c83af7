//! What of a project is read without running it: Python modules, requirements files, pyproject.toml, pip.conf.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rapidclaw::image::context::{Context, Root};
use rapidclaw::image::requirements::{Requirements, classify};
use rapidclaw::image::{pyproject, steps};
use rapidclaw::manifest::{python, requires, workspace};
use std::path::Path;

fuzz_target!(|text: &str| {
    let bound = python::bindings(text);
    assert!(bound.names.iter().all(|name| !name.is_empty() && text.contains(name.as_str())));
    if let Some(line) = bound.broken {
        assert!(line >= 1 && line <= text.matches('\n').count() + 1);
    }
    for line in text.lines() {
        let _ = classify(line);
        assert!(line.contains(pyproject::requirement_name(line)));
        let _ = workspace::normalized_name(line);
        if let Some(python) = requires::lowest(line) {
            assert_eq!(requires::admits(line, python), Some(true), "{line:?}");
        }
    }
    let _ = steps::secret_arguments(text);
    let Ok(table) = toml::from_str::<toml::Table>(text) else { return };
    let _ = pyproject::search_path(Path::new("/none"), false, Some(&table));
    let _ = pyproject::dynamic_files(&table);
    let _ = requires::python_of(&table);
    assert!(pyproject::renamed(Path::new("/none"), &table).is_empty());
    let Some(project) = workspace::project(&table) else { return };
    let _ = pyproject::package_of(project);
    let root = Root { name: "app".into(), path: "/none".into(), target: "/deps/app".into(), flat: false, copied: true };
    let context = Context { roots: vec![root], files: vec![], beside: vec![], notes: vec![] };
    let mut found = Requirements::default();
    let _ = pyproject::static_dependencies(&mut found, &context, 0, &table, project);
});
