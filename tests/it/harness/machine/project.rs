//! A project to deploy.

use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;

/// The one set of requirements of all projects: its layer is built once.
const REQUIREMENTS: &str = "langgraph>=1.0,<2\nlangchain-openai>=1.0,<2\n";

/// A LangGraph project in a folder of its own.
pub struct Project {
    folder: TempDir,
    manifest: Value,
}

/// Answers with `GREETING`, how many messages the thread holds, and the first of them.
pub const ECHO: &str = r#"import os

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph


async def answer(state: MessagesState) -> dict:
    said = [message.content for message in state["messages"] if message.type == "human"]
    return {"messages": [AIMessage(f"{os.environ.get('GREETING')} {len(said)}: {said[0]}")]}


graph = StateGraph(MessagesState).add_node(answer).add_edge(START, "answer").compile()
"#;

impl Project {
    /// One replica, no hosts, [`ECHO`], and a `.env` with a greeting.
    pub fn new(name: &str) -> Self {
        let manifest = json!({
            "graphs": { "agent": "./agent.py:graph" },
            "env": ".env",
            "dependencies": ["."],
            "rapidclaw": {
                "name": name, "min_replicas": 1, "max_replicas": 1,
                "security": { "egress": "allowlist", "allowed_hosts": [] },
            },
        });
        let project = Self { folder: tempfile::tempdir().unwrap(), manifest };
        project.write("langgraph.json", &project.manifest.to_string());
        project.write("requirements.txt", REQUIREMENTS);
        project.write("agent.py", ECHO);
        project.write(".env", "GREETING=hello\n");
        project
    }

    /// Changes the manifest at a dotted path.
    pub fn set(mut self, path: &str, value: Value) -> Self {
        let mut place = &mut self.manifest;
        for part in path.split('.') {
            place = &mut place[part];
        }
        *place = value;
        self.write("langgraph.json", &self.manifest.to_string());
        self
    }

    /// With so many replicas.
    pub fn replicas(self, count: u32) -> Self {
        self.set("rapidclaw.min_replicas", json!(count)).set("rapidclaw.max_replicas", json!(count))
    }

    /// With another graph.
    pub fn graph(self, code: &str) -> Self {
        self.write("agent.py", code);
        self
    }

    /// With other secrets.
    pub fn env(self, text: &str) -> Self {
        self.write(".env", text);
        self
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn remove(&self, path: &str) {
        std::fs::remove_file(self.path().join(path)).unwrap();
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}
