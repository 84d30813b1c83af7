//! LangGraph's own keys, by the rules of langgraph-cli 0.4.40 (MIT, `config.py`: `validate_config`,
//! `_update_graph_paths`): what it refuses, this refuses; where it ends in a traceback, this says
//! what is wrong; what it lets through and then cannot build, this refuses here.

use crate::base::secret::SecretString;
use crate::manifest::diagnostic::{Diagnostic, Severity, Source, Span};
use crate::manifest::json::{Kind, Member, Node};
use crate::manifest::model::is_javascript;
use crate::manifest::reader::{Faults, mistyped, wrong_type};
use crate::manifest::section::{self, Section};
use crate::manifest::syntax::{has_credentials, parse_target};
use crate::manifest::{DEFAULT_PYTHON, EnvSource, Graph, Manifest, Places, UvSource, name};
use serde_json::Value;
use std::collections::BTreeMap;

/// The keys that LangGraph knows (`_KNOWN_CONFIG_KEYS`), and ours.
pub(super) const KNOWN: [&str; 26] = [
    "python_version",
    "node_version",
    "api_version",
    "base_image",
    "image_distro",
    "pip_config_file",
    "pip_installer",
    "source",
    "dependencies",
    "dockerfile_lines",
    "graphs",
    "env",
    "store",
    "auth",
    "encryption",
    "priority",
    "http",
    "webhooks",
    "checkpointer",
    "ui",
    "ui_config",
    "keep_pkg_tools",
    "_INTERNAL_docker_tag",
    "project_root",
    "package",
    "rapidclaw",
];
/// Keys of LangGraph's server that ask for what we do not carry out yet.
const LATER: [&str; 10] =
    ["api_version", "auth", "checkpointer", "encryption", "http", "priority", "store", "ui", "ui_config", "webhooks"];
const BUILD_TOOLS: [&str; 3] = ["pip", "setuptools", "wheel"];

pub(super) fn not_enforced(raw: &Value) -> Vec<String> {
    let asks = |key: &&&str| raw.get(**key).is_some_and(|value| !is_empty(value));
    let mut names: Vec<String> = LATER.iter().filter(asks).map(|key| (*key).to_owned()).collect();
    if raw.get("checkpointer").and_then(Value::as_object).is_some_and(|wants| wants.keys().all(|key| key == "serde")) {
        names.retain(|name| name != "checkpointer");
    }
    if raw.get("image_distro").and_then(Value::as_str).is_some_and(|distro| distro == "wolfi") {
        names.push("image_distro".into());
    }
    names
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

/// Reads the tree. Faults go to `faults`; with errors among them the manifest is of no use.
pub(super) fn read(
    root: &Node,
    source: &mut Source,
    folder: &str,
    faults: &mut Vec<Diagnostic>,
) -> Option<(Manifest, Places)> {
    hide_secrets(root, source);
    let mut reader =
        Reader { root, faults: Faults { source, list: std::mem::take(faults) }, places: Places::default() };
    let manifest = reader.manifest(folder);
    let broken = reader.faults.has_errors();
    let (list, places) = (reader.faults.list, reader.places);
    *faults = list;
    manifest.filter(|_| !broken).map(|manifest| (manifest, places))
}

/// Values of `env` and credentials in dependencies are never shown.
fn hide_secrets(root: &Node, source: &mut Source) {
    for member in root.get("env").and_then(Node::as_object).unwrap_or_default() {
        source.hide(member.value.span.clone());
    }
    if let Some(Kind::Array(items)) = root.get("dependencies").map(|node| &node.kind) {
        for item in items.iter().filter(|item| item.as_str().is_some_and(has_credentials)) {
            source.hide(item.span.clone());
        }
    }
}

pub(super) struct Reader<'a> {
    root: &'a Node,
    pub(super) faults: Faults<'a>,
    pub(super) places: Places,
}

impl Reader<'_> {
    /// The value of a top-level key that Python would take for true.
    pub(super) fn truthy(&self, key: &str) -> Option<&Node> {
        self.root.get(key).filter(|node| !node.is_falsy())
    }

    fn manifest(&mut self, folder: &str) -> Option<Manifest> {
        let root = self.root;
        let Some(members) = root.as_object() else {
            return wrong_type(&mut self.faults, "the manifest", root, "an object");
        };
        let strangers: Vec<Member> = members.iter().filter(|member| member.name != "$schema").cloned().collect();
        self.faults.unknown(Severity::Warning, "", &strangers, &KNOWN, &section::KEYS);

        let graphs = self.graphs();
        let some_python = graphs.iter().any(|graph| !graph.is_javascript()) || graphs.is_empty();
        let uv = self.uv_source(some_python);
        let dependencies =
            self.dependencies(uv.is_some() || root.get("source").is_some_and(|node| !node.is_null()), some_python);
        let python_version = self.python_version();
        self.check_legacy();
        self.check_api_version();
        let node_version = self.node_version();
        self.check_import_paths();
        let env = self.env();
        let section_node = root.get("rapidclaw").filter(|node| !node.is_null());
        let section = match section_node {
            Some(node) if node.as_object().is_some() => Section::read(&mut self.faults, node),
            Some(node) => wrong_type(&mut self.faults, "rapidclaw", node, "an object").unwrap_or_default(),
            None => Section::default(),
        };
        let manifest = Manifest {
            name: resolve_name(section.name.as_deref(), &graphs, folder),
            dependencies,
            env,
            python_version: python_version.unwrap_or_else(|| DEFAULT_PYTHON.to_owned()),
            base_image: self.text("base_image"),
            installs_with_pip: self.root.get("pip_installer").and_then(Node::as_str) == Some("pip"),
            image_distro: self.image_distro(),
            dockerfile_lines: self.lines("dockerfile_lines"),
            pip_config_file: self.text("pip_config_file"),
            keep_pkg_tools: self.keep_pkg_tools(),
            source: uv,
            node_version,
            has_section: section_node.is_some(),
            section,
            raw: without_env_values(root.to_value()),
            graphs,
        };
        self.check_pip_installer();
        self.places.pip_config_file = self.truthy("pip_config_file").map(|node| node.span.clone());
        Some(manifest)
    }

    fn graphs(&mut self) -> Vec<Graph> {
        let mut graphs = Vec::new();
        let example = || Some("add \"graphs\": {\"agent\": \"./agent.py:graph\"}".to_owned());
        let Some(node) = self.root.get("graphs") else {
            self.faults.error("no-graphs", &(0..1), "no graphs: `graphs` is missing", example());
            return graphs;
        };
        let Some(members) = node.as_object() else {
            mistyped(&mut self.faults, "graphs", node, "an object of graphs");
            return graphs;
        };
        if members.is_empty() {
            self.faults.error("no-graphs", &node.span, "no graphs: `graphs` is empty", example());
        }
        for member in members {
            let name = format!("graphs.{}", member.name);
            if member.name.trim().is_empty() {
                self.faults.error("graph-id", &member.name_span, "a graph has an empty name", None);
            }
            let (path, description) = match &member.value.kind {
                Kind::String(_) => (Some(&member.value), None),
                Kind::Object(inner) => {
                    self.faults.unknown(Severity::Warning, &name, inner, &["path", "description"], &[]);
                    let description = member.value.get("description").and_then(Node::as_str).map(ToOwned::to_owned);
                    let path = member.value.get("path").filter(|node| !node.is_null());
                    if path.is_none() {
                        let message = format!("`{name}` has no `path`");
                        self.faults.error("graph-path", &member.value.span, message, None);
                    }
                    (path, description)
                }
                _ => {
                    let wanted = "a string \"FILE:ATTRIBUTE\" or an object with `path`";
                    (wrong_type(&mut self.faults, &name, &member.value, wanted), None)
                }
            };
            let Some(path) = path else { continue };
            let Some(text) = path.as_str() else {
                mistyped(&mut self.faults, &format!("{name}.path"), path, "a string");
                continue;
            };
            match parse_target(text) {
                Some(target) => {
                    graphs.push(Graph { id: member.name.clone(), target, description });
                    self.places.graphs.push(path.span.clone());
                }
                None => {
                    let message =
                        format!("`{name}` must be \"FILE:ATTRIBUTE\" or \"MODULE:ATTRIBUTE\", it is \"{text}\"");
                    let file = text.trim_end_matches(':');
                    let fix = if file.is_empty() {
                        None
                    } else {
                        Some(format!("name the graph's variable, such as \"{file}:graph\""))
                    };
                    self.faults.error("graph-path", &path.span, message, fix);
                }
            }
        }
        graphs
    }

    fn dependencies(&mut self, has_source: bool, some_python: bool) -> Vec<String> {
        let node = self.root.get("dependencies");
        let mut list: Vec<(String, Span)> = Vec::new();
        match node.map(|node| (&node.kind, node)) {
            None => {}
            Some((Kind::Array(items), _)) => {
                for item in items {
                    match item.as_str() {
                        Some(text) => list.push((text.to_owned(), item.span.clone())),
                        None => mistyped(&mut self.faults, "dependencies", item, "an array of strings"),
                    }
                }
            }
            // Python iterates a string's characters, which works for "." alone.
            Some((Kind::String(text), node)) => {
                let message = "`dependencies` should be an array, it is a string";
                self.faults.warn("wrong-type", &node.span, message, Some(format!("write [\"{text}\"]")));
                list.push((text.clone(), node.span.clone()));
            }
            Some((_, node)) => mistyped(&mut self.faults, "dependencies", node, "an array of strings"),
        }
        for (text, span) in &list {
            if text.trim().is_empty() {
                self.faults.error("empty-dependency", span, "an empty dependency", None);
            } else if has_credentials(text) {
                let message = "a Git URL with credentials in it would end up in the image";
                let fix = "write the URL without them and give credentials to the build's Git credential helper";
                self.faults.error("credentials-in-url", span, message, Some(fix.into()));
            }
        }
        let python = some_python || self.truthy("python_version").is_some();
        if list.is_empty() && python && !has_source {
            let span = node.map_or(0..1, |node| node.span.clone());
            let fix = "write \"dependencies\": [\".\"] for the folder of the manifest".to_owned();
            self.faults.error("no-dependencies", &span, "no dependencies: a Python project needs them", Some(fix));
        }
        let (names, spans) = list.into_iter().unzip();
        self.places.dependencies = spans;
        names
    }

    fn uv_source(&mut self, some_python: bool) -> Option<UvSource> {
        let node = self.root.get("source").filter(|node| !node.is_null())?;
        self.places.source = Some(node.span.clone());
        let example = || Some("write {\"kind\": \"uv\", \"root\": \".\"}".to_owned());
        let Some(members) = node.as_object() else {
            return wrong_type(&mut self.faults, "source", node, "an object");
        };
        self.faults.unknown(Severity::Warning, "source", members, &["kind", "root", "package"], &[]);
        let kind = node.get("kind");
        if kind.and_then(Node::as_str) != Some("uv") {
            let span = kind.unwrap_or(node).span.clone();
            self.faults.error("invalid-source", &span, "`source.kind` must be \"uv\"", example());
            return None;
        }
        if !some_python && self.truthy("python_version").is_none() {
            self.faults.error("invalid-source", &node.span, "`source` of kind \"uv\" is for Python graphs only", None);
        }
        if let Some(dependencies) = self.truthy("dependencies") {
            let span = dependencies.span.clone();
            let message = "`dependencies` and `source` exclude each other: they come from pyproject.toml and uv.lock";
            self.faults.error("invalid-source", &span, message, Some("remove `dependencies`".into()));
        }
        let root = match node.get("root").map(|root| (root, root.as_str())) {
            None => ".".to_owned(),
            Some((_, Some(text))) if !text.trim().is_empty() => text.to_owned(),
            Some((root, _)) => {
                let fix = Some("write \".\"".to_owned());
                self.faults.error("invalid-source", &root.span, "`source.root` must be a folder's path", fix);
                return None;
            }
        };
        let package = match node
            .get("package")
            .filter(|node| !node.is_null())
            .map(|package| (package, package.as_str()))
        {
            None => None,
            Some((_, Some(text))) if !text.trim().is_empty() => Some(text.to_owned()),
            Some((package, _)) => {
                self.faults.error("invalid-source", &package.span, "`source.package` must be a package's name", None);
                return None;
            }
        };
        Some(UvSource { root, package })
    }

    fn check_pip_installer(&mut self) {
        let Some(node) = self.truthy("pip_installer").cloned() else { return };
        if !node.as_str().is_some_and(|text| ["auto", "pip", "uv"].contains(&text)) {
            let message = "`pip_installer` must be \"auto\", \"pip\" or \"uv\"";
            self.faults.error("invalid-value", &node.span, message, None);
        }
    }

    fn image_distro(&mut self) -> Option<String> {
        let node = self.truthy("image_distro")?.clone();
        match node.as_str() {
            Some(text) if ["debian", "wolfi", "bookworm"].contains(&text) => Some(text.to_owned()),
            _ => {
                let message = "`image_distro` must be \"debian\", \"wolfi\" or \"bookworm\"";
                let fix = (node.as_str() == Some("bullseye"))
                    .then(|| "images of bullseye are no longer made: write \"bookworm\"".to_owned());
                self.faults.error("invalid-value", &node.span, message, fix);
                None
            }
        }
    }

    fn check_legacy(&mut self) {
        for (key, instead) in [("project_root", "source.root"), ("package", "source.package")] {
            if let Some(node) = self.truthy(key).cloned() {
                let message = format!("`{key}` is no longer supported");
                self.faults.error("legacy-key", &node.span, message, Some(format!("use `{instead}`")));
            }
        }
    }

    /// `auth.path`, `encryption.path`, `priority.path` and `http.app` name an attribute of a file.
    fn check_import_paths(&mut self) {
        for (key, inner) in [("auth", "path"), ("encryption", "path"), ("priority", "path"), ("http", "app")] {
            let Some(outer) = self.truthy(key).cloned() else { continue };
            if !matches!(outer.kind, Kind::Object(_)) {
                if matches!(outer.kind, Kind::Number(_) | Kind::Bool(_)) {
                    mistyped(&mut self.faults, key, &outer, "an object");
                } else {
                    let message = format!("`{key}` should be an object, it is {}", outer.kind_name());
                    self.faults.warn("wrong-type", &outer.span, message, None);
                }
                continue;
            }
            let Some(node) = outer.get(inner) else { continue };
            match node.as_str() {
                None => mistyped(&mut self.faults, &format!("{key}.{inner}"), node, "a string"),
                Some(text) if !text.contains(':') => {
                    let message = format!("`{key}.{inner}` must be \"FILE:ATTRIBUTE\", it is \"{text}\"");
                    self.faults.error("import-path", &node.span, message, Some(format!("write \"{text}:NAME\"")));
                }
                Some(text) if key == "priority" && is_javascript(text.split(':').next().unwrap_or_default()) => {
                    self.faults.error(
                        "import-path",
                        &node.span,
                        "`priority.path` must be a Python file or module",
                        None,
                    );
                }
                Some(_) => {}
            }
        }
    }

    fn env(&mut self) -> EnvSource {
        let Some(node) = self.truthy("env").cloned() else { return EnvSource::None };
        self.places.env = Some(node.span.clone());
        match &node.kind {
            Kind::String(path) => EnvSource::File(path.clone()),
            Kind::Object(members) => {
                let mut values = BTreeMap::new();
                for member in members {
                    if member.name.is_empty() || member.name.contains(['=', '\0']) {
                        let message = format!("`env`: \"{}\" is not a variable's name", member.name);
                        self.faults.error("env-name", &member.name_span, message, None);
                    }
                    let text = match &member.value.kind {
                        Kind::String(text) => text.clone(),
                        Kind::Number(number) => number.to_string(),
                        Kind::Bool(value) => value.to_string(),
                        Kind::Null => continue,
                        _ => {
                            let name = format!("env.{}", member.name);
                            mistyped(&mut self.faults, &name, &member.value, "a string");
                            continue;
                        }
                    };
                    values.insert(member.name.clone(), SecretString::from(text));
                }
                EnvSource::Inline(values)
            }
            _ => {
                let message =
                    format!("`env` should be a file's path or an object, it is {}; it is left out", node.kind_name());
                self.faults.warn("wrong-type", &node.span, message, None);
                EnvSource::None
            }
        }
    }

    fn keep_pkg_tools(&mut self) -> Vec<String> {
        let Some(node) = self.truthy("keep_pkg_tools").cloned() else { return Vec::new() };
        let tools: Option<Vec<&str>> = match &node.kind {
            Kind::Bool(true) => Some(BUILD_TOOLS.to_vec()),
            Kind::Array(items) => items.iter().map(Node::as_str).collect(),
            _ => None,
        };
        match tools {
            Some(tools) if tools.iter().all(|tool| BUILD_TOOLS.contains(tool)) => {
                tools.into_iter().map(ToOwned::to_owned).collect()
            }
            _ => {
                let message = "`keep_pkg_tools` must be true or a list of \"pip\", \"setuptools\" and \"wheel\"";
                self.faults.error("invalid-value", &node.span, message, None);
                Vec::new()
            }
        }
    }

    fn text(&mut self, key: &str) -> Option<String> {
        let node = self.truthy(key)?.clone();
        match node.as_str() {
            Some(text) => Some(text.to_owned()),
            None => wrong_type(&mut self.faults, key, &node, "a string"),
        }
    }

    fn lines(&mut self, key: &str) -> Vec<String> {
        let Some(node) = self.truthy(key).cloned() else { return Vec::new() };
        match &node.kind {
            Kind::String(text) => {
                let message = format!("`{key}` should be an array of strings, it is a string");
                self.faults.warn("wrong-type", &node.span, message, Some("write it in [ ]".into()));
                vec![text.clone()]
            }
            Kind::Array(items) if items.iter().all(|item| item.as_str().is_some()) => {
                items.iter().filter_map(Node::as_str).map(ToOwned::to_owned).collect()
            }
            _ => wrong_type(&mut self.faults, key, &node, "an array of strings").unwrap_or_default(),
        }
    }
}

fn resolve_name(given: Option<&str>, graphs: &[Graph], folder: &str) -> String {
    let only = if let [graph] = graphs { name::to_name(&graph.id) } else { None };
    given.map(ToOwned::to_owned).or(only).or_else(|| name::to_name(folder)).unwrap_or_else(|| "agent".to_owned())
}

fn without_env_values(mut raw: Value) -> Value {
    if let Some(env) = raw.get_mut("env").and_then(Value::as_object_mut) {
        for value in env.values_mut() {
            *value = Value::Null;
        }
    }
    raw
}
