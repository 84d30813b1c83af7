"""Graphs for the tests of the runner's contract: many frames, large ones, odd ones, none read."""

import hashlib
import operator
import threading
from typing import Annotated, Any, TypedDict

from graphs import chain
from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt
from stories import gate, say

from rapidclaw_runner import current_run

STEPS = 40


class Steps(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    steps: Annotated[list[int], operator.add]


async def step(state):
    return {"steps": [len(state.get("steps", []))]}


def tell(state):
    steps = state["steps"]
    assert steps == list(range(len(steps))), steps
    return {"messages": [AIMessage(content=f"{len(steps)} steps")]}


_stepping = StateGraph(Steps)
_stepping.add_node("step", step)
_stepping.add_node("tell", tell)
_stepping.add_edge(START, "step")
_stepping.add_conditional_edges("step", lambda state: "tell" if len(state["steps"]) % STEPS == 0 else "step")
_stepping.add_edge("tell", END)
stepping = _stepping.compile()


class Kept(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    kept: bytes


def keep(state):
    """`N` keeps so many MiB; each turn tells what the turn before kept, as a digest."""
    before = state.get("kept", b"")
    size = int(state["messages"][-1].content) << 20
    block = hashlib.sha256(str(size).encode()).digest()
    answer = f"{len(before) >> 20} {hashlib.sha256(before).hexdigest()[:8]}"
    return {"kept": block * (size // len(block)), "messages": [AIMessage(content=answer)]}


_keeping = StateGraph(Kept)
_keeping.add_node("keep", keep)
_keeping.add_edge(START, "keep")
_keeping.add_edge("keep", END)
keeping = _keeping.compile()


async def be_odd(state):
    """Frames that no gateway knows: one that nobody waits for, one whose answer is waited for."""
    import asyncio

    run = current_run.get()
    run.send("later", {"thing": 1})
    try:
        await asyncio.wrap_future(run.request("hindsight", {"thing": 2}))
    except Exception as error:  # noqa: BLE001 - what it is is the answer
        return say(f"{type(error).__name__}: {error}")
    return say("it was understood")


odd = chain(be_odd=be_odd).compile()


def nest(state):
    value: Any = "deep"
    for _ in range(int(state["messages"][-1].content)):
        value = [value]
    interrupt(value)


deep = chain(nest=nest).compile()


async def stop_reading(state):
    """Asks for more than any socket takes, and reads no answer."""
    run = current_run.get()
    run.session.connection.receive = lambda: []
    asked = {"thread_id": run.thread_id, "ns": "", "limit": 1}

    def ask():
        while not run.ended:
            run.block_while_paused()
            run.request("read", dict(asked))

    threading.Thread(target=ask, daemon=True).start()
    await gate()
    return say("it went on")


deaf = chain(stop_reading=stop_reading).compile()
