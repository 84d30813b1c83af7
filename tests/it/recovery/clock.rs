//! A clock that jumps: a day forward and days back, under the server, its Postgres and the command line.
//! libfaketime is between them and the kernel; steady clocks go on as they are, as when a clock is set.

use crate::machine::{self, Machine, Project, Server, until};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Takes a few seconds for an answer that says which message of the thread it is.
const SLOW: &str = r#"import asyncio

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph


async def think(state: MessagesState) -> dict:
    await asyncio.sleep(5)
    return {}


async def answer(state: MessagesState) -> dict:
    said = [message.content for message in state["messages"] if message.type == "human"]
    return {"messages": [AIMessage(f"{len(said)}: {said[-1]}")]}


graph = StateGraph(MessagesState).add_node(think).add_node(answer)
graph = graph.add_edge(START, "think").add_edge("think", "answer").compile()
"#;

/// A wall clock of a machine's own.
struct Clock(PathBuf);

impl Clock {
    /// For all that is started with what this gives.
    fn new(folder: &Path) -> (Self, Vec<(String, String)>) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        let clock = Self(folder.join("clock"));
        clock.set("+0d");
        let mut environment: Vec<(String, String)> = [
            ("LD_PRELOAD", library().as_str()),
            ("FAKETIME_TIMESTAMP_FILE", clock.0.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("FAKETIME_DISABLE_SHM", "1"),
            ("NO_FAKE_STAT", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        // Postgres' programs get a clean environment: these give it back to them.
        let programs = folder.join("postgres");
        std::fs::create_dir_all(&programs).unwrap();
        let real = postgres();
        let exports: Vec<String> =
            environment.iter().map(|(name, value)| format!("export {name}='{value}'\n")).collect();
        let exports = exports.concat();
        for program in ["initdb", "pg_ctl", "postgres"] {
            let script = format!("#!/bin/sh\n{exports}exec {} \"$@\"\n", real.join(program).display());
            let path = programs.join(program);
            std::fs::write(&path, script).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        environment.push(("PATH".to_owned(), path));
        (clock, environment)
    }

    /// Sets it so far from the true time.
    fn set(&self, offset: &str) {
        let next = self.0.with_extension("next");
        std::fs::write(&next, offset).unwrap();
        std::fs::set_permissions(&next, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::fs::rename(&next, &self.0).unwrap();
    }
}

fn library() -> String {
    let found =
        std::fs::read_dir("/usr/lib").unwrap().flatten().map(|one| one.path().join("faketime/libfaketime.so.1"));
    let found = found.filter(|path| path.exists()).max();
    found.expect("this test needs libfaketime (apt-get install faketime)").display().to_string()
}

fn postgres() -> PathBuf {
    let found =
        std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|one| one.path().join("bin"));
    let found = found.filter(|folder| folder.join("initdb").exists()).max();
    found.expect("this test needs Postgres in Debian's place (apt-get install postgresql)")
}

fn runs(server: &Server) -> Vec<Value> {
    server.rapidclaw(&["runs", "e2e-clock", "--json"]).ok().json()["runs"].as_array().unwrap().clone()
}

#[track_caller]
fn until_running(server: &Server) {
    until("a run under way", || match runs(server) {
        found if found.iter().any(|run| run["status"] == "running") => Ok(()),
        found => Err(format!("{found:?}")),
    });
}

/// The agent's line, without its figures.
fn status(server: &Server) -> String {
    let line = server.status("e2e-clock");
    assert!(!line.contains("=-0") && !line.contains("p95=-") || line.contains("p95=- "), "{line}");
    regex::Regex::new(r"p95=\S+").unwrap().replace_all(&line, "p95=[P95]").into_owned()
}

#[test]
fn a_clock_that_jumps_ends_no_run_and_no_rollout() {
    // Given an agent on a server whose machine's clock can be set.
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (clock, environment) = Clock::new(&folder.path().join("time"));
    machine::need_docker();
    let mut server = Server::on(Machine::new().with_environment(environment), &[], &[]);
    let project = Project::new("e2e-clock").graph(SLOW);
    let key = server.deploy(&project).ok().key();
    let turn = |server: &Server, thread: &str, message: &str| server.turn("e2e-clock", &key, thread, message);
    let epoch = |server: &Server| server.query("SELECT extract(epoch FROM clock_timestamp())::bigint");
    let before = epoch(&server);

    // When the clock jumps a day forward while a run is under way,
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| turn(&server, "t", "one"));
        until_running(&server);
        clock.set("+1d");
        assert_eq!(answer.join().unwrap(), "1: one");
    });
    // then it goes on where it is,
    assert!(epoch(&server) - before > 86_000, "the clock has jumped");
    let found = runs(&server);
    assert!(found.len() == 1 && found[0]["attempt"] == 1 && found[0]["status"] == "success", "{found:?}");
    insta::assert_snapshot!(status(&server), @"e2e-clock v1 running 1 replica p95=[P95] $-/turn");

    // and when it jumps back by two while a rollout is, that one ends well.
    project.write("agent.py", &SLOW.replace("sleep(5)", "sleep(4)"));
    std::thread::scope(|scope| {
        let deploy = scope.spawn(|| server.deploy(&project));
        until("a rollout under way", || match server.rapidclaw(&["rollouts", "e2e-clock"]) {
            said if said.out.contains("running:") => Ok(()),
            said => Err(said.to_string()),
        });
        clock.set("-1d");
        deploy.join().unwrap().ok();
    });
    assert!(epoch(&server) - before < -80_000, "the clock has jumped");
    insta::assert_snapshot!(status(&server), @"e2e-clock v2 running 1 replica p95=[P95] $-/turn");
    // The thread goes on after what was said the day before yesterday, the newest rollout is the first,
    assert_eq!(turn(&server, "t", "two"), "2: two");
    let rollouts = server.rapidclaw(&["rollouts", "e2e-clock"]).ok().out;
    assert!(rollouts.lines().next().unwrap().contains("v2 succeeded"), "{rollouts}");
    // and what has not changed is not deployed again.
    let again = server.rapidclaw(&["rollouts", "e2e-clock"]).ok().out;
    server.deploy(&project).ok();
    assert_eq!(server.rapidclaw(&["rollouts", "e2e-clock"]).ok().out, again);

    // A server that is killed, and comes back three days earlier, finds the runs that it has left.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            machine::try_post(
                &format!("{}/agents/e2e-clock/v1/chat", server.agents_url),
                &[("x-api-key", &key)],
                &serde_json::json!({ "thread_id": "t", "user_id": "tester", "message": "three" }),
            )
        });
        until_running(&server);
        server.kill();
    });
    clock.set("-3d");
    server.start_again();
    assert_eq!(turn(&server, "t", "four"), "4: four");
    let found = runs(&server);
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found.iter().all(|run| run["status"] == "success" && run["seconds"].as_f64().unwrap() >= 0.0), "{found:?}");

    // The release before is the one before.
    server.rapidclaw(&["rollback", "--agent", "e2e-clock"]).ok();
    assert_eq!(turn(&server, "t", "five"), "5: five");
    insta::assert_snapshot!(status(&server), @"e2e-clock v3 running 1 replica p95=[P95] $-/turn");
    let releases = server.rapidclaw(&["releases", "e2e-clock"]).ok().out;
    assert!(releases.lines().next().unwrap().contains("as-v1"), "{releases}");
}
