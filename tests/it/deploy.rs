//! From a project to an agent that answers, with the real binary, Docker Engine and Postgres.

mod elsewhere;
mod endings;
mod examples;
mod layouts;
mod projects;
mod reports;
mod tutorial;

use crate::machine::{self, ECHO, Project, STUB_KEY, Server, docker, docker_said, get, post, repository, said, until};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const STATUS_LINE: &str = r"^\S+ v\d+ (starting|running|degraded|rolling|sleeping|failed|stopped) \d+ replicas? p95=(-|\d+(\.\d+)?m?s) \$(-|\d+\.\d{5})/turn$";

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else if entry.file_name() != ".env" {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Dollars of all that the stub was asked, at gpt-4o's prices of a million tokens.
fn dollars(requests: &[Value]) -> f64 {
    let tokens =
        |request: &Value, kind: &str| f64::from(u32::try_from(request["usage"][kind].as_u64().unwrap()).unwrap());
    requests
        .iter()
        .map(|one| (tokens(one, "prompt_tokens") * 2.5 + tokens(one, "completion_tokens") * 10.0) / 1e6)
        .sum()
}

#[test]
fn the_example_goes_to_production() {
    // Given the example with its secrets, and a server on which nothing is deployed.
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    copy(&repository().join("manifests/example"), folder.path());
    std::fs::write(folder.path().join(".env"), format!("OPENAI_API_KEY={STUB_KEY}\nOPENAI_MODEL=gpt-4o\n")).unwrap();
    assert_eq!(server.rapidclaw(&["status"]).ok().out, "");

    // When it is deployed.
    let manifest = folder.path().join("langgraph.json");
    let deployed = server.rapidclaw(&["deploy", "--manifest", manifest.to_str().unwrap()]).ok();

    // Then three replicas serve behind a key that is shown this once, and what is not enforced is named.
    let deployed = deployed
        .prints("agent v1 live in ")
        .prints(&format!("url: {}/agents/agent\n", server.agents_url))
        .says("python 3.13 of the base image is used, the manifest asks for 3.12")
        .says("not enforced yet: max_replicas")
        .says("not enforced yet: observability.otel");
    let key = deployed.key();
    assert!(key.starts_with("rck") && key.len() > 30, "{key}");
    assert_eq!(server.status("agent"), "agent v1 running 3 replicas p95=- $-/turn");
    server.rapidclaw(&["keys", "list", "agent"]).ok().prints("first\\x20deploy").hides(&key);

    // An answer needs the thread's memory, though another replica gives it.
    let say = |thread: &str, message: &str| {
        let body = json!({ "thread_id": thread, "user_id": "ada", "message": message });
        server.chat("agent", &key, &body).ok()
    };
    let first = say("memory", "My name is Ada");
    assert_eq!(first.body["result"], "Hello Ada, nice to meet you.");
    let second = say("memory", "What is my name?");
    assert_eq!(second.body["result"], "Your name is Ada.");
    assert_ne!(first.replica.unwrap(), second.replica.unwrap());
    assert_eq!(say("another", "What is my name?").body["result"], "I do not know your name.");
    let weather = say("tool", "What is the weather in Paris?");
    assert_eq!(weather.body["result"], "It is windy in Paris.");

    // The model was asked with the real key, and the turns cost what their tokens cost.
    let requests = server.stub.requests();
    assert_eq!(requests.len(), 5, "{requests:?}");
    assert!(requests.iter().all(|one| one["authorized"] == true && one["model"] == "gpt-4o"), "{requests:?}");
    let line = server.status("agent");
    assert!(regex::Regex::new(STATUS_LINE).unwrap().is_match(&line), "{line}");
    let per_turn = dollars(&requests) / 4.0;
    assert!(line.starts_with("agent v1 running 3 replicas p95="), "{line}");
    assert!(!line.contains("p95=-") && line.ends_with(&format!(" ${per_turn:.5}/turn")), "{line}, not {per_turn}");
    let status = server.rapidclaw(&["status", "--json"]).ok().json();
    let status = &status["agents"];
    let cost = status[0]["cost_per_turn"].as_f64().unwrap();
    assert!((cost - per_turn).abs() < 1e-9, "{cost}, not {per_turn}");
    assert_eq!(
        (&status[0]["runs"], &status[0]["ready"], &status[0]["state"]),
        (&json!(4), &json!(3), &json!("running"))
    );

    // A changed line is a new last layer; the dependencies below it stay as they are.
    let layers = |version: u32| -> Vec<String> {
        let filter = |name: &str, value: &str| format!("label=rapidclaw.{name}={value}");
        let (of_server, of_version) = (filter("server", &server.id), filter("version", &version.to_string()));
        let found = docker_said(&["ps", "-q", "--filter", &of_server, "--filter", &of_version]);
        let image = docker_said(&["inspect", "-f", "{{.Image}}", found.lines().next().unwrap()]);
        let history = docker_said(&["history", "--format", "{{.CreatedBy}}", &image]);
        assert!(history.starts_with("rapidclaw: the code"), "{history}");
        serde_json::from_str(&docker_said(&["image", "inspect", "-f", "{{json .RootFS.Layers}}", &image])).unwrap()
    };
    let first = layers(1);
    let code = folder.path().join("agent/graph.py");
    let text = std::fs::read_to_string(&code).unwrap();
    std::fs::write(&code, format!("{text}\n# {}\n", rapidclaw::base::ids::new_id())).unwrap();
    server.rapidclaw(&["deploy", "--manifest", manifest.to_str().unwrap()]).ok().prints("agent v2 live in ");
    let second = layers(2);
    assert_eq!((first.len(), &first[..first.len() - 1]), (second.len(), &second[..second.len() - 1]));
    assert_ne!(first.last(), second.last());
}

#[test]
fn what_did_not_change_is_not_deployed_again_and_what_did_is() {
    let server = Server::start();
    let project = Project::new("e2e-changes").replicas(2);
    let key = server.deploy(&project).ok().prints("e2e-changes v1 live in ").key();
    assert_eq!(server.turn("e2e-changes", &key, "t", "one"), "hello 1: one");
    let first = server.until_containers("e2e-changes", 2);

    // The same again: nothing happens, and no key is shown.
    server.deploy(&project).ok().prints("e2e-changes v1: nothing changed").hides("key: ");
    assert_eq!(server.containers_of("e2e-changes"), first);

    // Another value in .env alone: a release of the same image, whose replicas replace the others.
    let project = project.env("GREETING=bonjour\n");
    server.deploy(&project).ok().prints("e2e-changes v2 live with its new secrets in ").hides("bonjour");
    assert_eq!(server.turn("e2e-changes", &key, "t", "two"), "bonjour 2: one");
    assert_eq!(server.until_containers("e2e-changes", 2).intersection(&first).count(), 0);
    server.until_status("e2e-changes", "e2e-changes v2 running 2 replicas");

    // No .env, as in CI: the secrets of what serves stay, and a line says so.
    project.remove(".env");
    server.deploy(&project).ok().prints("e2e-changes v2: nothing changed").says("no .env here: the secrets of v2 stay");

    // Another graph: another release takes the first one's place, and threads go on in it.
    let project = project.graph(&ECHO.replace("AIMessage(f\"", "AIMessage(f\"v2 "));
    let deployed = server.deploy_with(&project, &["--json"]).ok().json();
    assert_eq!(
        (&deployed["version"], &deployed["outcome"], &deployed["key"]),
        (&json!(3), &json!("rollout"), &Value::Null)
    );
    let phases: Vec<&str> =
        deployed["phases"].as_array().unwrap().iter().map(|one| one["phase"].as_str().unwrap()).collect();
    assert_eq!(phases, ["build", "push", "start", "ready", "switch"]);
    assert_eq!(server.turn("e2e-changes", &key, "t", "three"), "v2 bonjour 3: one");
    server.until_status("e2e-changes", "e2e-changes v3 running 2 replicas");

    // The first one's replicas are kept for a while, so that going back is one switch.
    let kept = server.until_containers("e2e-changes", 4);
    server.rapidclaw(&["rollback", "--agent", "e2e-changes"]).ok().prints("v4");
    assert_eq!(server.turn("e2e-changes", &key, "t", "four"), "bonjour 4: one");
    assert_eq!(server.containers_of("e2e-changes"), kept);
    server.until_status("e2e-changes", "e2e-changes v4 running 2 replicas");

    // A release has the secrets that it was made with: who goes back to it gets them back, and those that are kept
    // for it have read them.
    let project = project.graph(ECHO).env("GREETING=ciao\n");
    server.deploy(&project).ok().prints("e2e-changes v5 live with its new secrets in ");
    let kept = server.until_containers("e2e-changes", 4);
    let back = server.rapidclaw(&["rollback", "v3", "--agent", "e2e-changes"]).ok().prints("v6");
    // What a rollback changes and leaves as it is, and how to undo it.
    back.says("secrets as they were at v3 again: GREETING (--keep-secrets keeps today's)")
        .says("not taken back: what v5 wrote into threads")
        .says("to undo this: rapidclaw rollback v5 --agent e2e-changes");
    assert_eq!(server.turn("e2e-changes", &key, "t", "five"), "v2 bonjour 5: one");
    assert_eq!(server.containers_of("e2e-changes"), kept);
    let back = server.rapidclaw(&["rollback", "v5", "--keep-secrets", "--agent", "e2e-changes"]).ok().prints("v7");
    back.says("secrets kept as they are, unlike those of v5: GREETING");
    assert_eq!(server.turn("e2e-changes", &key, "t", "six"), "bonjour 6: one");
    server.rapidclaw(&["rollback", "v9", "--agent", "e2e-changes"]).fails(1).says("v9");
}

#[test]
fn a_replica_that_is_killed_comes_back_and_nobody_is_turned_away() {
    let server = Server::start();
    let key = server.deploy(&Project::new("e2e-crash").replicas(2)).ok().key();
    let before = server.until_containers("e2e-crash", 2);
    assert_eq!(server.turn("e2e-crash", &key, "t", "one"), "hello 1: one");

    // When one replica is killed.
    docker_said(&["kill", before.first().unwrap()]);

    // Then every turn from now on is answered (the kill may fail what it cuts off, and nothing was under
    // way), until there are two again.
    let mut count = 1;
    until("two replicas", || {
        count += 1;
        assert_eq!(server.turn("e2e-crash", &key, "t", "next"), format!("hello {count}: one"));
        let (line, now) = (server.status("e2e-crash"), server.containers_of("e2e-crash"));
        let is_back = line.starts_with("e2e-crash v1 running 2 replicas") && now.len() == 2 && now != before;
        if is_back { Ok(()) } else { Err(format!("{line} {now:?}")) }
    });
    let after = server.containers_of("e2e-crash");
    assert_eq!(after.intersection(&before).count(), 1, "the other one was left alone");
    until("the dead replica's folder is gone", || match server.replica_folders() {
        folders if folders.len() == 2 => Ok(()),
        folders => Err(format!("{folders:?}")),
    });
}

#[test]
fn a_killed_server_finds_its_replicas_again_and_a_stopped_one_its_data() {
    let mut server = Server::start();
    let key = server.deploy(&Project::new("e2e-server").replicas(2)).ok().key();
    assert_eq!(server.turn("e2e-server", &key, "t", "one"), "hello 1: one");
    let before = server.until_containers("e2e-server", 2);

    // Killed and started again: the same replicas answer, and know the thread.
    server.kill();
    assert_eq!(server.containers_of("e2e-server"), before);
    server.start_again();
    assert_eq!(server.turn("e2e-server", &key, "t", "two"), "hello 2: one");
    server.until_status("e2e-server", "e2e-server v1 running 2 replicas");
    assert_eq!(server.containers_of("e2e-server"), before);

    // Killed, and one replica dies while nobody looks: it is missed.
    server.kill();
    docker_said(&["kill", before.first().unwrap()]);
    server.start_again();
    server.until_status("e2e-server", "e2e-server v1 running 2 replicas");
    let after = server.until_containers("e2e-server", 2);
    assert_eq!(after.intersection(&before).count(), 1);
    assert_eq!(server.turn("e2e-server", &key, "t", "three"), "hello 3: one");

    // A second start says that it runs; another server on the same data does not.
    server.rapidclaw(&["server", "start"]).ok().prints("already runs");

    // Stopped: no container, no folder of a replica, no Postgres; the data stay.
    server.rapidclaw(&["server", "stop"]).ok().prints("server stopped; all data stay");
    assert_eq!(server.containers(), BTreeSet::new());
    assert_eq!(server.replica_folders(), Vec::<std::path::PathBuf>::new());
    assert!(!server.machine.data_dir().join("postgres/data/postmaster.pid").exists());
    server.rapidclaw(&["server", "status"]).exits(1).prints("no server runs on this machine");
    server.rapidclaw(&["status"]).fails(5).says("cannot be reached");
    server.rapidclaw(&["server", "stop"]).ok().prints("no server runs on this machine");

    // Started: the agent is back, with its key and its threads.
    server.start_again();
    server.until_status("e2e-server", "e2e-server v1 running 2 replicas");
    assert_eq!(server.turn("e2e-server", &key, "t", "four"), "hello 4: one");
}

/// [`ECHO`], but a message that begins with "wait" takes its time.
fn patient() -> String {
    let wait = "    if said[-1].startswith('wait'):\n        await asyncio.sleep(4)\n    return {";
    format!("import asyncio\n{}", ECHO.replace("    return {", wait))
}

#[test]
fn a_run_that_is_cut_off_goes_on_and_is_said_once() {
    let mut server = Server::start();
    let name = "e2e-cut";
    let key = server.deploy(&Project::new(name).graph(&patient())).ok().key();
    let url = format!("{}/agents/{name}/v1/chat", server.agents_url);
    let in_flight = |server: &Server| {
        let (url, key) = (url.clone(), key.clone());
        let body = json!({ "thread_id": "t", "user_id": "u", "message": "wait" });
        let call = std::thread::spawn(move || machine::try_post(&url, &[("x-api-key", &key)], &body));
        until("the run is under way", || match server.query("SELECT count(*) FROM runs WHERE status = 'running'") {
            1 => Ok(()),
            count => Err(count.to_string()),
        });
        call
    };
    assert_eq!(server.turn(name, &key, "t", "one"), "hello 1: one");

    // The replica is killed: the run's next attempt answers the client that waits.
    let call = in_flight(&server);
    docker_said(&["kill", server.until_containers(name, 1).first().unwrap()]);
    assert_eq!(call.join().unwrap().unwrap().ok().body["result"], "hello 2: one");
    assert_eq!(server.query("SELECT max(attempt)::bigint FROM runs"), 2);
    assert_eq!(server.turn(name, &key, "t", "two"), "hello 3: one");

    // The server is killed: its client hears nothing, and the run ends in the next server.
    let call = in_flight(&server);
    server.kill();
    assert!(call.join().unwrap().is_err());
    server.start_again();
    assert_eq!(server.turn(name, &key, "t", "three"), "hello 5: one");

    // The server is stopped and started.
    let call = in_flight(&server);
    server.rapidclaw(&["server", "stop"]).ok();
    let stopped = call.join().unwrap();
    server.start_again();
    assert_eq!(server.turn(name, &key, "t", "four"), "hello 7: one", "{stopped:?}");
    assert_eq!(server.query("SELECT count(*) FROM runs WHERE status IN ('pending', 'running')"), 0);
    assert_eq!(server.query("SELECT count(DISTINCT id) FROM runs"), 7);
}

#[test]
fn only_its_own_keys_open_an_agent() {
    let server = Server::start();
    let first = server.deploy(&Project::new("e2e-one")).ok().key();
    let second = server.deploy(&Project::new("e2e-two")).ok().key();
    let body = json!({ "user_id": "u", "message": "hi" });
    let url = |agent: &str| format!("{}/agents/{agent}/v1/chat", server.agents_url);

    // Its own key, in both forms.
    assert_eq!(server.chat("e2e-one", &first, &body).ok().body["result"], "hello 1: hi");
    post(&url("e2e-one"), &[("authorization", &format!("Bearer {first}"))], &body).ok();
    // None, a wrong one, another agent's, the administrator's.
    let admin = std::fs::read_to_string(server.machine.data_dir().join("admin-token")).unwrap();
    post(&url("e2e-one"), &[], &body).problem(401, "not-authenticated");
    server.chat("e2e-one", "rck_wrong", &body).problem(401, "not-authenticated");
    server.chat("e2e-one", &second, &body).problem(403, "wrong-agent");
    server.chat("e2e-one", admin.trim(), &body).problem(401, "not-authenticated");
    // An agent that is not there: who has no key does not learn that.
    server.chat("e2e-none", &first, &body).problem(404, "no-such-agent");
    post(&url("e2e-none"), &[], &body).problem(401, "not-authenticated");
    // An agent's key opens nothing of the control API.
    for key in [&first, "rcadmin_wrong"] {
        let agents = get(&format!("{}/v1/agents", server.url), &[("authorization", &format!("Bearer {key}"))]);
        agents.problem(401, "not-authenticated");
    }
    get(&format!("{}/v1/agents", server.url), &[]).problem(401, "not-authenticated");

    // Nor does one agent run what was built for another: who may deploy the one would run the other's code.
    let built = server.rapidclaw(&["status", "e2e-one", "--json"]).ok().json();
    let image = &built["agents"][0]["image"];
    let manifest = json!({ "dependencies": ["."], "graphs": { "g": "./g.py:g" }, "rapidclaw": { "name": "e2e-two" } });
    let stolen = json!({ "manifest": manifest, "folder": "f", "image": image, "inputs_digest": "sha256:0" });
    let bearer = format!("Bearer {}", admin.trim());
    let deploys = format!("{}/v1/agents/e2e-two/deploys", server.url);
    assert!(image.as_str().is_some_and(|image| image.starts_with("sha256:")), "{built}");
    post(&deploys, &[("authorization", &bearer)], &stolen).problem(422, "no-such-image");

    // A second key works until it is revoked.
    let made = server.rapidclaw(&["keys", "create", "e2e-one", "--name", "ci", "--json"]).ok().json();
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    server.chat("e2e-one", key, &body).ok();
    let listed = server.rapidclaw(&["keys", "list", "e2e-one", "--json"]).ok().hides(key).json();
    let names: BTreeSet<&str> =
        listed["keys"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect();
    assert_eq!(names, BTreeSet::from(["ci", "first deploy"]));
    server.rapidclaw(&["keys", "revoke", "e2e-two", id]).exits(1).says("no key");
    server.chat("e2e-one", key, &body).ok();
    server.rapidclaw(&["keys", "revoke", "e2e-one", id]).ok().prints("opens nothing any more");
    server.chat("e2e-one", key, &body).problem(401, "not-authenticated");
    server.rapidclaw(&["keys", "revoke", "e2e-one", id]).exits(1).says("no key");
    server.chat("e2e-one", &first, &body).ok();
    server.rapidclaw(&["keys", "list", "e2e-none"]).fails(1).says("e2e-none");

    // Only /healthz answers without a key; a name that is not ours reaches nothing.
    for url in [&server.url, &server.agents_url] {
        assert_eq!(get(&format!("{url}/healthz"), &[]).ok().body["status"], "ok");
        for host in ["evil.example", "evil.example:4121", "127.0.0.1.evil.example"] {
            get(&format!("{url}/healthz"), &[("host", host)]).problem(421, "unknown-host");
        }
        get(&format!("{url}/healthz"), &[("host", "localhost:1")]).ok();
        get(&format!("{url}/nothing"), &[]).problem(404, "no-such-route");
    }
    assert_eq!(get(&format!("{}/agents/e2e-one/healthz", server.agents_url), &[]).ok().body["status"], "ok");
    assert_eq!(get(&format!("{}/agents/e2e-none/healthz", server.agents_url), &[]).status, 503);
}

const GRAPHS: &str = r#"import asyncio
import operator
import time
from typing import Annotated, TypedDict

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt


class Odd(Exception):
    pass


def one(node, state=MessagesState):
    return StateGraph(state).add_node("node", node).add_edge(START, "node").compile()


async def answer(state):
    return {"messages": [AIMessage(f"heard {len(state['messages'])}")]}


def public(state):
    raise ValueError("the message that may leave")


def private(state):
    raise Odd("password=hunter2-hunter2")


async def sleep(state):
    await asyncio.sleep(60)


def block(state):
    time.sleep(6)


def ask(state):
    said = interrupt({"question": "go on?"})
    return {"messages": [AIMessage(f"you said {said}")]}


class Plain(TypedDict):
    question: str
    depth: int


class Rich(MessagesState):
    tenant_id: str
    status: str
    tokens_budget: int
    depth: int
    log: Annotated[list[str], operator.add]


async def rich(state):
    return {"messages": [AIMessage("|".join(str(state[key]) for key in ("tenant_id", "status", "tokens_budget", "depth")))]}


loop = StateGraph(MessagesState).add_node("node", lambda state: {}).add_edge(START, "node").add_edge("node", "node").compile()
heard, raises, raises_odd, sleeps, blocks, asks = (one(node) for node in (answer, public, private, sleep, block, ask))
plain, filled = one(lambda state: {}, Plain), one(rich, Rich)
"#;

#[test]
fn a_turn_of_chat_in_every_way_it_can_end() {
    // Given an agent of many graphs, with ceilings.
    let server = Server::start();
    let names = ["heard", "raises", "raises_odd", "sleeps", "blocks", "asks", "plain", "filled", "loop"];
    let graphs: Value = names.iter().map(|name| ((*name).to_owned(), json!(format!("./agent.py:{name}")))).collect();
    let limits = json!({ "run_timeout": "2s", "recursion_limit": 7, "tokens_per_run": 5000 });
    let project = Project::new("e2e-chat").graph(GRAPHS).set("graphs", graphs).set("rapidclaw.limits", limits);
    let deployed = server.deploy(&project).ok().says("not enforced yet: limits.tokens_per_run");
    let deployed =
        deployed.says("graph plain: takes no `message`; /v1/chat with \"input\": {\"question\": …, \"depth\": …}");
    let deployed = deployed.says("graph heard: /v1/chat with `message` and \"graph\": \"heard\"");
    let key = deployed.key();
    let chat = |body: Value| server.chat("e2e-chat", &key, &body);
    let ask = |graph: &str, thread: &str| {
        chat(json!({ "graph": graph, "thread_id": thread, "user_id": "u", "message": "hi" }))
    };

    // Which graph is not clear, or not there.
    let unclear = chat(json!({ "user_id": "u", "message": "hi" })).problem(422, "graph-not-named");
    // In the manifest's order, though the database has kept it.
    assert!(unclear.body["detail"].as_str().unwrap().contains(&names.join(", ")), "{unclear:?}");
    chat(json!({ "graph": "none", "user_id": "u", "message": "hi" })).problem(422, "graph-not-named");
    // A graph that is not talked to says its keys.
    let plain = ask("plain", "p").problem(422, "graph-not-chat");
    assert!(plain.body["detail"].as_str().unwrap().contains("question, depth"), "{plain:?}");
    // Bodies that are none.
    let detail = |body: Value, status: u16, code: &str| chat(body).problem(status, code).body["detail"].to_string();
    assert!(detail(json!({ "graph": "heard", "message": "hi" }), 422, "field-invalid").contains("user_id"));
    assert!(detail(json!({ "graph": "heard", "user_id": "u" }), 422, "field-invalid").contains("message"));
    assert!(detail(json!({ "graph": "heard", "user_id": 5, "message": "hi" }), 422, "body-invalid").contains("string"));

    // A thread's name is kept as it was given, UUID or not; without one it is new.
    for thread in ["order 7/äöü ☃", "3f0c5f3e-9f5e-4d8e-9a55-2b8a4f6f7c11", "a'; DROP TABLE runs; --"] {
        assert_eq!(ask("heard", thread).ok().body["result"], "heard 1");
        let again = ask("heard", thread).ok();
        assert_eq!((&again.body["result"], &again.body["thread_id"]), (&json!("heard 3"), &json!(thread)));
        assert!(again.body.get("messages").is_none() && again.body.get("values").is_none(), "{again:?}");
    }
    let (one, other) =
        (chat(json!({ "graph": "heard", "user_id": "u", "message": "hi" })).ok(), ask("heard", "x").ok());
    assert_ne!(one.body["thread_id"], other.body["thread_id"]);
    assert_ne!(one.body["run_id"], other.body["run_id"]);

    // With `full` everything comes along.
    let full =
        chat(json!({ "graph": "heard", "thread_id": "full", "user_id": "u", "message": "hi", "full": true })).ok();
    assert_eq!(full.body["messages"].as_array().unwrap().len(), 2, "{full:?}");
    assert_eq!(full.body["values"]["messages"].as_array().unwrap().len(), 2, "{full:?}");
    // Keys of the graph's input beside the messages get their values.
    assert_eq!(ask("filled", "f").ok().body["result"], "default|running|5000|0");

    // What fails says the thread, the run and the kind of error; its message only where it may.
    let failed = ask("raises", "r").problem(500, "run-failed");
    assert_eq!(failed.body["error"], json!({ "type": "ValueError", "message": "the message that may leave" }));
    assert_eq!(failed.body["thread_id"], "r");
    assert!(failed.body["run_id"].as_str().unwrap().parse::<uuid::Uuid>().is_ok(), "{failed:?}");
    let odd = ask("raises_odd", "o").problem(500, "run-failed");
    assert_eq!(odd.body["error"], json!({ "type": "Odd" }));
    assert!(!odd.text.contains("hunter2"), "{odd:?}");
    let endless = ask("loop", "l").problem(500, "run-failed");
    assert_eq!(endless.body["error"]["type"], "GraphRecursionError");
    assert!(endless.text.contains("limit of 7"), "{endless:?}");
    for graph in ["sleeps", "blocks"] {
        let began = std::time::Instant::now();
        let late = ask(graph, graph).problem(504, "run-timeout");
        assert_eq!(late.body["thread_id"], graph);
        assert!(began.elapsed().as_secs_f64() < 5.5, "{graph}: {:?}", began.elapsed());
    }

    // An interrupt waits for the next message on its thread.
    let asked = ask("asks", "i").ok();
    assert_eq!(asked.body["result"], Value::Null);
    assert_eq!(asked.body["interrupts"][0]["value"], json!({ "question": "go on?" }), "{asked:?}");
    let body = json!({ "graph": "asks", "thread_id": "i", "user_id": "u", "message": "yes" });
    assert_eq!(chat(body).ok().body["result"], "you said yes");

    // The thread of a failed run is not lost.
    assert_eq!(ask("heard", "x").ok().body["result"], "heard 3");
    server.until_status("e2e-chat", "e2e-chat v1 running 1 replica ");
}

#[test]
fn a_destroyed_agent_leaves_nothing() {
    // Given two agents, one with a network of its own.
    let server = Server::start();
    let project = Project::new("e2e-gone").set("rapidclaw.security", json!({ "egress": "open" })).replicas(2);
    let key = server.deploy(&project).ok().says("egress is open").key();
    let kept = server.deploy(&Project::new("e2e-kept")).ok().key();
    server.turn("e2e-gone", &key, "t", "hi");
    server.turn("e2e-kept", &kept, "t", "hi");
    assert_eq!(server.networks().len(), 1);
    let schemas = "SELECT count(*) FROM information_schema.tables WHERE table_name = 'checkpoints'";
    assert_eq!(server.query(schemas), 2);

    // Nobody can be asked here: it must be said.
    server.rapidclaw(&["destroy", "e2e-gone"]).fails(2).says("--yes");
    server.turn("e2e-gone", &key, "t", "hi");

    // When it is destroyed.
    server.rapidclaw(&["destroy", "e2e-gone", "--yes"]).ok().prints("e2e-gone is destroyed");

    // Then there is nothing of it, and the other one is as it was.
    assert_eq!(server.containers_of("e2e-gone"), BTreeSet::new());
    assert_eq!(server.networks(), BTreeSet::new());
    assert_eq!(server.replica_folders().len(), 1);
    assert_eq!(server.query(schemas), 1);
    assert_eq!(server.query("SELECT count(*) FROM agents"), 1);
    assert_eq!(server.query("SELECT count(*) * 10 + (SELECT count(*) FROM secret_values) FROM secret_sets"), 11);
    server.chat("e2e-gone", &key, &json!({})).problem(401, "not-authenticated");
    server.chat("e2e-gone", &kept, &json!({})).problem(404, "no-such-agent");
    assert!(server.rapidclaw(&["status"]).ok().out.starts_with("e2e-kept v1 running 1 replica "));
    server.rapidclaw(&["status", "e2e-gone"]).fails(1);
    server.rapidclaw(&["destroy", "e2e-gone", "--yes"]).fails(1);
    server.turn("e2e-kept", &kept, "t", "hi");

    // A new agent of that name is new: v1, a new key, no memory.
    let deployed = server.deploy(&project).ok().prints("e2e-gone v1 live in ");
    assert_ne!(deployed.key(), key);
    assert_eq!(server.turn("e2e-gone", &deployed.key(), "t", "hi"), "hello 1: hi");
}

#[test]
fn a_build_with_an_unchanged_project_prints_the_same_image() {
    machine::need_docker();
    let machine = machine::Machine::new();
    let project = Project::new("e2e-build");
    let build = || said(machine.command().args(["build", "--json"]).current_dir(project.path())).ok().json();
    let (first, second) = (build(), build());
    assert_eq!((&first["image"], &first["inputs_digest"]), (&second["image"], &second["inputs_digest"]));
    assert_eq!(second["cached"], true);
    let image = first["image"].as_str().unwrap();
    assert!(docker(&["image", "inspect", image]).status.success());
    // A project in a repository: the image says of which commit it is.
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=e2e", "-c", "user.email=e2e@example.com"];
        let done = Command::new("git").args(identity).args(arguments).current_dir(project.path()).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "-q"]);
    git(&["commit", "-q", "--allow-empty", "-m", "one"]);
    project.write("agent.py", &format!("{ECHO}# {}\n", git(&["rev-parse", "HEAD"])));
    let label = ["image", "inspect", "-f", "{{index .Config.Labels \"org.opencontainers.image.revision\"}}"];
    let third = build();
    let image = third["image"].as_str().unwrap();
    assert_eq!(docker_said(&[&label[..], &[image]].concat()), git(&["rev-parse", "HEAD"]));
    docker(&["rmi", "-f", image]);
}
