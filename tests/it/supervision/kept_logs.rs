//! What replicas wrote stays when they are gone: after a crash, when no server runs, over a stop; with no secret in it
//! and what is no secret readable; until the agent goes.

use crate::machine::{ECHO, Project, Server, until};
use serde_json::json;
use std::path::PathBuf;
use std::process::Command;

const NAME: &str = "e2e-kept-logs";
const SECRET: &str = "c4f5-9a31-77e2-secret";

fn project() -> Project {
    let said =
        "import os, sys\nprint('started as', os.environ['OPENAI_MODEL'], 'with', os.environ['API_KEY'], flush=True)\n";
    let turn = "    print('asked', state['messages'][-1].content, flush=True)\n    said = [";
    let graph = format!("{said}{}", ECHO.replacen("    said = [", turn, 1));
    Project::new(NAME)
        .graph(&graph)
        .env(&format!("GREETING=hello\nOPENAI_MODEL=gpt-4o-mini-2024\nAPI_KEY={SECRET}\n"))
        .set("rapidclaw.logs", json!({ "retention": "2d" }))
}

/// The lines of `logs`, as they were written.
fn lines(server: &Server, more: &[&str]) -> Vec<String> {
    let said = server.rapidclaw(&[&["logs", NAME], more].concat()).ok();
    said.out.lines().map(|line| line.split_once(' ').unwrap_or_default().1.to_owned()).collect()
}

fn starts(server: &Server) -> usize {
    let lines = lines(server, &["-n", "1000"]);
    lines.iter().filter(|line| line.starts_with("started as gpt-4o-mini-2024 with ***")).count()
}

/// Files of kept logs.
fn files(server: &Server) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(server.machine.data_dir().join("logs")).into_iter().flatten().flatten();
    folders
        .flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten().flatten())
        .map(|file| file.path())
        .collect()
}

fn until_starts(server: &Server, count: usize) {
    until("the log has what the replicas that are gone wrote", || {
        let found = starts(server);
        if found == count { Ok(()) } else { Err(format!("{found} starts; {:?}", lines(server, &[]))) }
    });
}

#[test]
fn what_replicas_wrote_is_kept_when_they_are_gone() {
    // Given an agent that was asked something, and whose replica is killed,
    let mut server = Server::start();
    let key = server.deploy(&project()).ok().key();
    server.turn(NAME, &key, "t", "one");
    let first = server.until_containers(NAME, 1);
    let container = first.first().unwrap().clone();
    assert!(server.machine.docker(&["kill", &container]).status.success());
    // then the next one serves, and the log has what both wrote,
    until_starts(&server, 2);
    server.until_status(NAME, &format!("{NAME} v1 running 1 replica"));
    server.turn(NAME, &key, "t", "two");
    let all = lines(&server, &["-n", "1000"]);
    let at = |text: &str| all.iter().position(|line| line == text).unwrap_or_else(|| panic!("{text}: {all:?}"));
    assert!(at("asked one") < at("asked two"));
    // as much of it as is asked for,
    let last = lines(&server, &["-n", "1"]);
    assert_eq!(last, all[all.len() - 1..]);
    assert!(lines(&server, &["--since", "1h"]).contains(&"asked one".to_owned()));
    assert_eq!(lines(&server, &["--since", "2999-01-01T00:00:00Z"]), Vec::<String>::new());
    // and of the replica that is gone alone.
    let gone = server.rapidclaw(&["logs", NAME, "-n", "1000", "--json"]).ok();
    let asked = gone.out.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut asked =
        asked.filter(|line| line["text"] == "asked one").map(|line| line["replica"].as_str().unwrap().to_owned());
    let replica = asked.next_back().unwrap();
    let own = lines(&server, &["--replica", &replica]);
    assert!(own.contains(&"asked one".to_owned()) && !own.contains(&"asked two".to_owned()), "{own:?}");

    // One that ends while no server runs is copied by the next server,
    server.kill();
    let second = server.containers_of(NAME);
    assert!(server.machine.docker(&["kill", second.first().unwrap()]).status.success());
    server.start_again();
    until_starts(&server, 3);
    assert!(lines(&server, &["-n", "1000"]).contains(&"asked two".to_owned()));
    // and a server that is stopped keeps what it ends.
    server.until_status(NAME, &format!("{NAME} v1 running 1 replica"));
    server.rapidclaw(&["server", "stop"]).ok();
    server.start_again();
    until_starts(&server, 4);

    // No secret is in the files, which only the server's user reads; and they go with the agent.
    let kept = files(&server);
    assert_eq!(kept.len(), 3, "{kept:?}");
    for file in &kept {
        assert!(!std::fs::read_to_string(file).unwrap().contains(SECRET), "{}", file.display());
    }
    let mode = Command::new("stat").args(["-c", "%a"]).arg(server.machine.data_dir().join("logs")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&mode.stdout).trim(), "700");
    server.rapidclaw(&["destroy", NAME, "--yes"]).ok();
    assert_eq!(files(&server), Vec::<PathBuf>::new());
}
