//! What an image is made of: from a project to a Dockerfile and the files that it copies.
//!
//! Written for every builder, the classic one included: no heredocs, no mounts, no `--chmod`. The
//! order is that of change: what is the same for all agents, then the dependencies, then the code.
//! All but the code is a stage of its own, whose image is kept: `append` lays the code on it.

use crate::base::secret::hex;
use crate::image::archive::{self, ArchiveError, Content, Entry};
use crate::image::context::{self, Context, ContextFile, DEPS, OWN, Project};
use crate::image::requirements::{self, BUILD_DIR, Requirements, RequirementsError};
use crate::manifest::ignore::normalize;
use crate::manifest::{EnvSource, Graph, GraphTarget};
use crate::runner::embed;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

/// The oldest LangGraph that the runner serves. A project without LangGraph among its dependencies
/// gets the newest (LangGraph's own base images bring it too).
pub const LOWEST_LANGGRAPH: &str = "0.6";

/// Who runs in a replica.
pub const UID: u32 = 10001;

/// Where the Dockerfile lies in the archive.
pub const DOCKERFILE: &str = ".rapidclaw/Dockerfile";

/// The stage that has everything but the code.
pub const READY: &str = "rapidclaw-ready";

/// Where the archive holds what changes with the code, and where that lies in the image.
const CODE: [(&str, &str); 2] = [(".rapidclaw/meta/", "opt/rapidclaw/"), (".rapidclaw/app/", "deps/")];

/// Before uv: where the image has a CA bundle, that is what uv trusts, as pip does.
const TRUST: &str = "set -eu; [ ! -s /etc/ssl/certs/ca-certificates.crt ] || export UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1;";

/// Bytecode that is never checked against its source: it holds whatever happens to times on the way.
const UNCHECKED: &str = "--invalidation-mode unchecked-hash";

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
    agent: String,
    manifest: Value,
    /// How many of the layers come before the code.
    ready: usize,
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
    pub title: &'static str,
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
        if let Some(graph) = project.manifest.graphs.iter().find(|graph| graph.is_javascript()) {
            return Err(PlanError::JavaScript(graph.id.clone()));
        }
        let context = context::collect(project)?;
        let uv_root = project.manifest.source.as_ref().map(|source| normalize(&project.folder.join(&source.root)));
        let mut parts = Vec::new();
        for (index, root) in context.roots.iter().enumerate() {
            let locked = uv_root.as_ref() == Some(&root.path);
            parts.push(if locked {
                requirements::of_lock(&context, index)?
            } else {
                requirements::of_root(&context, index)?
            });
        }
        let pip_config = match &project.manifest.pip_config_file {
            Some(name) => {
                let path = project.folder.join(name);
                Some(std::fs::read_to_string(&path).map_err(|source| PlanError::PipConfig { path, source })?)
            }
            None => None,
        };
        let found = Found { project, context: &context, parts: &parts, pip_config: pip_config.as_deref() };
        found.plan(base_image)
    }

    /// The digests of what the image depends on. Blocks: it reads all files.
    pub fn digests(&self, base_image_id: &str, platform: &str) -> Result<Digests, PlanError> {
        let version = env!("CARGO_PKG_VERSION");
        let mut sum = Sha256::new();
        let head = json!([version, platform, base_image_id, self.agent, self.manifest]);
        sum.update(head.to_string());
        archive::digest(&self.entries, &mut sum)?;
        let inputs = format!("sha256:{}", hex(&sum.finalize()));
        let instructions: Vec<&str> =
            self.layers[..self.ready].iter().map(|layer| layer.instruction.as_str()).collect();
        let mut sum = Sha256::new();
        sum.update(json!([version, platform, base_image_id, instructions]).to_string());
        archive::digest(self.deps_entries().filter(|entry| entry.path != DOCKERFILE), &mut sum)?;
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
    pip_config: Option<&'a str>,
}

impl Found<'_> {
    fn plan(&self, base_image: &str) -> Result<Plan, PlanError> {
        let manifest = &self.project.manifest;
        let project_json = self.project_json()?;
        let Layers { list: layers, ready } = self.layers(base_image, project_json["workdir"].as_str().unwrap_or(DEPS));
        let dockerfile = layers.iter().fold(String::new(), |mut text, layer| {
            let _ = writeln!(text, "{}", layer.instruction);
            text
        });
        let mut entries = self.entries(&project_json);
        entries.push(Entry::text(DOCKERFILE, dockerfile.clone()));
        archive::sort(&mut entries);
        let mut notes: Vec<String> = self.parts.iter().flat_map(|part| part.notes.clone()).collect();
        notes.extend(self.context.notes.clone());
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
            agent: manifest.name.clone(),
            manifest: manifest.raw.clone(),
            ready,
        })
    }

    /// The requirements file of everything: one resolution for all.
    fn requirements_in(&self) -> String {
        let mut lines = self.pip_config.map(index_options).unwrap_or_default();
        lines.extend(self.parts.iter().flat_map(|part| part.lines.clone()));
        let named = self.project.manifest.dependencies.iter().filter(|name| !name.starts_with('.'));
        lines.extend(named.cloned());
        lines.extend(self.project.manifest.keep_pkg_tools.iter().cloned());
        lines.push(format!("langgraph>={LOWEST_LANGGRAPH}"));
        if self.lock_root().is_some() {
            lines.push(format!("-r {BUILD_DIR}/locked.txt"));
        }
        lines.join("\n") + "\n"
    }

    fn lock_root(&self) -> Option<String> {
        let source = self.project.manifest.source.as_ref()?;
        let path = normalize(&self.project.folder.join(&source.root));
        self.context.roots.iter().find(|root| root.path == path).map(|root| format!("{BUILD_DIR}/{}", root.name))
    }

    fn layers(&self, base_image: &str, workdir: &str) -> Layers {
        let mut layers = Layers::default();
        layers.add("base image", format!("FROM {base_image} AS rapidclaw-base"));
        for line in &self.project.manifest.dockerfile_lines {
            layers.add("dockerfile_lines", line.clone());
        }

        layers.add("", "FROM rapidclaw-base AS rapidclaw-deps".into());
        layers.add("", "USER root".into());
        if self.pip_config.is_some() {
            layers.add("", format!("COPY {OWN}/pip /opt/pip"));
            layers.add("", "ENV PIP_CONFIG_FILE=/opt/pip/pip.conf".into());
        }
        let quiet =
            "UV_NO_CACHE=1 UV_NO_PROGRESS=1 UV_PYTHON_DOWNLOADS=never NO_COLOR=1 PYC_INVALIDATION_MODE=UNCHECKED_HASH";
        layers.add("", format!("ENV {quiet}"));
        let own = embed::REQUIREMENTS.map(|name| format!("'{name}'")).join(" ");
        layers.add(
            "installing uv and what the runner needs",
            format!(
                "RUN {TRUST} if python3 -m pip --version >/dev/null 2>&1; then python3 -m pip install --quiet --no-cache-dir \
                 --disable-pip-version-check --root-user-action=ignore --no-compile --target /opt/uv 'uv>=0.9,<1' 2>&1; \
                 elif command -v uv >/dev/null; then mkdir -p /opt/uv/bin && ln -s \"$(command -v uv)\" /opt/uv/bin/uv; \
                 else echo 'rapidclaw: the base image has neither pip nor uv'; exit 9; fi; \
                 /opt/uv/bin/uv venv --quiet --system-site-packages --python \"$(command -v python3)\" /opt/venv 2>&1; \
                 /opt/uv/bin/uv pip install --quiet --python /opt/venv/bin/python --target /opt/rapidclaw/site \
                 --compile-bytecode {own} 2>&1"
            ),
        );
        layers.add("", format!("COPY {OWN}/deps {BUILD_DIR}"));
        let export = match (self.lock_root(), &self.project.manifest.source) {
            (Some(root), Some(source)) => {
                let package = source.package.as_ref().map(|name| format!(" --package {}", shell_quoted(name)));
                format!(
                    "cd {root}; /opt/uv/bin/uv export --quiet --frozen --no-hashes --no-dev --no-emit-workspace{} \
                     --output-file {BUILD_DIR}/locked.txt >/dev/null; cd /; ",
                    package.unwrap_or_default()
                )
            }
            _ => String::new(),
        };
        layers.add(
            "installing dependencies",
            format!(
                "RUN {TRUST} {export}/opt/uv/bin/uv pip install --python /opt/venv/bin/python --compile-bytecode \
                 -r {BUILD_DIR}/requirements.in 2>&1"
            ),
        );
        layers.last_installs();

        layers.add("", format!("FROM rapidclaw-base AS {READY}"));
        layers.add("", "USER root".into());
        layers.add("", "COPY --from=rapidclaw-deps /opt/rapidclaw/site /opt/rapidclaw/site".into());
        layers.add("the runner", format!("COPY {OWN}/runner /opt/rapidclaw/runner"));
        layers.add("compiling", prepare());
        layers.add("the environment", "COPY --from=rapidclaw-deps /opt/venv /opt/venv".into());
        layers.add("", "ENV PATH=/opt/venv/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1".into());
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
        entries.extend(self.parts.iter().flat_map(|part| part.files.clone()));
        if let Some(text) = self.pip_config {
            entries.push(Entry::text(format!("{OWN}/pip/pip.conf"), text));
        }
        let package = embed::PACKAGE_NAME;
        entries.extend(
            embed::files()
                .into_iter()
                .map(|(path, bytes)| Entry::text(format!("{OWN}/runner/{package}/{path}"), bytes)),
        );
        let text = serde_json::to_string_pretty(project_json).unwrap_or_default() + "\n";
        entries.push(Entry::text(format!("{OWN}/meta/project.json"), text));
        for (name, version) in self.parts.iter().filter_map(|part| part.package.as_ref()) {
            let folder = format!("{}-{version}.dist-info", name.replace(['-', '.'], "_"));
            let text = format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n");
            entries.push(Entry::text(format!("{OWN}/meta/meta/{folder}/METADATA"), text));
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
        let content = match &file.link {
            Some(target) => Content::Link(target.clone()),
            // The values of an inline env are secrets: the manifest goes in without them.
            None if inline_env && Some(&file.source) == self.project.manifest_file.as_ref() => {
                Content::Bytes(serde_json::to_vec_pretty(&self.project.manifest.raw).unwrap_or_default())
            }
            None => Content::File(file.source.clone()),
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
        if self.parts.iter().any(|part| part.package.is_some()) {
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

#[derive(Default)]
struct Layers {
    list: Vec<Layer>,
    ready: usize,
}

impl Layers {
    fn add(&mut self, title: &'static str, instruction: String) {
        self.list.push(Layer { title, instruction, dependencies: false });
    }

    fn last_installs(&mut self) {
        if let Some(layer) = self.list.last_mut() {
            layer.dependencies = true;
        }
    }
}

/// The user, the folders that the code goes to (as plain as a layer's folders are), and bytecode of the
/// runner and (official Python images come without) of Python itself.
fn prepare() -> String {
    let stdlib = "\"$(python3 -c 'import sysconfig; print(sysconfig.get_path(\"stdlib\"))')\"";
    let cached = "\"$(python3 -c 'import os, importlib.util as u; print(u.cache_from_source(os.__file__))')\"";
    let skipped = "'/(test|tests|idlelib|ensurepip|turtledemo|site-packages|dist-packages)/'";
    format!(
        "RUN set -eu; grep -q '^[^:]*:[^:]*:{UID}:' /etc/group || echo 'agent:x:{UID}:' >>/etc/group; \
         grep -q '^[^:]*:[^:]*:{UID}:' /etc/passwd || echo 'agent:x:{UID}:{UID}::/tmp:/usr/sbin/nologin' >>/etc/passwd; \
         for folder in /opt /opt/rapidclaw {DEPS}; do \
         if [ -L $folder ]; then echo \"rapidclaw: $folder is a symbolic link in the base image; a folder is needed\"; exit 9; fi; \
         mkdir -p $folder; chown 0:0 $folder; chmod 755 $folder; done; \
         [ -e {cached} ] || python3 -m compileall -q -j 0 {UNCHECKED} -x {skipped} {stdlib} || true; \
         python3 -m compileall -q {UNCHECKED} /opt/rapidclaw/runner"
    )
}

/// The index options of a pip.conf, which uv does not read, as lines of a requirements file.
fn index_options(text: &str) -> Vec<String> {
    let mut section = String::new();
    let mut key = String::new();
    let mut lines = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[') {
            name.trim_end_matches(']').clone_into(&mut section);
            key.clear();
            continue;
        }
        // A line that is set in goes on with the value above.
        let value = match trimmed.split_once(['=', ':']) {
            Some((name, value)) if !line.starts_with([' ', '\t']) => {
                key = name.trim().replace('_', "-");
                value.trim()
            }
            _ => trimmed,
        };
        let known = ["index-url", "extra-index-url", "find-links"].contains(&key.as_str());
        if known && ["global", "install"].contains(&section.as_str()) {
            lines.extend(value.split_whitespace().map(|value| format!("--{key} {value}")));
        }
    }
    lines
}

fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A path as one word of a Dockerfile.
fn dockerfile_quoted(path: &str) -> String {
    path.replace('\\', "\\\\").replace('$', "\\$")
}

#[cfg(test)]
mod tests;
