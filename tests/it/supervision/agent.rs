//! An agent that does to its replica what it is told, so that all tests here share one image.

use crate::machine::{Project, Server};
use serde_json::{Value, json};

/// One word a message: what is done in the node. Anything else is answered.
const CODE: &str = r#"import asyncio, ctypes, json, os, re, signal, socket, time

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt

HELD = []
WAITING = [0, 0]


def sockets(name):
    """Descriptors of this process that are connections at the socket of that name."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            with socket.socket(fileno=os.dup(fd)) as one:
                if one.family == socket.AF_UNIX and str(one.getsockname()).endswith(name) and not one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    yield fd
        except OSError:
            pass


def fill(folder):
    made = 0
    try:
        while made < 100_000:
            with open(f"{folder}/{made}", "wb") as file:
                file.write(b"x" * 65536)
            made += 1
    except OSError as error:
        return f"{made} files: {error.strerror}"
    return f"{made} files"


def flood(seconds):
    """Frames of 400 kB with 200,000 values each, as fast as they are taken."""
    from rapidclaw_runner import current_run

    run, sent, until = current_run.get(), 0, time.monotonic() + seconds
    while time.monotonic() < until:
        run.block_while_paused()
        run.send("event", {"mode": "custom", "ns": ["a"] * 200_000, "data": b"null"})
        sent += 1
    return f"{sent} frames"


# Numbers of x86-64, where they are not those of all: with arguments that would do no harm.
CALLS = {
    "vsock": (41, 40, 1, 0), "packet": (41, 17, 3, 0), "alg": (41, 38, 5, 0), "unix": (41, 1, 1, 0), "inet6": (41, 10, 1, 0),
    "io_uring": (425, 1, 0), "keyctl": (250, 0, 0), "bpf": (321, 0, 0, 0), "userfaultfd": (323, 0), "unshare": (272, 0x10000000),
    "perf": (298, 0, 0, 0), "ptrace": (101, 0, 0, 0), "clone3": (435, 0, 0), "getpid": (39,),
}


def refused(name):
    libc = ctypes.CDLL(None, use_errno=True)
    ctypes.set_errno(0)
    result = libc.syscall(*CALLS[name])
    return os.strerror(ctypes.get_errno()) if result < 0 else "allowed"


async def act(state: MessagesState) -> dict:
    said = [message.content for message in state["messages"] if message.type == "human"]
    word, _, rest = said[-1].partition(" ")
    done = "well"
    if word == "exit":
        await asyncio.sleep(0.2)
        os._exit(7)
    elif word == "segfault":
        ctypes.string_at(0)
    elif word == "memory":
        while True:
            HELD.append(bytearray(os.urandom(1)) * (8 << 20))
    elif word == "spin":
        while True:
            pass
    elif word == "regex":
        re.match("(a+)+$", "a" * 64 + "b")
    elif word == "sleep":
        time.sleep(float(rest))
    elif word == "wait":
        WAITING[0] += 1
        WAITING[1] = max(WAITING)
        await asyncio.sleep(float(rest))
        WAITING[0] -= 1
    elif word == "waited":
        done = f"{WAITING[1]} at once"
    elif word == "hold":
        while not os.path.exists(f"/tmp/{rest}"):
            await asyncio.sleep(0.05)
    elif word == "flood":
        done = await asyncio.to_thread(flood, float(rest))
    elif word == "ask":
        done = f"{rest} {interrupt(rest)}"
    elif word == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif word == "cut" and not os.path.exists(f"/tmp/{rest}"):
        open(f"/tmp/{rest}", "w").close()  # the next attempt does it not
        cut = list(sockets("runner.sock"))
        for fd in cut:
            with socket.socket(fileno=os.dup(fd)) as one:
                one.shutdown(socket.SHUT_RDWR)
        await asyncio.sleep(1)
    elif word == "fill":
        done = fill("/run/rapidclaw/r")
    elif word == "syscalls":
        done = json.dumps({name: refused(name) for name in rest.split()})
    elif word == "fail":
        raise KeyError(rest)
    elif word == "unlink":
        for name in os.listdir("/run/rapidclaw/r"):
            os.unlink(f"/run/rapidclaw/r/{name}")
    return {"messages": [AIMessage(f"{done} {len(said)}")]}


graph = StateGraph(MessagesState).add_node(act).add_edge(START, "act").compile()
"#;

/// The agent, with so many replicas.
pub fn project(name: &str, replicas: u32) -> Project {
    Project::new(name).replicas(replicas).graph(CODE)
}

/// A turn that may fail: what was answered.
pub fn turn(server: &Server, agent: &str, key: &str, thread: &str, message: &str) -> crate::machine::Answer {
    let body: Value = json!({ "thread_id": thread, "user_id": "tester", "message": message });
    server.chat(agent, key, &body)
}
