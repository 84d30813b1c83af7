//! What changes under load, and what is killed: no user notices. The real binary, Docker Engine, Postgres.

use crate::machine::{self, EFFECT, Effects, Project, Server, docker_said, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Four steps. The second is a tool that does something outside, under its step's key.
const STEPS: &str = r#"import asyncio, os, operator
from typing import Annotated, TypedDict
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode

PAUSE = float(os.environ.get("PAUSE", "0.05"))

class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    steps: Annotated[list[str], operator.add]

def said(state):
    return [m.content for m in state["messages"] if m.type == "human"]

async def ask(state):
    await asyncio.sleep(PAUSE)
    call = {"name": "charge", "args": {"what": said(state)[-1]}, "id": f"call-{len(said(state))}"}
    return {"steps": ["ask"], "messages": [AIMessage("", tool_calls=[call])]}

@tool
async def charge(what: str) -> str:
    """Charges somebody for something."""
    key, result = await effect(what)
    # Whoever is killed here has done it and not said so.
    await asyncio.sleep(PAUSE)
    return f"{key} {result}"

async def wait(state):
    await asyncio.sleep(PAUSE)
    return {"steps": ["wait"]}

async def answer(state):
    await asyncio.sleep(PAUSE)
    return {"steps": ["answer"], "messages": [AIMessage(f"VERSION {len(said(state))}: {said(state)[-1]}")]}

builder = StateGraph(State)
builder.add_node("ask", ask)
builder.add_node("tools", ToolNode([charge]))
builder.add_node("wait", wait)
builder.add_node("answer", answer)
order = [START, "ask", "tools", "wait", "answer", END]
for one, two in zip(order, order[1:]):
    builder.add_edge(one, two)
graph = builder.compile()
"#;

const CLIENTS: usize = 8;

fn project(effects: &Effects, version: &str, pause: &str) -> Project {
    Project::new("steps")
        .replicas(2)
        .set("rapidclaw.security.allowed_hosts", json!([effects.host()]))
        .graph(&format!("{EFFECT}{}", STEPS.replace("VERSION", version)))
        .env(&format!("{}PAUSE={pause}\n", effects.env()))
}

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    /// Turns that were answered, by thread.
    turns: BTreeMap<String, usize>,
    /// Requests without an answer, by the turn's key: when they failed.
    cut: Vec<(String, Instant)>,
    /// The run that answered a turn which was cut.
    repeated: BTreeMap<String, String>,
    /// What may not happen.
    failed: Vec<String>,
}

/// One client: turn after turn on a thread of its own, each under a key. A request whose connection was cut
/// is repeated under the same key; any other answer than 200 is a failure.
fn client(url: &str, key: &str, number: usize, stop: &AtomicBool, seen: &Mutex<Seen>) {
    let thread = format!("client-{number}");
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let message = format!("{thread} says {turn}");
        let idempotency = format!("{thread}/{turn}");
        let began = Instant::now();
        let mut was_cut = false;
        let answer = loop {
            match ask(url, key, &idempotency, &thread, &message) {
                Ok(answer) if answer.status == 200 => break answer,
                Ok(answer) => return seen.lock().unwrap().failed.push(format!("{idempotency}: {answer:?}")),
                Err(_) => seen.lock().unwrap().cut.push((idempotency.clone(), Instant::now())),
            }
            was_cut = true;
            if began.elapsed() > Duration::from_secs(90) {
                return seen.lock().unwrap().failed.push(format!("{idempotency}: no answer"));
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        let mut seen = seen.lock().unwrap();
        let result = answer.body["result"].as_str().unwrap_or_default().to_owned();
        if !result.ends_with(&format!(" {turn}: {message}")) {
            return seen.failed.push(format!("{idempotency}: {result}"));
        }
        if was_cut {
            seen.repeated.insert(idempotency, answer.body["run_id"].as_str().unwrap().to_owned());
        }
        seen.turns.insert(thread.clone(), turn);
    }
}

fn ask(url: &str, key: &str, idempotency: &str, thread: &str, message: &str) -> reqwest::Result<machine::Answer> {
    let body = json!({ "thread_id": thread, "user_id": "u", "message": message });
    machine::try_post(url, &[("x-api-key", key), ("idempotency-key", idempotency)], &body)
}

/// Counts from the final states: every thread's messages whole, in order, once; every step of every turn
/// once; every effect in exactly one of them, with the one result that it has.
fn whole(server: &Server, effects: &Effects, key: &str, turns: &BTreeMap<String, usize>) {
    let mut told = BTreeMap::new();
    for (thread, count) in turns {
        let body = json!({ "thread_id": thread, "user_id": "u", "message": "the end", "full": true });
        let values = server.chat("steps", key, &body).ok().body["values"].clone();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut messages = values["messages"].as_array().unwrap().iter();
        for turn in 1..=count + 1 {
            let said = if turn > *count { "the end".to_owned() } else { format!("{thread} says {turn}") };
            let mut next = |kind: &str| {
                let message = messages.next().unwrap_or_else(|| panic!("{thread} ends at turn {turn}"));
                assert_eq!(message["type"], kind, "{thread}, turn {turn}: {message}");
                message
            };
            assert_eq!(text(&next("human")["content"]), said, "{thread}");
            assert_eq!(next("ai")["tool_calls"][0]["args"]["what"], said, "{thread}");
            let result = text(&next("tool")["content"]);
            let (step, result) = result.split_once(' ').unwrap_or_else(|| panic!("{thread}, turn {turn}: {result}"));
            let before = told.insert(step.to_owned(), (said.clone(), result.parse::<usize>().unwrap()));
            assert_eq!(before, None, "two turns with the effect of {step}");
            assert!(text(&next("ai")["content"]).ends_with(&format!(" {turn}: {said}")), "{thread}");
        }
        assert_eq!(messages.next(), None, "{thread} has more than was said");
        let steps: Vec<&str> = values["steps"].as_array().unwrap().iter().map(|step| step.as_str().unwrap()).collect();
        assert_eq!(steps, ["ask", "wait", "answer"].repeat(count + 1), "{thread}");
    }
    let done: BTreeMap<String, (String, usize)> =
        effects.done().into_iter().map(|(step, effect)| (step, (effect.what, effect.result))).collect();
    assert_eq!(told, done, "what the threads tell is what was done");
}

#[test]
fn under_load_no_change_and_no_kill_loses_or_repeats_anything() {
    // Given an agent under the load of eight clients, with a tool that acts outside.
    machine::need_docker();
    let effects = Effects::start();
    let mut server = Server::with(&[&effects.resolve()]);
    let key = server.deploy(&project(&effects, "v1", "0.05")).ok().key();
    let (stop, seen) = (AtomicBool::new(false), Mutex::new(Seen::default()));
    let calm = |server: &Server, what: &str| {
        let before: usize = seen.lock().unwrap().turns.values().sum();
        until(what, || {
            let seen = seen.lock().unwrap();
            let turns: usize = seen.turns.values().sum();
            if turns >= before + CLIENTS || !seen.failed.is_empty() { Ok(()) } else { Err(format!("{turns} turns")) }
        });
        assert_eq!(seen.lock().unwrap().failed, Vec::<String>::new(), "{what}; the server:\n{}", server.log());
    };

    let url = format!("{}/agents/steps/v1/chat", server.agents_url);
    let mut killed = None;
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (url, key, stop, seen) = (&url, &key, &stop, &seen);
            scope.spawn(move || client(url, key, number, stop, seen));
        }
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            calm(&server, "the first turns");
            // When it is changed, taken back, scaled, given a new secret, and restarted,
            server.deploy(&project(&effects, "v2", "0.05")).ok();
            calm(&server, "turns after a deploy");
            server.rapidclaw(&["rollback", "--agent", "steps"]).ok();
            calm(&server, "turns after a rollback");
            server.rapidclaw(&["scale", "steps", "1"]).ok();
            calm(&server, "turns after scaling down");
            server.rapidclaw(&["scale", "steps", "auto"]).ok();
            calm(&server, "turns after scaling up");
            server.deploy(&project(&effects, "v1", "0.04")).ok();
            calm(&server, "turns after a change of secrets");
            server.rapidclaw(&["server", "restart"]).ok();
            calm(&server, "turns after a restart");
            // (nothing of that was noticed, and no tool was called twice,)
            assert_eq!(seen.lock().unwrap().cut, []);
            assert!(effects.done().values().all(|effect| effect.calls == 1), "{:?}", effects.done());
            // and when a replica and the server are killed,
            let one = server.containers_of("steps").into_iter().next().unwrap();
            docker_said(&["kill", &one]);
            calm(&server, "turns after a replica's end");
            assert_eq!(seen.lock().unwrap().cut, [], "the dead replica's runs were answered by another");
            let status = server.rapidclaw(&["server", "status", "--json"]).ok().json();
            server.pid = status["server"]["pid"].to_string();
            killed = Some(Instant::now());
            server.kill();
            server.start_again();
            let started = Instant::now();
            calm(&server, "turns after the server's end");
            assert!(
                seen.lock().unwrap().cut.iter().all(|(_, when)| *when <= started),
                "{:?}",
                seen.lock().unwrap().cut
            );
        }));
        stop.store(true, Ordering::Relaxed);
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });

    // then no request failed but those that the killed server held: one of each client at most,
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen.failed, Vec::<String>::new());
    let mut cut: Vec<&str> = seen.cut.iter().map(|(turn, _)| turn.as_str()).collect();
    assert!(seen.cut.iter().all(|(_, when)| Some(*when) >= killed));
    cut.sort_unstable();
    cut.dedup();
    let threads: std::collections::BTreeSet<&str> = cut.iter().filter_map(|turn| turn.split('/').next()).collect();
    assert!(!cut.is_empty() && cut.len() == threads.len(), "{cut:?}");
    // which got their run's answer when they were repeated with their key, and get it again;
    assert_eq!(seen.repeated.keys().map(String::as_str).collect::<Vec<_>>(), cut);
    for (turn, run) in &seen.repeated {
        let (thread, number) = turn.split_once('/').unwrap();
        let again = ask(&url, &key, turn, thread, &format!("{thread} says {number}")).unwrap().ok();
        assert_eq!(again.body["run_id"].as_str().unwrap(), run);
    }
    let turns: usize = seen.turns.values().sum();
    let runs = server.query("SELECT count(*) FROM runs WHERE idempotency_key IS NOT NULL AND status = 'success'");
    assert_eq!(usize::try_from(runs).unwrap(), turns, "a run for each turn");
    // and every thread is whole.
    assert_eq!(seen.turns.len(), CLIENTS);
    whole(&server, &effects, &key, &seen.turns);
}
