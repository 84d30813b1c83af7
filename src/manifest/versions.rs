//! The versions that a manifest asks for: of Python, Node.js and `langgraph-api`.

use crate::manifest::DEFAULT_PYTHON;
use crate::manifest::langgraph::Reader;
use crate::manifest::reader::wrong_type;
use crate::manifest::syntax::is_api_version;

const MIN_PYTHON: (u32, u32) = (3, 11);
const MIN_NODE: u32 = 20;

impl Reader<'_> {
    pub(super) fn python_version(&mut self) -> Option<String> {
        let node = self.truthy("python_version")?.clone();
        self.places.python_version = Some(node.span.clone());
        let Some(text) = node.as_str() else {
            let fix = Some(format!("write it in quotes: \"{DEFAULT_PYTHON}\""));
            let message = format!("`python_version` must be a string, it is {}", node.kind_name());
            self.faults.error("wrong-type", &node.span, message, fix);
            return None;
        };
        let version = text.split('-').next().unwrap_or_default();
        let parts: Vec<Option<u32>> = version
            .split('.')
            .map(|part| part.parse().ok().filter(|_| part.bytes().all(|byte| byte.is_ascii_digit())))
            .collect();
        let [Some(major), Some(minor)] = parts[..] else {
            let fix = match parts[..] {
                [Some(major), Some(minor), ..] => format!("write \"{major}.{minor}\""),
                _ => format!("write \"{DEFAULT_PYTHON}\""),
            };
            let message = format!("`python_version` must be MAJOR.MINOR, it is \"{text}\"");
            self.faults.error("python-version", &node.span, message, Some(fix));
            return None;
        };
        if (major, minor) < MIN_PYTHON {
            let message = format!("Python {major}.{minor} is not supported; 3.11 is the oldest");
            self.faults.error("python-version", &node.span, message, Some(format!("write \"{DEFAULT_PYTHON}\"")));
        } else if text.contains("bullseye") {
            let fix = Some(format!("write \"{major}.{minor}\""));
            self.faults.error("python-version", &node.span, "images of bullseye are no longer made", fix);
        }
        Some(format!("{major}.{minor}"))
    }

    pub(super) fn node_version(&mut self) -> Option<String> {
        let node = self.truthy("node_version")?.clone();
        self.places.node_version = Some(node.span.clone());
        let Some(text) = node.as_str() else {
            return wrong_type(&mut self.faults, "node_version", &node, "a string such as \"20\"");
        };
        match text.trim().parse::<u32>() {
            Ok(major) if major >= MIN_NODE => return Some(major.to_string()),
            Ok(major) => {
                let message = format!("Node.js {major} is not supported; {MIN_NODE} is the oldest");
                self.faults.error("node-version", &node.span, message, Some("write \"20\"".into()));
            }
            Err(_) => {
                let message = format!("`node_version` must be a major version alone, it is \"{text}\"");
                self.faults.error("node-version", &node.span, message, Some("write \"20\"".into()));
            }
        }
        None
    }

    pub(super) fn check_api_version(&mut self) {
        let Some(node) = self.truthy("api_version").cloned() else { return };
        if !node.as_str().is_some_and(is_api_version) {
            let fix = Some("pin a minor version, such as \"0.8\"".to_owned());
            self.faults.error("api-version", &node.span, "`api_version` is not a version of LangGraph's server", fix);
        }
        if self.truthy("_INTERNAL_docker_tag").is_some() {
            let message = "`api_version` and `_INTERNAL_docker_tag` exclude each other";
            self.faults.error("api-version", &node.span, message, None);
        }
    }
}
