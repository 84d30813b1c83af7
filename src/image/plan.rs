//! What an image is made of: from a project to a Dockerfile and the files that it copies.
//!
//! Written for every builder, the classic one included: no heredocs, no mounts, no `--chmod`. The
//! order is that of change: what is the same for all agents, then the dependencies, then the code.
//! All but the code is a stage of its own, whose image is kept: `append` lays the code on it.

use crate::base::secret::{ExposeSecret as _, SecretString, hex, sha256_digest};
use crate::image::archive::{self, ArchiveError, Content, Entry, Seen};
use crate::image::context::{self, Context, ContextFile, DEPS, Kind, OWN, Project};
use crate::image::described::BESIDE;
use crate::image::layout::UID;
use crate::image::lock;
use crate::image::requirement_set::{BUILD_DIR, Requirements, RequirementsError};
use crate::image::requirements::{self, Backend};
use crate::image::steps;
use crate::image::steps_left::LABEL_STEP;
use crate::manifest::ignore::normalize;
use crate::manifest::requires;
use crate::manifest::{EnvSource, Graph, GraphTarget};
use crate::manifest::{lower_bound, turns};
use crate::runner::embed;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod instructions;
pub mod recipe;

/// Where the Dockerfile lies in the archive.
pub const DOCKERFILE: &str = ".rapidclaw/Dockerfile";

/// The stage that has everything but the code.
pub const READY: &str = "rapidclaw-ready";

/// What begins with what a project asks for: the steps before it are the same for many.
pub const COPY_DEPS: &str = "COPY .rapidclaw/deps";

/// Where the archive holds what changes with the code, and where that lies in the image.
const CODE: [(&str, &str); 2] = [(".rapidclaw/meta/", "opt/rapidclaw/"), (".rapidclaw/app/", "deps/")];

/// A plan for one image.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What is built from.
    pub base_image: String,
    /// The Dockerfile.
    pub dockerfile: String,
    /// Its instructions with what they do, in order.
    pub layers: Vec<Layer>,
    /// All files of the build.
    pub entries: Vec<Entry>,
    /// `/opt/rapidclaw/project.json`.
    pub project_json: Value,
    /// What should be known.
    pub notes: Vec<String>,
    /// The pip.conf of the manifest: a step gets it, no layer does.
    pip_config: Option<SecretString>,
    agent: String,
    manifest: Value,
    /// What the packages ask of Python, beside their roots' names.
    pythons: Vec<(String, String)>,
    /// How many of the layers come before the code.
    ready: usize,
    /// Whether build backends describe packages without their code.
    pub is_described: bool,
    /// What the files held when the digests were made.
    pub seen: Arc<Seen>,
}

/// The digests of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests {
    /// Of everything that the image depends on: `sha256:…`.
    pub inputs: String,
    /// Of everything but the code.
    pub deps: String,
}

/// One instruction of the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// What it does, for people; empty where it is not worth a word.
    pub title: Cow<'static, str>,
    /// The instruction.
    pub instruction: String,
    /// Whether it installs the project's dependencies.
    pub dependencies: bool,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// JavaScript graphs come later.
    #[error("graph {0} is JavaScript, which is not deployed yet")]
    JavaScript(String),
    /// A graph's file lies in no dependency.
    #[error("the file of graph {0} is in no folder of `dependencies`")]
    GraphOutside(String),
    /// A package does not run on the base image's Python.
    #[error("{root} wants Python {asked} (requires-python of its pyproject.toml), and the base image has {python}")]
    Python {
        /// Which folder.
        root: String,
        /// What it asks for.
        asked: String,
        /// What the base image has.
        python: String,
    },
    /// The files could not be collected.
    #[error("the project's files")]
    Context(#[from] context::ContextError),
    /// The dependencies could not be found out.
    #[error("the project's dependencies")]
    Requirements(#[from] RequirementsError),
    /// The pip.conf cannot be read.
    #[error("{} cannot be read", path.display())]
    PipConfig {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the project cannot be read.
    #[error("the project's files")]
    Archive(#[from] ArchiveError),
}

impl Plan {
    /// Reads the project and plans its image on `base_image`. Blocks.
    pub fn of(project: &Project, base_image: &str) -> Result<Self, PlanError> {
        Self::with(project, base_image, Backend::Description)
    }

    /// The plan where build backends get the packages' whole code; none where no package has one that is asked.
    pub fn with_code(project: &Project, base_image: &str) -> Result<Self, PlanError> {
        Self::with(project, base_image, Backend::Code)
    }

    fn with(project: &Project, base_image: &str, backend: Backend) -> Result<Self, PlanError> {
        if let Some(graph) = project.manifest.graphs.iter().find(|graph| graph.is_javascript()) {
            return Err(PlanError::JavaScript(graph.id.clone()));
        }
        let context = context::collect(project)?;
        let mut parts = Vec::new();
        for index in 0..context.roots.len() {
            let locked = lock::of_lock(&context, index, &project.manifest, &project.folder)?;
            parts.push(match locked {
                Some(locked) => locked,
                None => requirements::of_root(&context, index, backend)?,
            });
        }
        let pip_config = match &project.manifest.pip_config_file {
            Some(name) => {
                let path = project.folder.join(name);
                Some(std::fs::read_to_string(&path).map_err(|source| PlanError::PipConfig { path, source })?)
            }
            None => None,
        };
        let found = Found { project, context: &context, parts: &parts, pip_config };
        let mut plan = found.plan(base_image)?;
        project.unsteady.hold(&mut plan.entries);
        Ok(plan)
    }

    /// Whether all packages run on this Python, as far as that can be told.
    pub fn check_python(&self, python: &str) -> Result<(), PlanError> {
        let Some(minor) = requires::minor(python) else { return Ok(()) };
        let refused = self.pythons.iter().find(|(_, asked)| requires::admits(asked, minor) == Some(false));
        refused.map_or(Ok(()), |(root, asked)| {
            Err(PlanError::Python { root: root.clone(), asked: asked.clone(), python: python.to_owned() })
        })
    }

    /// The digests of what the image depends on. Blocks: it reads all files, and remembers what they held.
    pub fn digests(&mut self, base_image_id: &str, platform: &str) -> Result<Digests, PlanError> {
        let version = env!("CARGO_PKG_VERSION");
        let mut seen = Seen::clone(&self.seen);
        let mut sum = Sha256::new();
        let pip_config = self.pip_config.as_ref().map(|text| sha256_digest(text.expose_secret().as_bytes()));
        let head = json!([version, platform, base_image_id, self.agent, self.manifest, pip_config]);
        sum.update(head.to_string());
        archive::digest(&self.entries, &mut sum, &mut seen)?;
        let inputs = format!("sha256:{}", hex(&sum.finalize()));
        let instructions: Vec<&str> =
            self.layers[..self.ready].iter().map(|layer| layer.instruction.as_str()).collect();
        let mut sum = Sha256::new();
        sum.update(json!([version, platform, base_image_id, instructions]).to_string());
        archive::digest(self.deps_entries().filter(|entry| entry.path != DOCKERFILE), &mut sum, &mut seen)?;
        self.seen = Arc::new(seen);
        Ok(Digests { inputs, deps: format!("sha256:{}", hex(&sum.finalize())) })
    }

    /// The files that the stages before the code are built from.
    pub fn deps_entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !CODE.iter().any(|(from, _)| entry.path.starts_with(from)))
    }

    /// The code as a layer holds it; none where only a builder can lay it in.
    pub fn code_entries(&self) -> Option<Vec<Entry>> {
        let moved = |entry: &Entry| {
            let mut places = CODE.iter();
            let path = places.find_map(|(from, to)| Some(format!("{to}{}", entry.path.strip_prefix(from)?)))?;
            Some(Entry { path, ..entry.clone() })
        };
        let mut entries: Vec<Entry> = self.entries.iter().filter_map(moved).collect();
        let workdir = self.workdir().trim_start_matches('/').to_owned();
        entries.push(Entry { path: workdir, content: Content::Folder, executable: false });
        archive::sort(&mut entries);
        // In a layer such a name takes away what another one brought (OCI image-spec, "Whiteouts").
        let is_whiteout = |entry: &Entry| entry.path.split('/').any(|part| part.starts_with(".wh."));
        (!entries.iter().any(is_whiteout)).then_some(entries)
    }

    /// The Dockerfile of the whole, as the engine gets it.
    pub fn whole_dockerfile(&self) -> Entry {
        Entry::text(DOCKERFILE, dockerfile(&self.layers))
    }

    /// The Dockerfile of everything but the code: nothing that comes later can change what it makes.
    pub fn deps_dockerfile(&self) -> Entry {
        Entry::text(DOCKERFILE, dockerfile(&self.layers[..self.ready]))
    }

    /// The files of the build, with this Dockerfile.
    pub fn entries_for<'a>(&'a self, dockerfile: &'a Entry) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(|entry| entry.path != DOCKERFILE).chain([dockerfile])
    }

    /// The files of the stages before the code, with this Dockerfile.
    pub fn deps_entries_for<'a>(&'a self, dockerfile: &'a Entry) -> impl Iterator<Item = &'a Entry> {
        self.deps_entries().filter(|entry| entry.path != DOCKERFILE).chain([dockerfile])
    }

    /// The arguments of the build that its steps find their secrets in.
    pub fn build_arguments(&self) -> HashMap<String, String> {
        self.pip_config.as_ref().map(|text| steps::secret_arguments(text.expose_secret())).unwrap_or_default()
    }

    /// The manifest's pip.conf.
    pub fn pip_config(&self) -> Option<&SecretString> {
        self.pip_config.as_ref()
    }

    /// The image's working directory.
    pub fn workdir(&self) -> &str {
        self.project_json["workdir"].as_str().unwrap_or(DEPS)
    }

    /// The layer that an instruction of the engine's output belongs to.
    pub fn layer(&self, instruction: &str) -> Option<&Layer> {
        let instruction = instruction.trim();
        self.layers.iter().find(|layer| layer.instruction == instruction)
    }
}

/// What was found on disk: from here on nothing is read.
struct Found<'a> {
    project: &'a Project,
    context: &'a Context,
    parts: &'a [Requirements],
    pip_config: Option<String>,
}

impl Found<'_> {
    fn plan(self, base_image: &str) -> Result<Plan, PlanError> {
        let manifest = &self.project.manifest;
        let project_json = self.project_json()?;
        let pythons = self.pythons();
        let Layers { list: layers, ready } = self.layers(base_image, project_json["workdir"].as_str().unwrap_or(DEPS));
        let dockerfile = dockerfile(&layers);
        let mut entries = self.entries(&project_json);
        entries.push(Entry::text(DOCKERFILE, dockerfile.clone()));
        archive::sort(&mut entries);
        let mut notes: Vec<String> = self.parts.iter().flat_map(|part| part.notes.clone()).collect();
        notes.extend(self.context.notes.clone());
        let is_uvs = self.parts.iter().any(|part| part.lock.is_some() || part.project.is_some());
        if manifest.installs_with_pip && is_uvs {
            notes.push(
                "`pip_installer` is \"pip\", and uv installs: a uv.lock or `[tool.uv]` is what only uv reads".into(),
            );
        }
        if !self.context.beside.is_empty() {
            notes.push(
                "`dockerfile_lines` copy files of the project: each change of it installs the dependencies again"
                    .into(),
            );
        }
        Ok(Plan {
            base_image: base_image.to_owned(),
            dockerfile,
            layers,
            entries,
            project_json,
            notes,
            pip_config: self.pip_config.map(SecretString::from),
            agent: manifest.name.clone(),
            manifest: manifest.raw.clone(),
            pythons,
            ready,
            is_described: self.parts.iter().any(|part| part.described.is_some()),
            seen: Arc::default(),
        })
    }

    fn pythons(&self) -> Vec<(String, String)> {
        let roots = self.context.roots.iter().zip(self.parts);
        roots.filter_map(|(root, part)| Some((root.name.clone(), part.python.clone()?))).collect()
    }

    /// What the project asks for in lines of a requirements file.
    fn asked(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.parts.iter().flat_map(|part| part.lines.clone()).collect();
        let named = self.project.manifest.dependencies.iter().filter(|name| !name.starts_with('.'));
        lines.extend(named.cloned());
        lines.extend(self.project.manifest.keep_pkg_tools.iter().cloned());
        lines
    }

    /// The requirements file of everything: one resolution for all.
    fn requirements_in(&self) -> String {
        let mut lines = self.asked();
        // A project without LangGraph among its dependencies gets the newest, as LangGraph's own base images bring it.
        // One whose targets are plain turns has no use for it.
        let Project { manifest, folder, .. } = self.project;
        if !manifest.graphs.iter().all(|graph| turns::is_turn(manifest, folder, graph)) {
            lines.push(lower_bound::requirement());
        }
        lines.join("\n") + "\n"
    }

    /// What locks override, which holds for all that is installed beside what they lock.
    fn overrides(&self) -> Option<String> {
        let overrides = self.parts.iter().filter_map(|part| part.lock.as_ref()).flat_map(|lock| lock.overrides.clone());
        let lines: Vec<String> = overrides.collect();
        (!lines.is_empty()).then(|| lines.join("\n") + "\n")
    }

    fn layers(&self, base_image: &str, workdir: &str) -> Layers {
        let mut layers = Layers::default();
        layers.add("base image", format!("FROM {base_image} AS rapidclaw-base"));
        layers.add("", format!("LABEL {LABEL_STEP}=1"));
        for line in &self.project.manifest.dockerfile_lines {
            layers.add("dockerfile_lines", line.clone());
        }

        layers.add("", "FROM rapidclaw-base AS rapidclaw-deps".into());
        layers.add("", "USER root".into());
        layers.add("", format!("ENV {}", steps::QUIET));
        layers.add("installing uv and what the runner needs", steps::install_tools());
        let named = &self.project.manifest.dependencies;
        if self.parts.iter().any(|part| part.git) || named.iter().any(|name| name.contains("git+")) {
            layers.add("installing git for the dependencies", steps::install_git());
        }
        layers.add("", format!("{COPY_DEPS} {BUILD_DIR}"));
        let installation = steps::Installation {
            locks: self.parts.iter().filter_map(|part| part.lock.as_ref()).collect(),
            projects: self.parts.iter().filter_map(|part| part.project.as_deref()).collect(),
            constraints: self.parts.iter().filter_map(|part| part.constraints.as_deref()).collect(),
            pip: self.project.manifest.installs_with_pip,
            has_overrides: self.overrides().is_some(),
            asks_nothing: self.asked().is_empty(),
        };
        layers.add("installing dependencies", steps::install_dependencies(&installation));
        layers.last_installs();
        let described: Vec<&str> =
            self.parts.iter().filter_map(|part| part.described.as_ref()).map(|one| one.target.as_str()).collect();
        if !described.is_empty() {
            layers.add("", format!("COPY {OWN}/{BESIDE} /"));
            layers.add("describing the packages", steps::install_described(&described));
        }

        layers.add("", format!("FROM rapidclaw-base AS {READY}"));
        layers.add("", "USER root".into());
        layers.add("", "COPY --from=rapidclaw-deps /opt/rapidclaw/site /opt/rapidclaw/site".into());
        layers.add("the runner", format!("COPY {OWN}/runner /opt/rapidclaw/runner"));
        layers.add("compiling", steps::prepare());
        layers.add("the environment", "COPY --from=rapidclaw-deps /opt/venv /opt/venv".into());
        layers.add(
            "",
            "ENV PATH=/opt/venv/bin:/opt/rapidclaw/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1"
                .into(),
        );
        layers.add("", format!("USER {UID}:{UID}"));
        layers.add("", "ENTRYPOINT []".into());
        let supervisor = format!("/opt/rapidclaw/runner/{}/supervisor.py", embed::PACKAGE_NAME);
        layers.add("", format!("CMD {}", json!(["/opt/venv/bin/python", "-I", "-S", supervisor])));
        layers.ready = layers.list.len();

        layers.add("", format!("FROM {READY}"));
        layers.add("", format!("COPY {OWN}/meta /opt/rapidclaw"));
        if !self.context.files.is_empty() {
            layers.add("the code", format!("COPY {OWN}/app {DEPS}"));
        }
        layers.add("", format!("WORKDIR {}", dockerfile_quoted(workdir)));
        layers
    }

    fn entries(&self, project_json: &Value) -> Vec<Entry> {
        let mut entries = vec![Entry::text(format!("{OWN}/deps/requirements.in"), self.requirements_in())];
        entries.push(Entry::text(format!("{OWN}/deps/{}", steps::INSTALLED), steps::INSTALLED_TEXT));
        entries.extend(self.overrides().map(|text| Entry::text(format!("{OWN}/deps/{}", steps::OVERRIDES), text)));
        entries.extend(self.parts.iter().flat_map(|part| part.files.clone()));
        let package = embed::PACKAGE_NAME;
        entries.extend(
            embed::files()
                .into_iter()
                .map(|(path, bytes)| Entry::text(format!("{OWN}/runner/{package}/{path}"), bytes)),
        );
        let text = serde_json::to_string_pretty(project_json).unwrap_or_default() + "\n";
        entries.push(Entry::text(format!("{OWN}/meta/project.json"), text));
        for package in self.parts.iter().flat_map(|part| &part.packages) {
            let (folder, files) = package.metadata();
            let known =
                files.into_iter().map(|(name, text)| Entry::text(format!("{OWN}/meta/meta/{folder}/{name}"), text));
            entries.extend(known);
            let scripts = package
                .scripts()
                .map(|(name, text)| Entry { executable: true, ..Entry::text(format!("{OWN}/meta/bin/{name}"), text) });
            entries.extend(scripts);
        }
        // Programs that the project starts find its modules as they find what is installed.
        let paths: Vec<&str> =
            project_json["paths"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        entries.push(Entry::text(format!("{OWN}/meta/meta/project.pth"), paths.join("\n") + "\n"));
        // Beside their descriptions: a folder of `sys.path` that holds nothing else.
        for (root, part) in self.context.roots.iter().zip(self.parts) {
            entries.extend(part.renamed.iter().map(|(name, folder)| Entry {
                path: format!("{OWN}/meta/meta/{name}"),
                content: Content::Link(format!("{}/{folder}", root.target)),
                executable: false,
            }));
        }
        for file in &self.context.files {
            let target = self.context.roots[file.root].target.trim_start_matches(DEPS).trim_start_matches('/');
            entries.push(self.entry(file, format!("{OWN}/app/{target}/{}", file.path)));
        }
        let beside = self.context.beside.iter().filter(|file| !Path::new(&file.path).starts_with(OWN));
        entries.extend(beside.map(|file| self.entry(file, file.path.clone())));
        entries
    }

    fn entry(&self, file: &ContextFile, path: String) -> Entry {
        let inline_env = matches!(self.project.manifest.env, EnvSource::Inline(_));
        let content = match &file.kind {
            // The values of an inline env are secrets: the manifest goes in without them.
            Kind::File if inline_env && Some(&file.source) == self.project.manifest_file.as_ref() => {
                Content::Bytes(serde_json::to_vec_pretty(&self.project.manifest.raw).unwrap_or_default())
            }
            _ => file.content(),
        };
        Entry { path, content, executable: file.executable }
    }

    /// What the runner is told (PROTOCOL.md, "Inside a replica").
    fn project_json(&self) -> Result<Value, PlanError> {
        let mut graphs = serde_json::Map::new();
        for graph in &self.project.manifest.graphs {
            graphs.insert(graph.id.clone(), Value::String(self.place(graph)?));
        }
        let mut paths = Vec::new();
        for (root, part) in self.context.roots.iter().zip(self.parts) {
            let target = &root.target;
            let mut found = Vec::new();
            if root.flat {
                found.extend(target.rsplit_once('/').map(|(parent, _)| parent.to_owned()));
            }
            found.extend(part.search.iter().map(|inner| format!("{target}/{inner}").trim_end_matches('/').to_owned()));
            found.retain(|path| !paths.contains(path));
            paths.extend(found);
        }
        if self.parts.iter().any(|part| !part.packages.is_empty() || !part.renamed.is_empty()) {
            paths.push("/opt/rapidclaw/meta".into());
        }
        let workdir = self.in_image(&self.project.folder);
        let workdir = workdir.or_else(|| self.context.roots.first().map(|root| root.target.clone()));
        Ok(json!({"graphs": graphs, "paths": paths, "workdir": workdir.unwrap_or_else(|| DEPS.into())}))
    }

    fn place(&self, graph: &Graph) -> Result<String, PlanError> {
        match &graph.target {
            GraphTarget::Module { module, attribute } => Ok(format!("{module}:{attribute}")),
            GraphTarget::File { path, attribute } => {
                let place = self.in_image(&normalize(&self.project.folder.join(path)));
                let place = place.ok_or_else(|| PlanError::GraphOutside(graph.id.clone()))?;
                Ok(format!("{place}:{attribute}"))
            }
        }
    }

    /// Where a path of this machine lies in the image.
    fn in_image(&self, path: &Path) -> Option<String> {
        self.context.roots.iter().filter(|root| root.copied).find_map(|root| {
            let inner = path.strip_prefix(&root.path).ok()?.to_str()?;
            Some(format!("{}/{inner}", root.target).trim_end_matches('/').to_owned())
        })
    }
}

/// Instructions as a Dockerfile.
fn dockerfile(layers: &[Layer]) -> String {
    layers.iter().fold(String::new(), |mut text, layer| {
        let _ = writeln!(text, "{}", layer.instruction);
        text
    })
}

#[derive(Default)]
struct Layers {
    list: Vec<Layer>,
    ready: usize,
}

impl Layers {
    fn add(&mut self, title: &'static str, instruction: String) {
        self.list.push(Layer { title: Cow::Borrowed(title), instruction, dependencies: false });
    }

    fn last_installs(&mut self) {
        if let Some(layer) = self.list.last_mut() {
            layer.dependencies = true;
        }
    }
}

/// A path as one word of a Dockerfile.
fn dockerfile_quoted(path: &str) -> String {
    path.replace('\\', "\\\\").replace('$', "\\$")
}

#[cfg(test)]
mod tests;
