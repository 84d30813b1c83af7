//! Two frameworks in one agent: a LangGraph graph and a plain turn, whose thread's state is one document.

use crate::machine::{Answer, Project, Server, until};
use serde_json::json;

/// Says all that was said on its thread. `hold` waits until its replica has the file /tmp/go.
const ECHO: &str = r#"import asyncio, os


async def turn(thread, message, emit):
    thread.state = {"said": [*(thread.state or {"said": []})["said"], message.text]}
    if message.text == "fail":
        raise ValueError("no such thing")
    if message.text == "hold":
        open("/tmp/held", "w").close()
        while not os.path.exists("/tmp/go"):
            await asyncio.sleep(0.02)
    await emit("v1 ")
    emit(f"{message.user_id}: {', '.join(thread.state['said'])}")
"#;

const AGENT: &str = "e2e-frameworks";

struct Agent<'a> {
    server: &'a Server,
    key: String,
}

impl Agent<'_> {
    fn chat(&self, graph: &str, message: &str) -> Answer {
        let body = json!({ "thread_id": "t", "user_id": "ann", "message": message, "graph": graph });
        self.server.chat(AGENT, &self.key, &body)
    }

    fn says(&self, graph: &str, message: &str) -> String {
        self.chat(graph, message).ok().body["result"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_plain_turn_keeps_its_document_through_a_kill_a_deploy_and_a_rollback() {
    // Given an agent of a graph and a plain turn, on two replicas,
    let server = Server::start();
    let targets = json!({ "agent": "./agent.py:graph", "echo": "./echo.py:turn" });
    let project = Project::new(AGENT).replicas(2).set("graphs", targets);
    project.write("echo.py", ECHO);
    let validated = server.machine.command().args(["validate"]).current_dir(project.path()).output().unwrap();
    assert!(String::from_utf8_lossy(&validated.stdout).contains("1 graph, 1 plain turn"), "{validated:?}");
    let agent = Agent { server: &server, key: server.deploy(&project).ok().key() };

    // each remembers its own on the thread that both have.
    assert_eq!(agent.says("echo", "one"), "v1 ann: one");
    assert_eq!(agent.says("agent", "hi"), "hello 1: hi");
    assert_eq!(agent.says("echo", "two"), "v1 ann: one, two");

    // When the replica is killed in the middle of a turn, the turn goes on in the other one, and is kept once.
    let containers = server.containers_of(AGENT);
    let has_held =
        |container: &&String| server.machine.docker(&["exec", container, "test", "-e", "/tmp/held"]).status.success();
    let held = std::thread::scope(|scope| {
        let turn = scope.spawn(|| agent.says("echo", "hold"));
        let holder = until("a turn that holds", || containers.iter().find(has_held).ok_or_else(String::new));
        assert!(server.machine.docker(&["kill", holder]).status.success());
        until("the turn's end", || {
            for container in server.containers_of(AGENT) {
                server.machine.docker(&["exec", &container, "touch", "/tmp/go"]);
            }
            if turn.is_finished() { Ok(()) } else { Err(server.status(AGENT)) }
        });
        turn.join().unwrap()
    });
    assert_eq!(held, "v1 ann: one, two, hold");
    assert_eq!(server.query("SELECT max(attempt)::int8 FROM rapidclaw.runs"), 2);

    // A turn that fails leaves the document as it was.
    let failed = agent.chat("echo", "fail");
    assert!(failed.status >= 400 && failed.text.contains("no such thing"), "{failed:?}");
    server.rapidclaw(&["threads", "show", AGENT, "t"]).ok().prints("newest: document");

    // Changed code finds it, and so does the code of before once it is back.
    project.write("echo.py", &ECHO.replace("v1", "v2"));
    server.deploy(&project).ok().prints("v2 live");
    assert_eq!(agent.says("echo", "three"), "v2 ann: one, two, hold, three");
    server.rapidclaw(&["rollback", "--agent", AGENT]).ok().prints("v3");
    assert_eq!(agent.says("echo", "four"), "v1 ann: one, two, hold, three, four");
    assert_eq!(agent.says("agent", "again"), "hello 2: hi");

    // An agent of plain turns alone has no LangGraph in its image.
    let alone = Project::new("e2e-plain").set("graphs", json!({ "echo": "./echo.py:turn" }));
    alone.write("echo.py", ECHO);
    alone.remove("requirements.txt");
    alone.remove("agent.py");
    let key = server.deploy(&alone).ok().key();
    assert_eq!(server.turn("e2e-plain", &key, "t", "one"), "v1 tester: one");
    for container in server.containers_of("e2e-plain") {
        let imported = server.machine.docker(&["exec", &container, "/opt/venv/bin/python", "-c", "import langgraph"]);
        assert!(String::from_utf8_lossy(&imported.stderr).contains("ModuleNotFoundError"), "{imported:?}");
    }
}
