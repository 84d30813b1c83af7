//! The runner's Python package, carried inside the binary and laid into images by the build.

use include_dir::{Dir, include_dir};

static PACKAGE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/src/runner/python/rapidclaw_runner");

/// The package's name, and the folder that [`files`] are relative to.
pub const PACKAGE_NAME: &str = "rapidclaw_runner";

/// What the package needs beside LangGraph and the standard library, as requirements. It goes into a
/// folder of its own, from which it alone imports (`own/__init__.py`): the project's pins are untouched.
pub const REQUIREMENTS: [&str; 3] = ["websockets>=13", "ormsgpack>=1.5,<2", "orjson>=3.10,<4"];

/// The package's files, relative to [`PACKAGE_NAME`], sorted; without bytecode and what is hidden.
pub fn files() -> Vec<(&'static str, &'static [u8])> {
    let mut files = Vec::new();
    collect(&PACKAGE, &mut files);
    files.sort_unstable();
    files
}

fn collect(folder: &'static Dir<'static>, files: &mut Vec<(&'static str, &'static [u8])>) {
    for file in folder.files() {
        if let Some(path) = file.path().to_str().filter(|path| is_wanted(path)) {
            files.push((path, file.contents()));
        }
    }
    folder.dirs().for_each(|folder| collect(folder, files));
}

fn is_wanted(path: &str) -> bool {
    let hidden = path.split('/').any(|part| part.starts_with('.') || part == "__pycache__");
    !hidden && std::path::Path::new(path).extension().is_none_or(|extension| extension != "pyc")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_is_carried() {
        let files = files();
        assert!(files.iter().any(|(path, _)| *path == "__init__.py"), "{:?}", files.iter().map(|file| file.0));
        assert!(files.is_sorted());
        assert!(!is_wanted("a/__pycache__/x.py") && !is_wanted("x.pyc") && !is_wanted(".ruff_cache/x"));
    }
}
