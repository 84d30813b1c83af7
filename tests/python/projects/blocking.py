"""Nodes that hold the graph loop, and that leave processes behind."""

import os
import re
import subprocess
import sys
import time
from typing import Any, TypedDict

from langgraph.graph import START, StateGraph

MB = 1 << 20


class State(TypedDict, total=False):
    way: str
    size: int
    said: Any
    a: bytes
    b: bytes


def deeper(seconds):
    time.sleep(seconds)  # the line that is named


def sleeping(seconds):
    return subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds})"], start_new_session=True).pid


def burning():
    return subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True).pid


async def hold(state):
    way, size = state["way"], state.get("size", 0)
    if way == "sleep":
        deeper(5)
    elif way == "regex":
        re.match(r"(a+)+$", "a" * 40 + "b")
    elif way == "process":
        return {"said": sleeping(60)}
    elif way == "burner":
        return {"said": burning()}
    elif way == "pid":
        return {"said": os.getpid()}
    elif way in ("a", "b"):
        return {way: b"x" * size}
    return {"said": way}


_graph = StateGraph(State)
_graph.add_node("hold", hold)
_graph.add_edge(START, "hold")
graph = _graph.compile()
