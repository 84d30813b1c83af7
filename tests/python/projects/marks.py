"""Graphs that look for what the runner leaves behind in the project's process."""

import asyncio
import importlib.metadata
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from typing import TypedDict

from langgraph.graph import START, StateGraph

STARTED = {"hash": hash("a"), "zone": time.tzname[0], "path": list(sys.path), "optimize": sys.flags.optimize}


class State(TypedDict, total=False):
    ask: str
    said: object


def own_handler(number, frame):
    with open(os.environ["MARK_FILE"], "a") as file:
        file.write("the project's handler\n")


def one(node):
    graph = StateGraph(State)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    return graph.compile()


def started(state):
    return {"said": STARTED}


def modules(state):
    names = ("websockets", "orjson", "ormsgpack")
    found = {name: getattr(sys.modules.get(name), "__file__", None) for name in names}
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    import websockets

    return {"said": {"files": found, "versions": versions, "imported": websockets.__version__}}


async def the_loop(state):
    loop = asyncio.get_running_loop()
    process = await asyncio.create_subprocess_exec("/bin/echo", "child", stdout=subprocess.PIPE)
    told, _ = await process.communicate()
    return {"said": [type(loop).__module__, told.decode(), signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL]}


def double(number):
    return number * 2, signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, threads(), sockets()


def threads():
    import threading

    return [thread.name for thread in threading.enumerate() if thread.name.startswith("rapidclaw")]


def sockets():
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith("socket:"):
            found.append(target)
    return found


def run_children(state):
    with multiprocessing.get_context(state["ask"]).Pool(1) as pool:
        return {"said": pool.apply(double, (21,))}


async def children_of_the_loop(state):
    return run_children(state)


def fork(state):
    """A child that the project forgets: it lives on when the node has ended."""
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    return {"said": child}


def inherited(state):
    told = subprocess.run(
        [sys.executable, "-c", "import os; print(sorted(os.listdir('/proc/self/fd')))"],
        close_fds=False, capture_output=True, text=True,
    )  # fmt: skip
    return {"said": [told.stdout, "RAPIDCLAW_LIFELINE" in os.environ]}


started, modules, the_loop = one(started), one(modules), one(the_loop)
children, children_of_the_loop = one(run_children), one(children_of_the_loop)
fork, inherited = one(fork), one(inherited)

if os.environ.get("MARK_FILE"):
    signal.signal(signal.SIGTERM, own_handler)
