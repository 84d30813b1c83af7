//! The tutorial's own project, byte for byte: a graph that opens `DATABASE_URL` at import, calls `setup()` and
//! compiles with its own `PostgresSaver`, with a manifest that says nothing of a database.

use crate::machine::{STUB_KEY, Server, said};
use serde_json::json;
use std::path::{Path, PathBuf};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::write(target, std::fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "what is left out is said loudly")]
fn the_tutorial_deploys_unchanged_and_loses_no_turn() {
    let Some(corpus) = std::env::var_os("RAPIDCLAW_CORPUS").map(PathBuf::from) else {
        eprintln!("LEFT OUT: RAPIDCLAW_CORPUS is not set, so the tutorial's project was not deployed");
        return;
    };
    // Given the project as it is, and the key of its model in its .env,
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("tutorial");
    copy(&corpus.parent().unwrap().join("tutorial"), &project);
    std::fs::write(project.join(".env"), format!("OPENAI_API_KEY={STUB_KEY}\n")).unwrap();
    let deploy = |said_what: &str| {
        said(server.machine.command().arg("deploy").current_dir(&project))
            .ok()
            .prints(said_what)
            .says("a Postgres database of its own")
            .says("compiled with a checkpointer of its own; ours is used")
    };

    // when it is deployed, it has a database that nobody asked for in the manifest, and three replicas;
    let key = deploy("agent v1 live in ").key();
    server.until_status("agent", "agent v1 running 3 replicas");
    let databases = "SELECT count(*) FROM pg_database WHERE datname LIKE 'agent\\_%'";
    assert_eq!(server.query(databases), 1);

    // a turn is answered with its tool, and the next one knows the first, on another replica when that one is killed,
    let body = |message: &str| json!({ "thread_id": "t", "user_id": "ada", "message": message });
    let turn = |message: &str| server.turn("agent", &key, "t", message);
    assert_eq!(turn("My name is Ada."), "Hello Ada, nice to meet you.");
    let second = server.chat("agent", &key, &body("What is the weather in Paris?")).ok();
    assert_eq!(second.body["result"], "It is sunny in Paris.");
    let replica = second.replica.clone().unwrap();
    let label = format!("label=rapidclaw.replica={replica}");
    let containers = server.machine.docker_lines(&["ps", "-q", "--filter", &label]);
    assert_eq!(containers.len(), 1, "{replica}");
    for container in containers {
        server.machine.docker(&["kill", &container]);
    }
    assert_eq!(turn("What is my name?"), "Your name is Ada.");
    server.until_status("agent", "agent v1 running 3 replicas");

    // after a deploy of a change,
    let nodes = project.join("agent/nodes.py");
    let text = std::fs::read_to_string(&nodes).unwrap();
    std::fs::write(&nodes, text.replace("It is sunny in", "It is rainy in")).unwrap();
    deploy("agent v2 live in ");
    assert_eq!(turn("What is the weather in London?"), "It is rainy in London.");
    // and after the way back.
    server.rapidclaw(&["rollback", "--agent", "agent"]).ok().prints("v3");
    assert_eq!(turn("What is the weather in London?"), "It is sunny in London.");
    assert_eq!(turn("What is my name?"), "Your name is Ada.");

    // Destroyed, nothing of it is left.
    server.rapidclaw(&["destroy", "agent", "--yes"]).ok();
    assert_eq!(server.query(databases), 0);
}
