//! Twelve projects in the shapes that other people's have: each is deployed, asked, changed and rolled back on a real
//! server. CI runs the six quickest; `scripts/test.sh --all` the rest, too.

mod shapes;

use crate::index::{Index, uv};
use crate::machine::Server;
use serde_json::{Value, json};
use shapes::Shape;
use std::path::Path;

/// The graph of each project answers with the word of the code, what the project found, and how many messages it has
/// heard on its thread.
const GRAPH: &str = "from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

WORD = 'one'


def answer(state: MessagesState) -> dict:
    heard = sum(message.type == 'human' for message in state['messages'])
    return {'messages': [AIMessage(f'{WORD} {facts()} {heard}')]}


graph = StateGraph(MessagesState).add_node(answer).add_edge(START, 'answer').compile()
";

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// The image of everything but the code that the newest release stands on.
fn stands_on(server: &Server, agent: &str) -> String {
    let status = server.rapidclaw(&["status", agent, "--json"]).ok().json();
    let image = status["image"].as_str().or(status["agents"][0]["image"].as_str());
    let image = image.unwrap_or_else(|| panic!("no image in {status}"));
    crate::builds::stands_on(image)
}

/// Deployed, asked, changed, asked, rolled back, asked, destroyed.
fn goes_to_production(server: &Server, index: &Index, shape: &Shape) {
    let name = format!("e2e-shape-{}", shape.name);
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    for (file, text) in &shape.files {
        write(&place, file, &text.replace("INDEX", &index.address));
    }
    let code = format!("{}\n{GRAPH}", shape.facts);
    write(&place, shape.graph, &code);
    let mut manifest: Value = serde_json::from_str(shape.manifest).unwrap();
    let security = json!({ "egress": "allowlist", "allowed_hosts": [] });
    manifest["rapidclaw"] = json!({ "name": name, "min_replicas": 1, "max_replicas": 1, "security": security });
    if let Some(memory) = shape.memory {
        manifest["rapidclaw"]["resources"] = json!({ "memory": memory });
    }
    write(&place, shape.place, &manifest.to_string());
    (shape.prepare)(&place);
    let (path, base) = (place.join(shape.place), crate::building::with_langgraph());
    let deploy = || server.rapidclaw(&["deploy", "--base-image", base, "--manifest", path.to_str().unwrap()]).ok();

    let first = deploy();
    let key = first.key();
    assert!(!first.err.contains("installs the dependencies again"), "{}: {}", shape.name, first.err);
    let ask = |said: &str| assert_eq!(server.turn(&name, &key, "t1", "hi"), said, "{}", shape.name);
    ask(&format!("one {} 1", shape.found));
    let before = stands_on(server, &name);

    write(&place, shape.graph, &code.replace("WORD = 'one'", "WORD = 'two'"));
    deploy().prints(&format!("{name} v2 live in "));
    assert_eq!(stands_on(server, &name), before, "{}: a change of code installed something", shape.name);
    ask(&format!("two {} 2", shape.found));

    server.rapidclaw(&["rollback", "--agent", &name, "--yes"]).ok();
    ask(&format!("one {} 3", shape.found));
    server.rapidclaw(&["destroy", &name, "--yes"]).ok();
}

/// Two at a time: a build waits for the network and the disk as much as for a processor.
fn all_go_to_production(shapes: &[Shape]) {
    let server = Server::start();
    let index = Index::start("hunter2-of-a-shape");
    for pair in shapes.chunks(2) {
        std::thread::scope(|scope| {
            for shape in pair {
                scope.spawn(|| goes_to_production(&server, &index, shape));
            }
        });
    }
}

#[test]
fn six_projects_of_other_peoples_shapes_go_to_production() {
    all_go_to_production(&shapes::quick());
}

#[test]
#[ignore = "minutes of downloads: scripts/test.sh --all"]
fn six_more_projects_go_to_production() {
    all_go_to_production(&shapes::slow());
}

/// A lock of the project, made by uv itself.
fn lock(folder: &Path) {
    uv(folder, &["lock", "--quiet"]);
}
