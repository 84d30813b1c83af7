//! Ways in which an agent, a caller or a stranger harmed others once, each tried beside a well-behaved neighbour
//! whose every turn must succeed. Printed as a table: what was tried, how often the neighbour was answered
//! meanwhile, and its slowest turn.

use crate::machine::{Project, Server, post, try_post, until};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Does what its message names.
const BREAKER: &str = r#"import asyncio
import ctypes
import os
import re
import subprocess
import sys
import threading

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt

MINE = "/run/rapidclaw/r"


class State(MessagesState, total=False):
    ballast: list


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def deep_folders():
    folder, made = os.open(MINE, os.O_DIRECTORY), 0
    try:
        for made in range(60_000):
            os.mkdir("d", dir_fd=folder)
            below = os.open("d", os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = below
    except OSError as error:
        print("folders:", made, error)
    os._exit(1)


def full_folder():
    number = 0
    try:
        for number in range(1_000_000):
            with open(f"{MINE}/f{number}", "wb") as file:
                file.write(b"x" * 65536)
    except OSError as error:
        return f"{error.strerror} after {number}"
    return "no end"


def no_descriptors():
    kept = []
    try:
        while True:
            kept.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        for one in kept:
            os.close(one)
        return error.strerror


def connections():
    import socket
    kept = []
    for name in ("models.sock", "egress.sock"):
        for _ in range(600):
            one = socket.socket(socket.AF_UNIX)
            one.settimeout(0.2)
            try:
                one.connect(f"/run/rapidclaw/s/{name}")
                kept.append(one)
            except OSError:
                break
    MINE_KEPT.append(kept)
    return f"{len(kept)} connections"


MINE_KEPT = []


async def answer(state: State, config) -> dict:
    what, more = state["messages"][-1].content, {}
    if what == "exit":
        sys.exit(3)
    elif what == "leave":
        os._exit(7)
    elif what == "segfault":
        ctypes.string_at(0)
    elif what == "memory":
        kept = []
        while True:
            kept.append(bytearray(os.urandom(1 << 20) * 16))
    elif what == "folders":
        await asyncio.to_thread(deep_folders)
    elif what == "full":
        what = await asyncio.to_thread(full_folder)
    elif what == "question":
        what = str(interrupt(nested(250)))
    elif what == "deep":
        more = {"ballast": nested(400)}
    elif what == "ballast":
        more = {"ballast": ["x" * (2 << 20)]}
    elif what == "history":
        read = [one async for one in graph.aget_state_history(config)]
        what = f"{len(read)} states"
    elif what == "many":
        more = {"ballast": list(range(200_000))}
    elif what == "descriptors":
        what = await asyncio.to_thread(no_descriptors)
    elif what == "connections":
        what = await asyncio.to_thread(connections)
    elif what == "children":
        for _ in range(4):
            subprocess.Popen([sys.executable, "-c", "while True: pass"])
        threading.Thread(target=re.match, args=(r"(a+)+$", "a" * 25 + "b"), daemon=True).start()
    elif what == "noise":
        for _ in range(200_000):
            print("\x1b[2J\x1b]0;taken\x07" + "n" * 200)
    return {"messages": [AIMessage(what)], **more}


graph = StateGraph(State).add_node(answer).add_edge(START, "answer").compile()
"#;

struct LastTurn<'a>(&'a AtomicBool);

impl Drop for LastTurn<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Suite {
    server: Server,
    breaker_key: String,
    neighbour_key: String,
    table: String,
}

impl Suite {
    /// Tries a way while the neighbour talks; then the breaker, too, must answer again.
    fn tries(&mut self, way: &str, attack: impl FnOnce(&Self) -> String) {
        let over = AtomicBool::new(false);
        let this = &*self;
        let (outcome, (turns, slowest)) = std::thread::scope(|scope| {
            let talk = scope.spawn(|| this.neighbour_talks(&over));
            // However the attack ends, the neighbour's talk ends.
            let last_turn = LastTurn(&over);
            let outcome = attack(this);
            until(&format!("{way}: the breaker answers again"), || {
                let body = json!({ "thread_id": "calm", "user_id": "ann", "message": "hi" });
                match try_post(&this.chat_url("e2e-breaker"), &[("x-api-key", &this.breaker_key)], &body) {
                    Ok(answer) if answer.status == 200 => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            });
            drop(last_turn);
            (outcome, talk.join().unwrap())
        });
        let _ = writeln!(self.table, "{way:<28} {turns:>5} {:>8} ms   {outcome}", slowest.as_millis());
    }

    fn neighbour_talks(&self, over: &AtomicBool) -> (usize, Duration) {
        let (mut turns, mut slowest) = (0, Duration::ZERO);
        // At least one turn after the way has been tried.
        loop {
            let last = over.load(Ordering::Relaxed);
            let began = Instant::now();
            let said = self.server.turn("e2e-neighbour", &self.neighbour_key, "long", "hi");
            assert!(said.starts_with("hello "), "{said}");
            slowest = slowest.max(began.elapsed());
            turns += 1;
            if last {
                return (turns, slowest);
            }
        }
    }

    fn chat_url(&self, agent: &str) -> String {
        format!("{}/agents/{agent}/v1/chat", self.server.agents_url)
    }

    /// What the breaker's caller gets.
    fn breaks(&self, thread: &str, message: &str) -> String {
        let body = json!({ "thread_id": thread, "user_id": "ann", "message": message });
        match try_post(&self.chat_url("e2e-breaker"), &[("x-api-key", &self.breaker_key)], &body) {
            Ok(answer) => {
                let kind = answer.body["error"]["type"].as_str().or(answer.body["result"].as_str());
                format!("{} {}", answer.status, kind.unwrap_or_default().chars().take(40).collect::<String>())
            }
            Err(error) => format!("{error}"),
        }
    }

    /// The resident memory of the server that runs now.
    fn resident_kib(&self) -> u64 {
        let file = std::fs::read_to_string(self.server.machine.data_dir().join("server.json")).unwrap();
        let file: Value = serde_json::from_str(&file).unwrap();
        let status = std::fs::read_to_string(format!("/proc/{}/status", file["pid"])).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.server.agents_url.trim_start_matches("http://")).unwrap()
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "the table is what it is for")]
fn each_way_harms_only_whoever_tries_it() {
    let server = Server::start();
    let limits = json!({ "memory": "512MiB" });
    let breaker = Project::new("e2e-breaker").graph(BREAKER).set("rapidclaw.resources", limits);
    let breaker_key = server.deploy(&breaker).ok().key();
    let neighbour = Project::new("e2e-neighbour");
    let neighbour_key = server.deploy(&neighbour).ok().key();
    let head = format!("{:<28} {:>5} {:>11}   {}\n", "way", "turns", "slowest", "what it got");
    let mut suite = Suite { server, breaker_key, neighbour_key, table: head };

    // An agent's ways.
    for way in [
        "exit",
        "leave",
        "segfault",
        "memory",
        "folders",
        "full",
        "question",
        "deep",
        "many",
        "descriptors",
        "connections",
        "children",
        "noise",
    ] {
        suite.tries(way, |suite| suite.breaks(way, way));
    }
    suite.tries("a history of large states", |suite| {
        for _ in 0..12 {
            suite.breaks("ballast", "ballast");
        }
        suite.breaks("ballast", "history")
    });
    suite.tries("restart beside a full folder", |suite| {
        let full = suite.breaks("full", "full");
        let before = suite.server.containers_of("e2e-neighbour");
        suite.server.rapidclaw(&["server", "restart"]).ok();
        assert_eq!(suite.server.containers_of("e2e-neighbour"), before);
        full
    });

    // A caller's ways.
    suite.tries("a body nested deep", |suite| {
        let depth = 100_000;
        let body = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let mut stream = suite.connect();
        let head = format!(
            "POST /agents/e2e-breaker/v1/chat HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            suite.breaker_key,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        first_line(&mut stream)
    });
    suite.tries("escapes in names", |suite| {
        let body = json!({ "thread_id": "a\u{1b}[2Jb\r\nforged", "user_id": "ann", "message": "hi" });
        let answer = post(&suite.chat_url("e2e-breaker"), &[("x-api-key", &suite.breaker_key)], &body);
        let listed = suite.server.rapidclaw(&["threads", "e2e-breaker"]).ok().out;
        assert!(!listed.contains('\u{1b}') && !listed.contains('\r'), "{listed:?}");
        answer.status.to_string()
    });

    // A stranger's ways.
    suite.tries("1,200 idle connections", |suite| {
        let idle: Vec<TcpStream> = (0..1200).map_while(|_| connect_if_let(suite)).collect();
        let count = idle.len();
        // The neighbour talks beside them.
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(2) {
            suite.server.turn("e2e-neighbour", &suite.neighbour_key, "beside", "hi");
        }
        format!("{count} made")
    });
    suite.tries("60 bodies without a key", |suite| {
        let before = suite.resident_kib();
        let body = vec![b' '; 1 << 20];
        let streams: Vec<TcpStream> = (0..60)
            .map_while(|_| {
                let mut stream = connect_if_let(suite)?;
                let head = "POST /agents/e2e-breaker/v1/chat HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 16000000\r\n\r\n";
                stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
                stream.write_all(head.as_bytes()).ok()?;
                for _ in 0..15 {
                    if stream.write_all(&body).is_err() {
                        break;
                    }
                }
                Some(stream)
            })
            .collect();
        let grown = suite.resident_kib().saturating_sub(before) >> 10;
        assert!(grown < 50, "the server grew by {grown} MiB for {} strangers", streams.len());
        format!("the server grew by {grown} MiB")
    });
    println!("{}", suite.table);
}

fn connect_if_let(suite: &Suite) -> Option<TcpStream> {
    TcpStream::connect(suite.server.agents_url.trim_start_matches("http://")).ok()
}

fn first_line(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut bytes = [0; 256];
    let read = stream.read(&mut bytes).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..read]).lines().next().unwrap_or_default().to_owned()
}
