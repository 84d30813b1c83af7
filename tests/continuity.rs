//! What changes under load, and what is killed: no user notices. The real binary, Docker Engine, Postgres.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod machine;

use machine::{Project, Server, docker_said, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Four steps; each writes its name and, by a tool's hand, one line under the step's idempotency key.
const STEPS: &str = r#"import asyncio, json, os, operator
from typing import Annotated, TypedDict
from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

PAUSE = float(os.environ.get("PAUSE", "0.05"))

class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    steps: Annotated[list[str], operator.add]

def step(name):
    async def run(state):
        print("entered", name, len(state["messages"]), flush=True)
        await asyncio.sleep(PAUSE)
        if name != "d":
            return {"steps": [name]}
        said = [m.content for m in state["messages"] if m.type == "human"]
        return {"steps": [name], "messages": [AIMessage(f"VERSION {len(said)}: {said[-1]}")]}
    return run

builder = StateGraph(State)
for name in "abcd":
    builder.add_node(name, step(name))
builder.add_edge(START, "a")
for one, two in zip("abc", "bcd"):
    builder.add_edge(one, two)
builder.add_edge("d", END)
graph = builder.compile()
"#;

fn steps(version: &str) -> String {
    STEPS.replace("VERSION", version)
}

/// One client: turn after turn on a thread of its own, each under a key; a connection that was cut is
/// tried again under the same key.
fn client(agents_url: &str, key: &str, number: usize, stop: &AtomicBool, seen: &Mutex<Seen>) {
    let thread = format!("client-{number}");
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let message = format!("{thread} says {turn}");
        let body = json!({ "thread_id": thread, "user_id": "u", "message": message });
        let idempotency = format!("{thread}/{turn}");
        let headers = [("x-api-key", key), ("idempotency-key", idempotency.as_str())];
        let url = format!("{agents_url}/agents/steps/v1/chat");
        let began = Instant::now();
        let answer = loop {
            match machine::try_post(&url, &headers, &body) {
                Ok(answer) if answer.status == 200 => break answer,
                Ok(answer) if answer.status == 503 => seen.lock().unwrap().told_to_repeat += 1,
                Ok(answer) => {
                    seen.lock().unwrap().failed.push(format!("{idempotency}: {}", answer.text));
                    return;
                }
                Err(_) => seen.lock().unwrap().cut += 1,
            }
            if began.elapsed() > Duration::from_secs(90) {
                seen.lock().unwrap().failed.push(format!("{idempotency}: no answer"));
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        let result = answer.body["result"].as_str().unwrap_or_default().to_owned();
        if !result.ends_with(&format!("{turn}: {message}")) {
            seen.lock().unwrap().failed.push(format!("{idempotency}: {result}"));
            return;
        }
        seen.lock().unwrap().turns.insert(thread.clone(), turn);
    }
}

#[derive(Default)]
struct Seen {
    turns: BTreeMap<String, usize>,
    cut: usize,
    told_to_repeat: usize,
    failed: Vec<String>,
}

/// Every thread's messages whole, in order, once; every step of every turn once.
fn whole(server: &Server, key: &str, turns: &BTreeMap<String, usize>) {
    for (thread, count) in turns {
        let body = json!({ "thread_id": thread, "user_id": "u", "message": "the end", "full": true });
        let values = server.chat("steps", key, &body).ok().body["values"].clone();
        let said: Vec<&str> = values["messages"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|message| message["type"] == "human")
            .map(|message| message["content"].as_str().unwrap())
            .collect();
        let mut wanted: Vec<String> = (1..=*count).map(|turn| format!("{thread} says {turn}")).collect();
        wanted.push("the end".to_owned());
        assert_eq!(said, wanted, "{thread}");
        let steps: String = values["steps"].as_array().unwrap().iter().map(|step| step.as_str().unwrap()).collect();
        assert_eq!(steps, "abcd".repeat(count + 1), "{thread}");
    }
}

#[test]
fn under_load_no_change_and_no_kill_loses_or_repeats_anything() {
    // Given an agent under the load of eight clients.
    let mut server = Server::start();
    let project = Project::new("steps").replicas(2).graph(&steps("v1")).env("PAUSE=0.05\n");
    let key = server.deploy(&project).ok().key();
    let (stop, seen) = (AtomicBool::new(false), Mutex::new(Seen::default()));
    let calm = |server: &Server, what: &str| {
        let before: usize = seen.lock().unwrap().turns.values().sum();
        until(what, || {
            let seen = seen.lock().unwrap();
            let turns: usize = seen.turns.values().sum();
            if turns >= before + 8 || !seen.failed.is_empty() { Ok(()) } else { Err(format!("{turns} turns")) }
        });
        assert_eq!(seen.lock().unwrap().failed, Vec::<String>::new(), "{what}; the server:\n{}", server.log());
    };

    let at = server.agents_url.clone();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (at, key, stop, seen) = (&at, &key, &stop, &seen);
            scope.spawn(move || client(at, key, number, stop, seen));
        }
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            calm(&server, "the first turns");
            // When it is changed, taken back, scaled, given a new secret, and restarted,
            let next = Project::new("steps").replicas(2).graph(&steps("v2")).env("PAUSE=0.05\n");
            server.deploy(&next).ok();
            calm(&server, "turns after a deploy");
            server.rapidclaw(&["rollback", "--agent", "steps"]).ok();
            calm(&server, "turns after a rollback");
            server.rapidclaw(&["scale", "steps", "1"]).ok();
            calm(&server, "turns after scaling down");
            server.rapidclaw(&["scale", "steps", "auto"]).ok();
            calm(&server, "turns after scaling up");
            let other = Project::new("steps").replicas(2).graph(&steps("v1")).env("PAUSE=0.04\n");
            server.deploy(&other).ok();
            calm(&server, "turns after a change of secrets");
            assert_eq!(seen.lock().unwrap().cut, 0, "no connection was cut so far");
            server.rapidclaw(&["server", "restart"]).ok();
            calm(&server, "turns after a restart");
            assert_eq!(seen.lock().unwrap().cut, 0, "nor by the restart");
            // and when a replica and the server are killed,
            let one = server.containers_of("steps").into_iter().next().unwrap();
            docker_said(&["kill", &one]);
            calm(&server, "turns after a replica's end");
            let status = server.rapidclaw(&["server", "status", "--json"]).ok().json();
            server.pid = status["server"]["pid"].to_string();
            server.kill();
            server.start_again();
            calm(&server, "turns after the server's end");
        }));
        stop.store(true, Ordering::Relaxed);
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });

    // then every request was answered, and every thread is whole.
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen.failed, Vec::<String>::new());
    assert_eq!(seen.turns.len(), 8);
    whole(&server, &key, &seen.turns);
}

#[test]
fn a_run_that_outlives_the_drain_goes_on_in_the_new_release() {
    // Given a run whose nodes take 4 s, and a release that drains for one second.
    let server = Server::start();
    let project = |version: &str| {
        Project::new("steps")
            .set("rapidclaw.rollout", json!({ "drain_timeout": "1s" }))
            .graph(&steps(version))
            .env("PAUSE=4\n")
    };
    let key = server.deploy(&project("v1")).ok().key();
    let body = json!({ "thread_id": "long", "user_id": "u", "message": "hello", "full": true });
    std::thread::scope(|scope| {
        let long = scope.spawn(|| server.chat("steps", &key, &body));
        until("the run", || match server.query("SELECT count(*) FROM runs WHERE status = 'running'") {
            1 => Ok(()),
            other => Err(other.to_string()),
        });
        // When a new release is rolled out meanwhile,
        server.deploy(&project("v2")).ok();

        // then the client gets its answer, from the new release, and no finished node was executed again.
        let answer = long.join().unwrap().ok();
        assert_eq!(answer.body["result"], "v2 1: hello");
        assert_eq!(answer.body["values"]["steps"], json!(["a", "b", "c", "d"]));
    });
    assert_eq!(server.query("SELECT count(*) FROM attempts"), 2);
}

const BLOCKING: &str = r#"import time, operator, hashlib
from typing import Annotated, TypedDict
from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    entered: Annotated[int, operator.add]

async def node(state):
    said = state["messages"][-1].content
    if said == "sleep":
        time.sleep(15)
    elif said == "hold":
        # A C call that holds the interpreter lock all the while.
        end = time.monotonic() + 15
        while time.monotonic() < end:
            sum(range(60_000_000))
    return {"entered": 1, "messages": [AIMessage(f"done {said}")]}

builder = StateGraph(State)
builder.add_node("node", node)
builder.add_edge(START, "node")
builder.add_edge("node", END)
graph = builder.compile()
"#;

#[test]
fn a_node_that_blocks_is_executed_once_and_others_go_on() {
    // Given two replicas, one of which executes a node that blocks its loop, or the whole interpreter.
    let server = Server::start();
    let project = Project::new("blocking").replicas(2).graph(BLOCKING);
    let key = server.deploy(&project).ok().key();
    for how in ["sleep", "hold"] {
        let body = json!({ "thread_id": how, "user_id": "u", "message": how, "full": true });
        std::thread::scope(|scope| {
            let blocked = scope.spawn(|| server.chat("blocking", &key, &body));
            until("the run", || match server.query("SELECT count(*) FROM runs WHERE status = 'running'") {
                1 => Ok(()),
                other => Err(other.to_string()),
            });
            // When others talk to the agent meanwhile,
            let mut others = 0;
            while !blocked.is_finished() {
                others += 1;
                let began = Instant::now();
                let body: Value = json!({ "thread_id": format!("{how}-{others}"), "user_id": "u", "message": "hi" });
                server.chat("blocking", &key, &body).ok();
                // then all but the few that were given to the blocked replica before it fell silent are
                // answered at once by the other,
                assert!(
                    others < 4 || began.elapsed() < Duration::from_secs(5),
                    "{how}: {others}: {:?}",
                    began.elapsed()
                );
            }
            // and the node was executed once.
            let answer = blocked.join().unwrap().ok();
            assert_eq!(
                (answer.body["result"].as_str().unwrap(), &answer.body["values"]["entered"]),
                (format!("done {how}").as_str(), &json!(1))
            );
        });
    }
    assert_eq!(server.query("SELECT count(*) FROM attempts WHERE state <> 'ended'"), 0);
    assert_eq!(server.query("SELECT count(*) FROM runs WHERE attempt > 1"), 0);
}
