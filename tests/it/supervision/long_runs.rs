//! Runs of minutes, and nodes that block what executes them. These tests wait; they compute nothing.

use crate::machine::{self, EFFECT, Effects, Project, Server, get, until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Twelve nodes of ten seconds; each tells the service that it was entered.
const LONG: &str = r#"
import asyncio, operator
from typing import Annotated, TypedDict
from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    steps: Annotated[list[str], operator.add]

def step(name):
    async def run(state):
        await effect(name)
        await asyncio.sleep(10)
        return {"steps": [name]}
    return run

async def answer(state):
    return {"messages": [AIMessage(f"VERSION: {state['messages'][-1].content}")]}

names = [f"node-{number:02}" for number in range(12)]
builder = StateGraph(State)
for name in names:
    builder.add_node(name, step(name))
builder.add_node("answer", answer)
order = [START, *names, "answer", END]
for one, two in zip(order, order[1:]):
    builder.add_edge(one, two)
graph = builder.compile()
"#;

fn until_entered(effects: &Effects, nodes: usize) {
    until("the run's nodes", || match effects.done().len() {
        count if count >= nodes => Ok(()),
        count => Err(count.to_string()),
    });
}

#[test]
fn a_run_of_two_minutes_crosses_a_deploy_and_no_node_is_executed_twice() {
    // Given a run of two minutes, and a release that drains for five seconds.
    machine::need_docker();
    let effects = Effects::start();
    let server = Server::with(&[&effects.resolve()]);
    let project = |version: &str| {
        Project::new("long")
            .set("rapidclaw.rollout", json!({ "drain_timeout": "5s" }))
            .set("rapidclaw.security.allowed_hosts", json!([effects.host()]))
            .graph(&format!("{EFFECT}{}", LONG.replace("VERSION", version)))
            .env(&effects.env())
    };
    let key = server.deploy(&project("v1")).ok().key();
    let body = json!({ "thread_id": "long", "user_id": "u", "message": "hello", "full": true });
    let names: Vec<String> = (0..12).map(|number| format!("node-{number:02}")).collect();
    std::thread::scope(|scope| {
        let long = scope.spawn(|| {
            let began = Instant::now();
            (server.chat("long", &key, &body), began.elapsed())
        });
        until_entered(&effects, 3);
        // When a new release is rolled out meanwhile,
        server.deploy(&project("v2")).ok();

        // then the client gets its answer, from the new release,
        let (answer, took) = long.join().unwrap();
        let answer = answer.ok();
        assert_eq!(answer.body["result"], "v2: hello");
        assert_eq!(answer.body["values"]["steps"], json!(names));
        assert!(took >= Duration::from_secs(120), "{took:?}");
    });
    // and no node was entered twice: neither those that were finished nor the one that was under way.
    let done = effects.done();
    let mut entered: Vec<(&str, usize)> = done.values().map(|effect| (effect.what.as_str(), effect.calls)).collect();
    entered.sort_unstable();
    assert_eq!(entered, names.iter().map(|name| (name.as_str(), 1)).collect::<Vec<_>>());
    assert_eq!(server.query("SELECT count(*) FROM attempts"), 2);
}

/// A node that sleeps on the loop, and one that holds the interpreter in a C call (`PyDLL` keeps its lock).
const BLOCKING: &str = r#"
import ctypes, time, operator
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
        await effect(said)
        time.sleep(60)
    elif said == "hold":
        await effect(said)
        left = 20
        while left:
            left = ctypes.PyDLL(None).sleep(left)
    return {"entered": 1, "messages": [AIMessage(f"done {said}")]}

builder = StateGraph(State)
builder.add_node("node", node)
builder.add_edge(START, "node")
builder.add_edge("node", END)
graph = builder.compile()
"#;

fn blocks(how: &str, seconds: u64) {
    // Given three replicas, one of which executes a node that blocks its loop, or the whole interpreter.
    machine::need_docker();
    let effects = Effects::start();
    let server = Server::with(&[&effects.resolve()]);
    let project = Project::new("blocking")
        .replicas(3)
        .set("rapidclaw.security.allowed_hosts", json!([effects.host()]))
        .graph(&format!("{EFFECT}{BLOCKING}"))
        .env(&effects.env());
    let key = server.deploy(&project).ok().key();
    let containers = server.until_containers("blocking", 3);
    let body = json!({ "thread_id": how, "user_id": "u", "message": how, "full": true });
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| {
            let began = Instant::now();
            (server.chat("blocking", &key, &body), began.elapsed())
        });
        until_entered(&effects, 1);
        // When others talk to the agent meanwhile,
        let mut others = Vec::new();
        while !blocked.is_finished() {
            let body: Value =
                json!({ "thread_id": format!("{how}-{}", others.len()), "user_id": "u", "message": "hi" });
            let began = Instant::now();
            let answer = server.chat("blocking", &key, &body).ok();
            others.push((answer.replica.unwrap(), began.elapsed()));
            // and ask how it is,
            for url in
                [format!("{}/healthz", server.agents_url), format!("{}/agents/blocking/healthz", server.agents_url)]
            {
                let began = Instant::now();
                get(&url, &[]).ok();
                assert!(began.elapsed() < Duration::from_secs(2), "{url}: {:?}", began.elapsed());
            }
            std::thread::sleep(Duration::from_millis(250));
        }
        let (answer, took) = blocked.join().unwrap();
        let answer = answer.ok();
        // then the node was executed once, for as long as it takes,
        assert_eq!(
            (&answer.body["result"], &answer.body["values"]["entered"]),
            (&json!(format!("done {how}")), &json!(1))
        );
        assert!(took >= Duration::from_secs(seconds), "{took:?}");
        assert_eq!(effects.done().values().map(|effect| effect.calls).sum::<usize>(), 1);
        // and all but the few that came before it fell silent went to the others, and were answered at once.
        let busy = answer.replica.unwrap();
        let astray = others.iter().filter(|(replica, _)| *replica == busy).count();
        assert!(astray <= 2 && others.len() >= 10, "{astray} of {} waited behind it", others.len());
        let slow: Vec<_> =
            others.iter().filter(|(replica, took)| *replica != busy && *took > Duration::from_secs(5)).collect();
        assert!(slow.is_empty(), "{slow:?}");
    });
    assert_eq!(server.containers_of("blocking"), containers, "no replica was given up");
    assert_eq!(server.query("SELECT count(*) FROM attempts WHERE state <> 'ended'"), 0);
    assert_eq!(server.query("SELECT count(*) FROM runs WHERE attempt > 1"), 0);
}

#[test]
fn a_node_that_sleeps_on_the_loop_for_a_minute_is_executed_once_and_others_go_on() {
    blocks("sleep", 60);
}

#[test]
fn a_c_call_that_holds_the_interpreter_is_executed_once_and_others_go_on() {
    blocks("hold", 20);
}
