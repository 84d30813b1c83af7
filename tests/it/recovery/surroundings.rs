//! Bad surroundings: each gets one clear word, the right exit code, and nothing is left behind.
//!
//! | surroundings | where |
//! | --- | --- |
//! | a full disk under the data folder, the logins, the engine's images, a Postgres that runs | here |
//! | a full disk under a push | registry/uploads.rs |
//! | a read-only data folder, no network | here |
//! | two servers on one data folder, no rights, no engine | cli/bad_input.rs |
//! | a keyring that hangs, a proxy, one with an authority of its own | cli/remote.rs |
//! | Postgres gone for a while | here; faults.rs, gateway/absence.rs |
//! | a clock that jumps | clock.rs |
//! | a tiny terminal, one without a size, a dumb one | cli/terminals.rs |

use crate::machine::{self, BASE, Engine, Machine, Project, Said, Server, docker_said, said, until};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder of a small file system of its own.
struct Small(PathBuf);

impl Small {
    fn mount(path: &Path, options: &str) -> Self {
        std::fs::create_dir_all(path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path).output().unwrap();
        let why = String::from_utf8_lossy(&mounted.stderr).into_owned();
        assert!(mounted.status.success(), "this test mounts a tmpfs, as root: `sudo -E cargo nextest run`: {why}");
        Self(path.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn stable(said: &Said, machine: &Machine) -> String {
    let text = said.err.replace(machine.data_dir().to_str().unwrap(), "[DATA]");
    text.replace(machine.home().to_str().unwrap(), "[HOME]")
}

const START: [&str; 4] = ["server", "start", "--listen=127.0.0.1:0", "--agents-listen=127.0.0.1:0"];

/// No process of a Postgres is left in a data folder.
fn nothing_runs_in(machine: &Machine) {
    assert!(!machine.data_dir().join("postgres/data/postmaster.pid").exists());
    machine.rapidclaw(&["server", "status"]).exits(1);
}

#[test]
fn a_full_disk_under_the_data_folder() {
    let machine = Machine::new();
    let _small = Small::mount(&machine.data_dir(), "size=8600k,mode=711");
    let full = machine.rapidclaw(&START).fails(5);
    insta::assert_snapshot!(stable(&full, &machine), @r"
    error: the disk of [DATA] is full: 8 MiB free, and a new Postgres needs 96 MiB

    hint: make room on that disk (`df -h` shows it), or choose a data folder on another one with --data-dir
    hint: its log: [DATA]/server.log
    ");
    nothing_runs_in(&machine);
}

/// What takes all that is left of a disk, until it is dropped.
struct Filler(PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn fill(folder: &Path) -> Filler {
    let path = folder.join("filler");
    let mut file = std::fs::File::create(&path).unwrap();
    let part = vec![0; 64 << 10];
    while std::io::Write::write_all(&mut file, &part).is_ok() {}
    Filler(path)
}

/// Answers with a megabyte that cannot be made smaller, after a while.
const LARGE: &str = r#"import asyncio
import os

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph


async def answer(state: MessagesState) -> dict:
    said = [message.content for message in state["messages"] if message.type == "human"]
    if said[-1] != "large":
        return {"messages": [AIMessage(f"{len(said)}: {said[0]}")]}
    await asyncio.sleep(3)
    return {"messages": [AIMessage(os.urandom(1 << 20).hex())]}


graph = StateGraph(MessagesState).add_node(answer).add_edge(START, "answer").compile()
"#;

#[test]
fn a_disk_that_fills_under_the_database() {
    // Given a server with a small disk, and an agent on it.
    let machine = Machine::new();
    let small = Small::mount(&machine.data_dir(), "size=220m,mode=711");
    machine::need_docker();
    let server = Server::on(machine, &[], &[]);
    let project = Project::new("e2e-full").graph(LARGE);
    let key = server.deploy(&project).ok().key();
    assert_eq!(server.turn("e2e-full", &key, "t", "one"), "1: one");

    // When its disk fills while a run is under way,
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| server.turn("e2e-full", &key, "large", "large"));
        until("a run under way", || match server.rapidclaw(&["runs", "e2e-full"]) {
            said if said.out.contains("running") => Ok(()),
            said => Err(said.to_string()),
        });
        let filler = fill(&small.0);
        // then requests are told so,
        let noise = (0..40_000_u32).map(|number| format!("{:08x}", number.wrapping_mul(0x9e37_79b9)));
        let noise = noise.collect::<Vec<_>>().concat();
        let body = json!({ "thread_id": "t", "user_id": "tester", "message": noise });
        let refused = until("the refusal", || match server.chat("e2e-full", &key, &body) {
            answer if answer.status == 507 => Ok(answer),
            answer => Err(format!("{answer:.500?}")),
        });
        let problem = refused.problem(507, "disk-full").body;
        insta::assert_snapshot!(format!("{}\n{}", problem["title"], problem["hints"]), @r#"
        "the disk of the server's database is full"
        ["make room on that disk (`df -h` on the server), then try again"]
        "#);
        assert!(!answer.is_finished(), "its end cannot be committed yet");
        // and when there is room again the run ends, as if nothing had been.
        drop(filler);
        assert_eq!(answer.join().unwrap().len(), 2 << 20);
    });
    until("a turn", || {
        let body = json!({ "thread_id": "t", "user_id": "tester", "message": "two" });
        match server.chat("e2e-full", &key, &body) {
            answer if answer.status == 200 => {
                assert!(answer.body["result"].as_str().unwrap().ends_with(": one"), "{answer:.500?}");
                Ok(())
            }
            answer => Err(format!("{answer:.500?}")),
        }
    });
    server.until_status("e2e-full", "e2e-full v1 running 1 replica");
}

#[test]
fn a_full_disk_under_the_engine() {
    // Given an engine with little room beside the base image.
    machine::need_docker();
    let engine = Engine::small("300m");
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("base.tar");
    docker_said(&["save", "-o", image.to_str().unwrap(), BASE]);
    assert!(engine.docker(&["load", "-i", image.to_str().unwrap()]).0);
    let machine = Machine::on(Some(engine.host()));
    let build = |project: &Project| {
        let said = said(machine.command().arg("build").current_dir(project.path())).fails(1);
        let text = stable(&said, &machine).replace(engine.root().to_str().unwrap(), "[IMAGES]");
        let text = text[text.find("error: ").unwrap()..].to_owned();
        regex::Regex::new(r"\d+ MiB").unwrap().replace_all(&text, "[N] MiB").into_owned()
    };

    // When a step of a build needs more, or nothing is left at all, then it is said whose disk that is.
    let project = Project::new("e2e-full");
    let large = project.set("dockerfile_lines", json!(["RUN dd if=/dev/zero of=/large bs=1M count=300"]));
    insta::assert_snapshot!(build(&large), @r"
    error: Docker Engine's disk has too little room: [N] MiB free in [IMAGES]
    caused by: the step `RUN dd if=/dev/zero of=/large bs=1M count=300` failed: exit code 1

    hint: `docker system df` shows what takes the room; `docker builder prune` and `docker image prune` take away what nothing uses
    ");
    let _filler = fill(&engine.root());
    insta::assert_snapshot!(build(&Project::new("e2e-full")), @r"
    error: Docker Engine's disk has too little room: [N] MiB free in [IMAGES]
    caused by: the step `reading the Dockerfile` failed: Error processing tar file(exit status 1): write /.rapidclaw/deps/app/requirements.txt: no space left on device

    hint: `docker system df` shows what takes the room; `docker builder prune` and `docker image prune` take away what nothing uses
    ");
    let left = engine.docker(&["ps", "-aq"]).1;
    assert_eq!(left, "", "no container is left");
}

#[test]
fn a_data_folder_that_cannot_be_written_to() {
    let machine = Machine::new();
    let _small = Small::mount(&machine.data_dir(), "ro,mode=711");
    let read_only = machine.rapidclaw(&START).fails(1);
    insta::assert_snapshot!(stable(&read_only, &machine), @r"
    error: Read-only file system (os error 30)

    hint: is [DATA] a folder that you may write to? name another with --data-dir
    ");
    let run = machine.rapidclaw(&["server", "run", "--listen=127.0.0.1:0", "--agents-listen=127.0.0.1:0"]).fails(1);
    insta::assert_snapshot!(stable(&run, &machine), @r"
    error: the data folder [DATA]
    caused by: Read-only file system (os error 30)

    hint: name another with --data-dir
    ");
}

#[test]
fn a_full_disk_under_the_logins() {
    // Given a server and a full disk where logins rest.
    let server = Server::start();
    let machine = Machine::new();
    let small = Small::mount(&machine.home().join("full"), "size=4k");
    std::fs::write(small.0.join("rest"), vec![0; 4096]).unwrap();
    let token = std::fs::read_to_string(server.machine.data_dir().join("admin-token")).unwrap();
    let mut login = machine.command();
    login.args(["login", &server.url, "--token-stdin"]).env("RAPIDCLAW_CONFIG_DIR", small.0.join("config"));
    let full = machine::said_with_stdin(&mut login, &token).fails(1).hides(token.trim());
    insta::assert_snapshot!(stable(&full, &machine), @r"
    error: the file of logins [HOME]/full/config/credentials.json
    caused by: No space left on device (os error 28)

    hint: name another folder with RAPIDCLAW_CONFIG_DIR
    ");
}

#[test]
fn no_network() {
    // Given a network with nothing in it, not even a name service.
    let machine = Machine::new();
    let mut alone = Command::new("unshare");
    machine.clean(&mut alone);
    alone.args(["--net", env!("CARGO_BIN_EXE_rapidclaw"), "whoami", "--server", "https://rapidclaw.example.com"]);
    let lost = said(alone.env("RAPIDCLAW_TOKEN", "t")).fails(5);
    insta::assert_snapshot!(stable(&lost, &machine), @r"
    error: the server at https://rapidclaw.example.com cannot be reached
    caused by: failed to lookup address information: Temporary failure in name resolution

    hint: look whether it runs there and whether this machine has a way to it; HTTPS_PROXY and NO_PROXY say whether a proxy is on it
    ");
    let mut alone = Command::new("unshare");
    machine.clean(&mut alone);
    alone.args(["--net", env!("CARGO_BIN_EXE_rapidclaw"), "whoami", "--server", "https://192.0.2.1"]);
    let lost = said(alone.env("RAPIDCLAW_TOKEN", "t")).fails(5);
    insta::assert_snapshot!(stable(&lost, &machine), @r"
    error: the server at https://192.0.2.1 cannot be reached
    caused by: Network is unreachable (os error 101)

    hint: look whether it runs there and whether this machine has a way to it; HTTPS_PROXY and NO_PROXY say whether a proxy is on it
    ");
}

#[test]
fn postgres_is_gone_for_a_while() {
    // Given an agent that answers,
    let server = Server::start();
    let project = Project::new("e2e-gone");
    let key = server.deploy(&project).ok().key();
    assert_eq!(server.turn("e2e-gone", &key, "t", "one"), "hello 1: one");

    // when Postgres dies and cannot be started again,
    let data = server.machine.data_dir().join("postgres/data");
    let (control, aside) = (data.join("global/pg_control"), data.join("aside"));
    std::fs::rename(&control, &aside).unwrap();
    let pid = std::fs::read_to_string(data.join("postmaster.pid")).unwrap();
    assert!(Command::new("kill").args(["-KILL", pid.lines().next().unwrap()]).status().unwrap().success());

    // then who asks is told so,
    let gone = until("the server sees that Postgres is gone", || {
        let said = server.rapidclaw(&["status"]);
        if said.code() == Some(5) { Ok(said) } else { Err(said.to_string()) }
    });
    let request = regex::Regex::new("request_id [0-9a-f-]+").unwrap();
    insta::assert_snapshot!(request.replace_all(&gone.err, "request_id [ID]"), @r"
    error: the server's database is away for a moment

    hint: try again in a few seconds; the server's log says more
    hint: request_id [ID]
    ");
    // (once no connection is left that nobody knows to be dead)
    std::thread::sleep(std::time::Duration::from_secs(6));
    let body = json!({ "thread_id": "t", "user_id": "tester", "message": "lost" });
    let turn = server.chat("e2e-gone", &key, &body).problem(503, "database-away");
    insta::assert_snapshot!(format!("{}\n{}", turn.body["title"], turn.body["hints"][0]), @r#"
    "the server's database is away for a moment"
    "try again in a few seconds; the server's log says more"
    "#);
    let doctor = server.rapidclaw(&["doctor"]).exits(1);
    assert!(doctor.out.lines().any(|line| line.starts_with("fail  ")), "{doctor}");

    // and when it can be started it is, and all goes on where it was.
    std::fs::rename(&aside, &control).unwrap();
    until("Postgres is back", || {
        let said = server.rapidclaw(&["status"]);
        if said.code() == Some(0) { Ok(()) } else { Err(said.to_string()) }
    });
    assert_eq!(server.turn("e2e-gone", &key, "t", "two"), "hello 2: one");
}
