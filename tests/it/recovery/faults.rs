//! The fault matrix: SIGKILL of each part in each phase of a deploy and of a rollback. What served before the
//! switch serves until it, what comes after serves from it on; rollouts end; runs are answered; nothing is left
//! behind; exit codes are those of DESIGN.md 4. One test a victim; the table is printed, and lies in
//! `target/fault-matrix.txt`.

mod cell;
mod hold;
mod proxy;
mod table;
mod world;

use crate::machine::{self, ECHO, Engine, Project, Said, Server, docker_said, need_docker, until};
use cell::{Phase, Work};
use hold::{Database, Gates};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use world::{Expected, LOAD, START, WELL, World};

/// Ended with SIGKILL: what it had begun goes on without it.
const KILLED: Expected = Expected { exit: None, new_serves: true, says: "" };
/// The rollout failed: what served before serves.
const FAILED: Expected = Expected { exit: Some(6), new_serves: false, says: "a replica ended with code 137" };

/// The socket of the engine that the test itself works with.
fn engine_socket() -> PathBuf {
    need_docker();
    let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
    let socket =
        host.strip_prefix("unix://").unwrap_or_else(|| panic!("DOCKER_HOST={host} is no socket of this machine"));
    Path::new(socket).to_owned()
}

#[test]
fn the_server() {
    // Given rollouts in all phases, when the server is killed and started again,
    let mut world = World::new(&engine_socket());
    let database = world.enter_phases(false);
    world.server.kill();
    database.release(true);
    world.proxy.release(START, true);
    world.proxy.release(LOAD, false);
    world.server.start_again();
    world.gates.open_all();
    // then the CLI has waited for it, and each rollout goes on to its end.
    table::print(&world.check("server", |_, _| WELL));
}

#[test]
fn a_server_that_stays_away() {
    // Given a rollout, and a CLI that watches it,
    need_docker();
    let mut server = Server::start();
    let gates = Gates::of(&server);
    let agent = "f-away";
    let project = Project::new(agent);
    let key = server.deploy(&project).ok().key();
    project.write(
        "agent.py",
        &format!("import os, time\nwhile not os.path.exists('/run/rapidclaw/r/load'): time.sleep(0.02)\n{ECHO}"),
    );
    gates.close(agent, "load");
    let mut command = server.machine.command();
    command
        .args(["deploy", "--timeout", "8"])
        .current_dir(project.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let cli = command.spawn().unwrap();
    let mut database = Database::of(&server);
    until("the phase ready", || match database.rollout(agent) {
        found if found == "running ready" => Ok(()),
        found => Err(found),
    });
    // when the server is killed and does not come back in time,
    server.kill();
    let output = cli.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    // then the CLI says what it does not know, and how to look,
    let said = Said::new("deploy", output.status.code(), text(&output.stdout), text(&output.stderr));
    said.fails(5)
        .says("cannot be reached")
        .says("the rollout goes on when the server is back")
        .says("rapidclaw rollouts");
    server.rapidclaw(&["rollback", "--agent", agent]).fails(5);
    // and the rollout goes on when the server is back.
    gates.open_all();
    server.start_again();
    server.until_status(agent, "f-away v2 running 1 replica ");
    assert_eq!(server.turn(agent, &key, "t", "hi"), "hello 1: hi");
}

#[test]
fn a_request_whose_answer_was_lost_finds_what_it_has_begun() {
    // Given two releases, and the requests that a CLI sends again when their answer does not come,
    need_docker();
    let server = Server::start();
    let agent = "f-again";
    let project = Project::new(agent);
    server.deploy(&project).ok();
    project.write("agent.py", &format!("{ECHO}# two\n"));
    server.deploy(&project).ok();
    let token = std::fs::read_to_string(server.machine.data_dir().join("admin-token")).unwrap();
    let authorization = format!("Bearer {}", token.trim());
    let twice = |what: &str, body: &Value| {
        let url = format!("{}/v1/agents/{agent}/{what}", server.url);
        let ask = || machine::post(&url, &[("authorization", &authorization)], body).ok().body;
        // The second meets the first's rollout under way, or ended.
        [ask(), ask()]
    };
    let versions =
        || server.rapidclaw(&["releases", agent, "--json"]).ok().json()["releases"].as_array().unwrap().len();
    // when each is sent twice, then it is done once, and both are told the same.
    let [one, two] = twice("rollbacks", &json!({ "rollout": uuid::Uuid::now_v7() }));
    assert_eq!((&one, &one["version"]), (&two, &json!(3)));
    server.until_status(agent, "f-again v3 running 1 replica ");
    let image = server.rapidclaw(&["status", "--json"]).ok().json()["agents"][0]["image"].clone();
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(project.path().join("langgraph.json")).unwrap()).unwrap();
    let deploy = json!({ "manifest": manifest, "folder": "f", "image": image, "inputs_digest": "sha256:other",
        "secrets": { "GREETING": "hello" }, "rollout": uuid::Uuid::now_v7() });
    let [one, two] = twice("deploys", &deploy);
    assert_eq!((&one["version"], &one["rollout"]), (&two["version"], &two["rollout"]));
    server.until_status(agent, "f-again v4 running 1 replica ");
    assert_eq!(versions(), 4);
}

#[test]
fn the_cli() {
    // Given rollouts in all phases, when the commands that began them are killed,
    let mut world = World::new(&engine_socket());
    let database = world.enter_phases(false);
    let ended: Vec<String> =
        world.cells.iter_mut().filter_map(|cell| (!cell.kill_cli()).then(|| cell.agent.clone())).collect();
    assert!(ended.iter().all(|agent| agent.contains("draining")), "{ended:?}");
    world.proxy.release(LOAD, true);
    world.proxy.release(START, false);
    database.release(false);
    world.gates.open_all();
    // then what was handed in goes on, and of what was not there is nothing.
    let expected = |_, phase| match phase {
        Phase::Build => Expected { new_serves: false, ..KILLED },
        Phase::Draining => WELL,
        _ => KILLED,
    };
    table::print(&world.check("CLI", expected));
}

#[test]
fn the_managed_postgres() {
    // Given rollouts in all phases, when Postgres is killed,
    let mut world = World::new(&engine_socket());
    let database = world.enter_phases(false);
    let file = world.server.machine.data_dir().join("postgres/data/postmaster.pid");
    let postmaster = move || std::fs::read_to_string(&file).ok()?.lines().next().map(str::to_owned);
    let before = postmaster().unwrap();
    assert!(Command::new("kill").args(["-KILL", &before]).status().unwrap().success());
    drop(database);
    world.proxy.release(LOAD, false);
    world.proxy.release(START, false);
    world.gates.open_all();
    // then the server starts it again, and all goes on.
    until("another Postgres", || match postmaster() {
        Some(now) if now != before => Ok(()),
        now => Err(format!("{now:?}; {}", world.server.log())),
    });
    until("the server's database", || {
        let said = world.server.rapidclaw(&["status"]);
        if said.code() == Some(0) { Ok(()) } else { Err(said.to_string()) }
    });
    table::print(&world.check("Postgres", |_, _| WELL));
}

#[test]
fn docker_engine() {
    // Given an engine of the test's own, and rollouts in all phases on it,
    need_docker();
    let machine = machine::Machine::new();
    let project = Project::new("f-engine");
    let mut command = machine.command();
    let built = machine::said(command.args(["build", "--json"]).current_dir(project.path())).ok().json();
    let mut engine = Engine::for_builds_of(built["image"].as_str().unwrap());
    let mut world = World::new(&engine.socket());
    let database = world.enter_phases(false);
    // when it is killed,
    engine.kill();
    world.proxy.release(LOAD, false);
    world.proxy.release(START, false);
    database.release(false);
    world.gates.open("load");
    // then the server says so, and what runs serves on without it;
    until("the server sees that the engine is away", || {
        let said = world.server.rapidclaw(&["status"]);
        if said.err.contains("Docker Engine cannot be reached") { Ok(()) } else { Err(said.to_string()) }
    });
    let doctor = world.server.rapidclaw(&["doctor"]).exits(1);
    assert!(doctor.out.lines().any(|line| line.starts_with("fail  Docker Engine")), "{doctor}");
    let idle = world.cells.iter().find(|cell| cell.phase == Phase::Build).unwrap();
    assert_eq!(world.server.turn(&idle.agent, &idle.key, "away", "hello"), "one 1: hello");
    world.server.rapidclaw(&["rollback", "--agent", &idle.agent]).exits(1);
    world.server.deploy(&idle.project).exits(5);
    // and when it is back, all that it took along is started again, and all goes on.
    engine.start_again();
    world.gates.open("go");
    let gone = Expected { exit: Some(5), new_serves: false, says: "hint: " };
    let expected = |_, phase| if phase == Phase::Build { gone } else { WELL };
    table::print(&world.check("Docker Engine", expected));
    drop(engine);
}

#[test]
fn the_new_replica() {
    // Given rollouts in all phases, when the replicas are killed that are to serve,
    let mut world = World::new(&engine_socket());
    let mut database = world.enter_phases(true);
    world.cells.retain(|cell| cell.phase != Phase::Build);
    for cell in &world.cells {
        let [_, new] = database.generations(&cell.agent);
        kill_replicas(&world, &cell.agent, |generation| generation == new);
    }
    world.proxy.release(LOAD, true);
    database.release(false);
    world.gates.open_all();
    // then a release whose replica dies before it was ever ready is not rolled out; one that was ready gets another.
    let expected = |work, phase| match (work, phase) {
        (Work::Deploy | Work::Rollback, Phase::Start | Phase::Ready) => FAILED,
        _ => WELL,
    };
    table::print(&world.check("replica, new", expected));
}

#[test]
fn the_old_replica() {
    // Given rollouts in all phases, when the replicas are killed that have served until then,
    let mut world = World::new(&engine_socket());
    let mut database = world.enter_phases(true);
    for cell in &world.cells {
        let [_, new] = database.generations(&cell.agent);
        kill_replicas(&world, &cell.agent, |generation| generation != new || cell.phase == Phase::Build);
    }
    world.proxy.release(LOAD, false);
    database.release(false);
    world.gates.open_all();
    // then others take their place, their runs go on there, and the rollouts go on.
    table::print(&world.check("replica, old", |_, _| WELL));
}

/// SIGKILL of an agent's replicas, by the rollout that made them.
fn kill_replicas(world: &World, agent: &str, is_meant: impl Fn(&str) -> bool) {
    let filters = [format!("label=rapidclaw.server={}", world.server.id), format!("label=rapidclaw.agent={agent}")];
    let format = "{{.ID}} {{.Label \"rapidclaw.rollout\"}}";
    let lines = docker_said(&["ps", "--format", format, "--filter", &filters[0], "--filter", &filters[1]]);
    let meant: Vec<&str> =
        lines.lines().filter_map(|line| line.split_once(' ')).filter(|one| is_meant(one.1)).map(|one| one.0).collect();
    assert_eq!(meant.len(), 1, "{agent}: {lines:?}");
    docker_said(&["kill", meant[0]]);
}
