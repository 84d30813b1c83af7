//! What a project asks of the process it runs in, in a real replica: one image whose requirements pin a
//! `websockets` that the runner could not use, and bring uvloop along.

use crate::machine::{Project, Server};
use serde_json::{Value, json};

const CODE: &str = r#"import asyncio
import importlib.metadata
import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import time

import httpx
import nest_asyncio
import websockets
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import MemorySaver
from langgraph.graph import START, MessagesState, StateGraph


def one(node, **how):
    return StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile(**how)


def square(number):
    return number * number


helper = one(lambda state: {"messages": [AIMessage(f"heard {len(state['messages'])}")]}, checkpointer=MemorySaver())


def downloads():
    with open(os.path.expanduser("~/.cache/x/y")) as file:
        found = file.read().strip()
    with open(os.path.expanduser("~/.cache/x/z"), "w") as file:
        file.write("new")
    return found


async def look(state, config):
    nest_asyncio.apply()
    begun = time.monotonic()
    names = [socket.gethostbyname(socket.gethostname()), socket.getfqdn() != ""]
    names_took = time.monotonic() - begun
    spawned = await asyncio.to_thread(lambda: multiprocessing.get_context("spawn").Pool(1).apply(square, (5,)))
    mine = {"configurable": {"thread_id": config["configurable"]["thread_id"] + "-helper"}}
    return {"messages": [AIMessage(json.dumps({
        "loop": type(asyncio.get_running_loop()).__module__,
        "nested": asyncio.get_event_loop().run_until_complete(asyncio.sleep(0, 7)),
        "websockets": [websockets.__version__, importlib.metadata.version("websockets")],
        "names": names + [names_took < 2],
        "hash": hash("a"),
        "zone": time.tzname[0],
        "hosts": [os.environ["NO_PROXY"], os.environ.get("HTTPS_PROXY"), os.environ.get("OPENAI_PROXY"), os.environ.get("SSL_CERT_FILE")],
        "downloads": downloads(),
        "gateway": httpx.get("http://127.0.0.1:4180/nothing").status_code,
        "spawned": spawned,
        "helper": helper.invoke({"messages": [("human", "x")]}, mine)["messages"][-1].content,
        "own": sorted({name.split(".")[0] for name in sys.modules} & {"orjson", "uvloop"}),
    }))]}


def run_from_tmp(state):
    shutil.copy("/bin/true", "/tmp/true")
    return {"messages": [AIMessage(str(subprocess.run(["/tmp/true"]).returncode))]}


def write_root(state):
    open("/opt/cache.bin", "w")


def ask_here(state):
    httpx.get("http://localhost:11434/api")


def call_out(state):
    httpx.get("https://not-allowed.example.com")


graph, tmp, root, out, here = one(look), one(run_from_tmp), one(write_root), one(call_out), one(ask_here)
"#;

#[test]
fn a_project_finds_the_process_as_if_it_were_alone_in_it() {
    let server = Server::start();
    let hash = "PYTHONHASHSEED=7\nTZ=Asia/Kathmandu\nHTTPS_PROXY=http://10.0.0.1:3128\nHTTP_PROXY=http://10.0.0.1:3128\nOPENAI_PROXY=http://10.0.0.1:3128\nSSL_CERT_FILE=/Users/ann/ca.pem\n";
    let project = Project::new("marks").graph(CODE).env(hash);
    project.write(
        "requirements.txt",
        "langgraph>=1.0,<2\nlangchain-core>=1,<2\nwebsockets==10.4\nnest_asyncio\nuvicorn[standard]\nhttpx\n",
    );
    let graphs = json!({ "marks": "./agent.py:graph", "tmp": "./agent.py:tmp", "root": "./agent.py:root", "out": "./agent.py:out", "here": "./agent.py:here" });
    let lines = json!(["RUN mkdir -p ~/.cache/x && echo found > ~/.cache/x/y"]);
    let project = project.set("graphs", graphs).set("dockerfile_lines", lines);
    let deployed = server.deploy(&project).ok();
    let deployed = deployed.says(
        "not used: HTTPS_PROXY, HTTP_PROXY, OPENAI_PROXY (a proxy has to be among rapidclaw.security.allowed_hosts)",
    );
    let key = deployed.key();

    for heard in ["heard 1", "heard 3"] {
        let told: Value = serde_json::from_str(&server.turn("marks", &key, "t", "look")).unwrap();
        assert_eq!(told["loop"], "asyncio.unix_events");
        assert_eq!(told["nested"], 7);
        assert_eq!(told["websockets"], json!(["10.4", "10.4"]));
        assert_eq!(told["names"], json!(["127.0.0.1", true, true]));
        assert_eq!(told["zone"], "+0545");
        assert_eq!(told["hosts"], json!(["127.0.0.1,localhost", null, null, null]));
        assert_eq!(told["downloads"], "found");
        assert_eq!(told["gateway"], 404);
        assert_eq!(told["spawned"], 25);
        assert_eq!(told["helper"], heard);
    }
    for (graph, hint) in [
        ("tmp", "nothing can be executed from /tmp"),
        ("root", "the root file system is read-only"),
        ("out", "not-allowed.example.com"),
        ("here", "is the replica itself"),
    ] {
        let body = json!({ "graph": graph, "message": "x", "thread_id": graph, "user_id": "u" });
        let failed = server.chat("marks", &key, &body);
        // The caller is not told how the agent is run; its operator is.
        assert!(failed.status == 500 && !failed.text.contains(hint), "{graph}: {failed:?}");
        let shown = server.rapidclaw(&["runs", "show", failed.body["run_id"].as_str().unwrap()]).ok().out;
        assert!(shown.lines().any(|line| line.starts_with("hint: ") && line.contains(hint)), "{graph}: {shown}");
        let log = server.rapidclaw(&["logs", "marks"]).ok().out;
        assert!(log.lines().any(|line| line.contains("rapidclaw: hint:") && line.contains(hint)), "{graph}:\n{log}");
    }
}
