//! A plan as it travels to a server that has it built: steps and files by their digests. What comes in is a
//! stranger's: it is judged before anything is made of it.

use super::{DOCKERFILE, Layer, Plan, PlanError, dockerfile, instructions};
use crate::api::builds::{BuildRequest, Recipe, RecipeFile, RecipeKind, RecipeStep};
use crate::base::paths::open_file;
use crate::base::secret::{ExposeSecret, hex, sha256_digest};
use crate::image::archive::{self, ArchiveError, Content, Entry, Seen};
use crate::image::context::DEPS;
use crate::image::hashing::Hashing;
use crate::manifest::Manifest;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Component, Path};
use std::sync::Arc;

/// The most steps, and bytes of their instructions together.
const STEPS: usize = 1_000;
const STEPS_BYTES: usize = 1 << 20;
/// The longest path or target of a link.
const PATH_BYTES: usize = 4_096;

/// What a recipe's files hold: where it comes from and how many bytes it has, by its SHA-256.
pub type Contents = BTreeMap<String, (Content, u64)>;

/// Why a recipe is not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecipeError {
    /// It has more of something than it may.
    #[error("it has {found} {what}, and may have {most}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        found: u64,
        /// How many it may have.
        most: u64,
    },
    /// A path leaves its place, or is none.
    #[error("{0:?} is no path of a file to build from")]
    Path(String),
    /// A link leads out.
    #[error("the link {path:?} leads out, to {target:?}")]
    Link {
        /// Where it lies.
        path: String,
        /// Where it leads.
        target: String,
    },
    /// A digest is none, or one content has two sizes.
    #[error("{0:?} is not named by a digest of its own")]
    Digest(String),
    /// An instruction that the engine would carry out itself.
    #[error("{0}")]
    Instruction(String),
    /// It is not one that a plan makes.
    #[error("{0}")]
    Shape(&'static str),
}

impl Plan {
    /// The plan for a server, and what its files hold. Blocks: it reads all files.
    pub fn recipe(&self) -> Result<(Recipe, Contents), PlanError> {
        let mut contents = Contents::new();
        let mut files = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.path != DOCKERFILE) {
            let kind = match &entry.content {
                Content::Link(target) => RecipeKind::Link(target.clone()),
                Content::Folder => RecipeKind::Folder,
                content => {
                    let (sha256, size) = digest(content)?;
                    contents.entry(sha256.clone()).or_insert_with(|| (content.clone(), size));
                    RecipeKind::File { sha256, size }
                }
            };
            files.push(RecipeFile { path: entry.path.clone(), executable: entry.executable, kind });
        }
        let step = |layer: &Layer| RecipeStep {
            title: layer.title.to_string(),
            instruction: layer.instruction.clone(),
            dependencies: layer.dependencies,
        };
        let recipe = Recipe {
            steps: self.layers.iter().map(step).collect(),
            ready: self.ready,
            files,
            workdir: self.workdir().to_owned(),
            notes: self.notes.clone(),
            pythons: self.pythons.clone(),
            described: self.is_described,
        };
        Ok((recipe, contents))
    }

    /// The plan of a recipe that was [judged](check), whose contents lie in `folder`, each under its SHA-256.
    pub fn of_recipe(request: &BuildRequest, recipe: &Recipe, manifest: &Manifest, folder: &Path) -> Self {
        let step = |step: &RecipeStep| Layer {
            title: step.title.clone().into(),
            instruction: step.instruction.clone(),
            dependencies: step.dependencies,
        };
        let mut layers: Vec<Layer> = recipe.steps.iter().map(step).collect();
        let text = dockerfile(&layers);
        let content = |kind: &RecipeKind| match kind {
            RecipeKind::File { sha256, .. } => Content::File(folder.join(sha256)),
            RecipeKind::Link(target) => Content::Link(target.clone()),
            RecipeKind::Folder => Content::Folder,
        };
        let entry = |file: &RecipeFile| Entry {
            path: file.path.clone(),
            content: content(&file.kind),
            executable: file.executable,
        };
        let mut entries: Vec<Entry> = recipe.files.iter().map(entry).collect();
        entries.push(Entry::text(DOCKERFILE, text.clone()));
        archive::sort(&mut entries);
        // Each was looked at when it came.
        let seen = recipe.files.iter().filter_map(|file| match &file.kind {
            RecipeKind::File { sha256, .. } => Some((folder.join(sha256), unhex(sha256)?)),
            RecipeKind::Link(_) | RecipeKind::Folder => None,
        });
        let seen = Arc::new(seen.collect::<Seen>());
        let mut ready = recipe.ready;
        let pip_config = request.pip_config.as_ref().map(|config| config.0.clone());
        if let Some(salt) = salt(manifest, pip_config.as_ref().map(ExposeSecret::expose_secret)) {
            let instruction = format!("LABEL rapidclaw.cache={salt}");
            layers.insert(1, Layer { title: "".into(), instruction, dependencies: false });
            ready += 1;
        }
        Self {
            base_image: request.base_image.clone(),
            dockerfile: text,
            layers,
            entries,
            project_json: json!({ "workdir": recipe.workdir }),
            notes: recipe.notes.clone(),
            pip_config,
            agent: manifest.name.clone(),
            manifest: request.manifest.clone(),
            pythons: recipe.pythons.clone(),
            ready,
            is_described: recipe.described,
            seen,
        }
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

/// What keeps the steps of an agent from those of others in the engine's cache, where what they make does not follow
/// from their words and files alone: a pip.conf, which is in neither, says where packages come from, and what steps of
/// the project's own fetch depends on the hosts that its agent may reach.
fn salt(manifest: &Manifest, pip_config: Option<&str>) -> Option<String> {
    if pip_config.is_none() && manifest.dockerfile_lines.is_empty() {
        return None;
    }
    let own = json!([manifest.name, pip_config.map(|text| sha256_digest(text.as_bytes()))]);
    Some(hex(&Sha256::digest(own.to_string()))[..32].to_owned())
}

/// The digest and the length of a content. Blocks.
fn digest(content: &Content) -> Result<(String, u64), ArchiveError> {
    let mut passing = Hashing::new(io::sink());
    let size = copy(content, &mut passing)?;
    let (_, digest, _) = passing.finish().map_err(ArchiveError::Output)?;
    Ok((digest.trim_start_matches("sha256:").to_owned(), size))
}

/// Writes what a file holds. Blocks.
pub fn copy(content: &Content, to: &mut impl Write) -> Result<u64, ArchiveError> {
    match content {
        Content::File(path) => {
            let failed = |source| ArchiveError::File { path: path.clone(), source };
            let (mut file, _) = open_file(path).map_err(failed)?;
            io::copy(&mut file, to).map_err(failed)
        }
        Content::Bytes(bytes) => {
            to.write_all(bytes).map_err(ArchiveError::Output)?;
            Ok(bytes.len() as u64)
        }
        Content::Link(_) | Content::Folder => Ok(0),
    }
}

/// How many files a request may name, and how many bytes they may hold together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Judges a request's recipes; the contents that they name, with their lengths.
pub fn check(request: &BuildRequest, bounds: Bounds) -> Result<BTreeMap<String, u64>, RecipeError> {
    let mut contents = BTreeMap::new();
    for recipe in [Some(&request.recipe), request.with_code.as_ref()].into_iter().flatten() {
        check_steps(recipe)?;
        instructions::check(recipe, &request.base_image).map_err(RecipeError::Instruction)?;
        let found = recipe.files.len() as u64;
        if found > bounds.files {
            return Err(RecipeError::TooMany { what: "files", found, most: bounds.files });
        }
        let mut paths = BTreeSet::new();
        for file in &recipe.files {
            if !is_plain(&file.path) || file.path == DOCKERFILE || !paths.insert(&file.path) {
                return Err(RecipeError::Path(file.path.clone()));
            }
            match &file.kind {
                RecipeKind::File { sha256, size } => {
                    if !is_digest(sha256) || *contents.entry(sha256.clone()).or_insert(*size) != *size {
                        return Err(RecipeError::Digest(file.path.clone()));
                    }
                }
                RecipeKind::Link(target) if !stays_within(&file.path, target) => {
                    return Err(RecipeError::Link { path: file.path.clone(), target: target.clone() });
                }
                RecipeKind::Link(_) | RecipeKind::Folder => {}
            }
        }
    }
    let found = contents.values().fold(0_u64, |sum, size| sum.saturating_add(*size));
    if found > bounds.bytes {
        return Err(RecipeError::TooMany { what: "bytes", found, most: bounds.bytes });
    }
    Ok(contents)
}

fn check_steps(recipe: &Recipe) -> Result<(), RecipeError> {
    let (steps, bytes) = (recipe.steps.len(), recipe.steps.iter().map(|step| step.instruction.len()).sum::<usize>());
    if steps > STEPS {
        return Err(RecipeError::TooMany { what: "steps", found: steps as u64, most: STEPS as u64 });
    }
    if bytes > STEPS_BYTES {
        return Err(RecipeError::TooMany { what: "bytes of steps", found: bytes as u64, most: STEPS_BYTES as u64 });
    }
    if recipe.ready == 0 || recipe.ready > steps {
        return Err(RecipeError::Shape("it does not say where the code begins"));
    }
    match recipe.workdir.strip_prefix('/') {
        Some(inner) if is_plain(inner) => Ok(()),
        _ => Err(RecipeError::Path(recipe.workdir.clone())),
    }
}

/// 64 lowercase hexadecimal digits: no more than a name.
pub fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// A path below its root, spelled in the one way.
fn is_plain(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= PATH_BYTES
        && !path.contains('\0')
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

/// Whether a link leads to where files of the build are, or where they will be.
fn stays_within(path: &str, target: &str) -> bool {
    if target.is_empty() || target.len() > PATH_BYTES || target.contains('\0') {
        return false;
    }
    if let Some(inner) = target.strip_prefix(DEPS) {
        return inner.is_empty() || inner.strip_prefix('/').is_some_and(is_plain);
    }
    let mut depth = path.matches('/').count();
    for part in Path::new(target).components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests;
