//! Where the files and folders are that a manifest names.

use crate::manifest::ignore::normalize;
use crate::manifest::model::{EnvSource, Manifest};
use std::path::{Path, PathBuf};

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

/// The folder whose ignore files count for a dependency: the manifest's for what lies in it.
pub fn context_root(dependency: &Path, folder: &Path) -> PathBuf {
    if dependency.starts_with(folder) { folder.to_owned() } else { dependency.to_owned() }
}
