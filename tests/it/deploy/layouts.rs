//! Projects as people lay them out, and graphs in every form that LangGraph takes, deployed and asked.

use crate::machine::{self, Project, Said, Server, docker_said};
use rapidclaw::engine::names::is_builders_tag;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// Graphs that say what they are called and repeat what they hear.
const FORMS: &str = r#"import contextlib

from langchain_core.messages import AIMessage, convert_to_messages
from langchain_core.runnables import RunnableConfig
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph


def saying(text):
    def answer(state: MessagesState) -> dict:
        return {"messages": [AIMessage(f"{text}: {state['messages'][-1].content}")]}

    return StateGraph(MessagesState).add_node(answer).add_edge(START, "answer")


compiled = saying("compiled").compile()
builder = saying("builder")


def factory():
    return saying("factory").compile()


async def async_factory():
    return saying("async_factory")


def with_config(config: RunnableConfig):
    return saying(f"with_config {'thread_id' in config['configurable']}").compile()


@contextlib.asynccontextmanager
async def managed(config):
    opened = ["managed"]
    yield saying(opened[0]).compile()
    opened.clear()


@task
async def count(before):
    return before + 1


@entrypoint()
async def functional(state: MessagesState, *, previous=None):
    turns = await count(previous or 0)
    # No channel of its state makes messages of what comes as JSON, as with LangGraph's own server.
    answer = AIMessage(f"functional {turns}: {convert_to_messages(state['messages'])[-1].content}")
    return entrypoint.final(value={"messages": [answer]}, save=turns)
"#;

/// What the tests' other projects need, too: it is installed once for all.
const DEPENDENCIES: &str = "dependencies = [\"langgraph>=1.0,<2\", \"langchain-openai>=1.0,<2\"]\n";

/// A wheel whose module holds a graph in a class.
fn wheel(folder: &Path) {
    let script = r#"
import sys, zipfile
name = "rc_installed-1.2-py3-none-any.whl"
files = {
    "rc_installed/__init__.py": "",
    "rc_installed/deep.py": sys.argv[2] + "\n\nclass Holder:\n    graph = saying(__file__).compile()\n",
    "rc_installed-1.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: rc-installed\nVersion: 1.2\n",
    "rc_installed-1.2.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}
files["rc_installed-1.2.dist-info/RECORD"] = "".join(f"{one},,\n" for one in files) + "rc_installed-1.2.dist-info/RECORD,,\n"
with zipfile.ZipFile(f"{sys.argv[1]}/{name}", "w") as archive:
    for path, text in files.items():
        archive.writestr(path, text)
"#;
    std::fs::create_dir_all(folder).unwrap();
    let made = Command::new("python3").args(["-c", script]).arg(folder).arg(FORMS).output().unwrap();
    assert!(made.status.success(), "{made:?}");
}

fn ask(server: &Server, agent: &str, key: &str, graph: &str, message: &str) -> String {
    let body = json!({ "thread_id": format!("t-{graph}"), "user_id": "ada", "message": message, "graph": graph });
    server.chat(agent, key, &body).ok().body["result"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn graphs_in_every_form_answer() {
    // Given one manifest with a graph in each form, one of them a module of a package that is installed.
    let server = Server::start();
    let forms = ["compiled", "builder", "factory", "async_factory", "with_config", "managed", "functional"];
    let mut graphs: serde_json::Map<String, Value> =
        forms.iter().map(|form| ((*form).to_owned(), json!(format!("./forms.py:{form}")))).collect();
    graphs.insert("module".into(), json!("forms:compiled"));
    graphs
        .insert("installed".into(), json!({ "path": "rc_installed.deep:Holder.graph", "description": "it's \"in\"" }));
    let project = Project::new("e2e-forms").set("graphs", Value::Object(graphs));
    project.write("forms.py", FORMS);
    wheel(&project.path().join("wheels"));
    let requirements = std::fs::read_to_string(project.path().join("requirements.txt")).unwrap();
    project.write("requirements.txt", &format!("{requirements}./wheels/rc_installed-1.2-py3-none-any.whl\n"));

    // When it is deployed, each answers.
    let key = server.deploy(&project).ok().key();
    for form in forms {
        let wanted = match form {
            "with_config" => "with_config True: hi".to_owned(),
            "functional" => "functional 1: hi".to_owned(),
            plain => format!("{plain}: hi"),
        };
        assert_eq!(ask(&server, "e2e-forms", &key, form, "hi"), wanted, "{form}");
    }
    assert_eq!(ask(&server, "e2e-forms", &key, "functional", "more"), "functional 2: more");
    assert_eq!(ask(&server, "e2e-forms", &key, "module", "hi"), "compiled: hi");
    let installed = ask(&server, "e2e-forms", &key, "installed", "hi");
    assert!(installed.starts_with("/opt/venv/lib/") && installed.ends_with("/rc_installed/deep.py: hi"), "{installed}");
}

/// Writes a project and deploys it by its manifest.
fn deploy(server: &Server, folder: &Path, name: &str, manifest: (&str, Value), files: &[(&str, &str)]) -> Said {
    let (path, mut manifest) = manifest;
    let security = json!({ "egress": "allowlist", "allowed_hosts": [] });
    manifest["rapidclaw"] = json!({ "name": name, "min_replicas": 1, "max_replicas": 1, "security": security });
    let manifest = manifest.to_string();
    for (path, text) in files.iter().chain([&(path, manifest.as_str())]) {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    server.rapidclaw(&["deploy", "--manifest", folder.join(path).to_str().unwrap()])
}

#[test]
fn projects_are_deployed_as_people_lay_them_out() {
    let server = Server::start();
    let requirements = "langgraph>=1.0,<2\nlangchain-openai>=1.0,<2\n";
    let pyproject = |name: &str, more: &str| {
        format!("[project]\nname = \"{name}\"\nversion = \"0.1\"\nrequires-python = \">=3.11\"\n{DEPENDENCIES}{more}")
    };
    let root = tempfile::tempdir().unwrap();
    let folder = |name: &str| root.path().join(name);
    let answers = |name: &str, said: Said, graph: &str| {
        let key = said.ok().key();
        assert_eq!(ask(&server, name, &key, graph, "hi"), "compiled: hi", "{name}");
    };

    // Modules below a `src` that is no package and is imported by that name; a `.env` above the manifest; a folder
    // that is there and empty.
    std::fs::create_dir_all(folder("e2e-namespace").join("app/data/inbox")).unwrap();
    let graph = format!(
        "import os\nfrom src.graphs.util import who\nassert os.environ['WHO'] == who\nassert os.listdir('data/inbox') == []\n{FORMS}"
    );
    let graphs = json!({ "module": "src.graphs.agent.graph:compiled", "file": "./src/graphs/agent/graph.py:compiled" });
    let manifest = json!({ "dependencies": ["."], "graphs": graphs, "env": "../.env" });
    let files = [
        (".env", "WHO=ada\n"),
        ("app/requirements.txt", requirements),
        ("app/src/graphs/util.py", "who = 'ada'\n"),
        ("app/src/graphs/agent/graph.py", graph.as_str()),
    ];
    let said = deploy(&server, &folder("e2e-namespace"), "e2e-namespace", ("app/langgraph.json", manifest), &files);
    let key = said.ok().key();
    for graph in ["module", "file"] {
        assert_eq!(ask(&server, "e2e-namespace", &key, graph, "hi"), "compiled: hi", "{graph}");
    }

    // A manifest in a folder of a bigger project, and both are dependencies.
    let manifest = json!({ "dependencies": [".", ".."], "graphs": { "agent": "agents.entries:compiled" } });
    let graph = format!("from shared import value\nassert value == 1\n{FORMS}");
    let files = [
        ("pyproject.toml", pyproject("whole", "")),
        ("shared/__init__.py", "value = 1\n".into()),
        ("backend/agents/__init__.py", String::new()),
        ("backend/agents/entries.py", graph),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let said = deploy(&server, &folder("e2e-backend"), "e2e-backend", ("backend/langgraph.json", manifest), &files);
    answers("e2e-backend", said, "agent");

    // A manifest deep in a repository that is the one dependency; the graph's file imports its neighbours.
    let manifest = json!({ "dependencies": ["../.."], "graphs": { "agent": "./src/agent/graph.py:compiled" } });
    let hatch = "[build-system]\nrequires = [\"hatchling\"]\nbuild-backend = \"hatchling.build\"\n";
    let graph = format!("from __future__ import annotations\nfrom .state import value\nassert value == 2\n{FORMS}");
    let files = [
        ("pyproject.toml", pyproject("mono", hatch)),
        ("apps/one/src/agent/__init__.py", String::new()),
        ("apps/one/src/agent/state.py", "value = 2\n".into()),
        ("apps/one/src/agent/graph.py", graph),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let said = deploy(&server, &folder("e2e-deep"), "e2e-deep", ("apps/one/langgraph.json", manifest), &files);
    answers("e2e-deep", said, "agent");

    // A package that is imported by another name than its folder's, beside one under LangGraph's own.
    let setuptools = "[tool.setuptools]\npackages = [\"Panda_Dive\", \"langgraph.templates.panda\"]\n\
        [tool.setuptools.package-dir]\n\"Panda_Dive\" = \"src/panda\"\n\"langgraph.templates.panda\" = \"src/panda\"\n";
    let manifest = json!({ "dependencies": ["."], "graphs": { "Deep Diver": "Panda_Dive.deep:compiled" }, "image_distro": "wolfi" });
    let graph = format!("from Panda_Dive.conf import value\nassert value == 3\n{FORMS}");
    let files = [
        ("pyproject.toml", pyproject("panda-dive", setuptools)),
        ("src/panda/__init__.py", String::new()),
        ("src/panda/conf.py", "value = 3\n".into()),
        ("src/panda/deep.py", graph),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let said = deploy(&server, &folder("e2e-renamed"), "e2e-renamed", ("langgraph.json", manifest), &files);
    answers("e2e-renamed", said.says("not enforced yet: image_distro"), "Deep Diver");

    // Requirements that PowerShell wrote; a folder whose name is no module's; an event loop at import.
    let manifest =
        json!({ "dependencies": ["./agent-backend"], "graphs": { "agent": "./agent-backend/graph.py:compiled" } });
    let graph = format!(
        "import asyncio, tools\nfrom helpers.x import value\nasync def wait(): return value\nassert asyncio.run(wait()) == 4\n{FORMS}"
    );
    let files = [
        ("agent-backend/tools.py", ""),
        ("agent-backend/helpers/x.py", "value = 4\n"),
        ("agent-backend/graph.py", graph.as_str()),
    ];
    std::fs::create_dir_all(folder("e2e-windows").join("agent-backend")).unwrap();
    let text = requirements.replace('\n', "\r\n");
    let units: Vec<u8> = [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    std::fs::write(folder("e2e-windows").join("agent-backend/requirements.txt"), units).unwrap();
    let said = deploy(&server, &folder("e2e-windows"), "e2e-windows", ("langgraph.json", manifest), &files);
    answers("e2e-windows", said, "agent");
}

#[test]
fn a_graph_that_writes_beside_its_code_is_told_where_to_write() {
    let server = Server::start();
    let project = Project::new("e2e-writes").graph(&format!(
        "import logging, os\nos.makedirs('logs', exist_ok=True)\nlogging.basicConfig(filename='logs/app.log')\n{}",
        machine::ECHO
    ));
    server
        .deploy(&project)
        .exits(6)
        .says("error: graph agent: OSError: [Errno 30] Read-only file system: 'logs'")
        .says("hint: a replica can write below /tmp alone");
}

#[test]
fn a_project_of_another_python_is_refused_before_anything_is_built() {
    let server = Server::start();
    let project = Project::new("e2e-python").set("python_version", json!("3.11"));
    let pyproject =
        |python: &str| format!("[project]\nname = \"x\"\nversion = \"1\"\nrequires-python = \"{python}\"\n");
    project.write("pyproject.toml", &pyproject(">=3.12"));
    let said = server.deploy(&project).exits(3).says("error[requires-python]");
    let said = said.says("wants Python >=3.12 (requires-python), and the manifest asks for 3.11");
    said.says("langgraph.json:1:").says("write \"python_version\": \"3.12\"");
    // What the manifest cannot know: the Python of the base image.
    project.write("pyproject.toml", &pyproject(">=3.11,<3.13"));
    let said =
        server.deploy(&project).fails(3).says("app wants Python >=3.11,<3.13 (requires-python of its pyproject.toml)");
    said.says("and the base image has 3.13").says("--base-image");
    assert!(server.containers_of("e2e-python").is_empty());
}

#[test]
fn a_machine_that_never_built_a_project_knows_that_nothing_changed() {
    // Given a project that serves, and an engine without its image (as a fresh CI machine's is).
    let server = Server::start();
    let project = Project::new("e2e-elsewhere");
    let key = server.deploy(&project).ok().key();
    // The names that builds give; the server has one of its own for the image.
    let tags = || -> Vec<String> {
        let all = docker_said(&["images", "--format", "{{.Repository}}:{{.Tag}}", "rapidclaw/e2e-elsewhere"]);
        all.lines().filter(|tag| is_builders_tag(tag)).map(ToOwned::to_owned).collect()
    };
    for tag in tags() {
        docker_said(&["rmi", "-f", "--no-prune", &tag]);
    }
    assert!(tags().is_empty());

    // When it is deployed again from there, nothing is built and nothing changes.
    server.deploy(&project).ok().prints("e2e-elsewhere v1: nothing changed").hides("build 1/");
    assert!(tags().is_empty());
    // Other secrets alone make no other image either.
    let project = project.env("GREETING=bonjour\n");
    server.deploy(&project).ok().prints("e2e-elsewhere v2 live with its new secrets in ").hides("build 1/");
    assert!(tags().is_empty());
    assert_eq!(server.turn("e2e-elsewhere", &key, "t", "one"), "bonjour 1: one");
    // Another line of code does.
    let project = project.graph(&format!("{}# another\n", machine::ECHO));
    server.deploy(&project).ok().prints("e2e-elsewhere v3 live in ");
    assert!(!tags().is_empty());
}
