"""Graphs that ask humans, in every shape, and what befalls them."""

import asyncio
import json
import os
import time
from pathlib import Path
from typing import TypedDict

from graphs import State, chain
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt

GATE = Path(os.environ.get("QUESTIONS_GATE", "/nonexistent"))
"""A file that the test makes when graphs may go on."""
FLAW = Path(os.environ.get("QUESTIONS_FLAW", "/nonexistent"))
"""While it is there, what was approved fails."""


async def gate():
    deadline = time.monotonic() + 60
    while not GATE.exists():
        assert time.monotonic() < deadline, f"nobody has opened {GATE}"
        await asyncio.sleep(0.01)


def flaw():
    if FLAW.exists():
        raise ValueError("the other side is not there")


def heard(name, answer):
    return {"log": [f"{name}={answer}"]}


def said(state):
    return {"messages": [AIMessage(content=" ".join(state["log"]))]}


def question(name):
    async def ask(state):
        return heard(name, interrupt(f"{name}?"))

    return ask


async def wait(state):
    await gate()
    return {}


# One question after the other, each in a node of its own.
apart = chain(one=question("one"), wait=wait, two=question("two"), said=said).compile()


async def both(state):
    first = interrupt("one?")
    flaw()
    await gate()
    second = interrupt("two?")
    return {"log": [f"one={first}", f"two={second}"]}


# Both in one node: LangGraph runs it from its start after each answer.
together = chain(both=both, said=said).compile()

# The same below a root node, whose checkpoint does not move meanwhile.
below_apart = chain(tools=chain(one=question("one"), wait=wait, two=question("two")).compile(), said=said).compile()
below_together = chain(tools=chain(both=both).compile(), said=said).compile()


def _side_by_side(*nodes):
    graph = StateGraph(State)
    graph.add_node("said", said)
    for node in nodes:
        graph.add_node(node.__name__, node)
        graph.add_edge(START, node.__name__)
    graph.add_edge([node.__name__ for node in nodes], "said")
    graph.add_edge("said", END)
    return graph.compile()


async def left(state):
    return heard("left", interrupt({"question": "left?"}))


async def right(state):
    return heard("right", interrupt({"question": "right?"}))


async def slow(state):
    """Keeps the super-step from its end."""
    await gate()
    return {}


side_by_side = _side_by_side(left, right)
both_and_slow = _side_by_side(both, slow)


async def approve(state):
    answer = interrupt({"delete": "all"})
    flaw()
    await asyncio.sleep(float(os.environ.get("QUESTIONS_SLEEP", "0")))
    return heard("deleted", answer)


approval = chain(approve=approve, said=said).compile()
own = chain(approve=approve, said=said).compile(checkpointer=InMemorySaver())


async def guarded(state):
    return {"log": ["guarded"]}


def begun(state):
    return {"log": ["begun"]}


breakpoint_before = chain(begun=begun, guarded=guarded, said=said).compile(interrupt_before=["guarded"])
breakpoint_after = chain(begun=begun, guarded=guarded, said=said).compile(interrupt_after=["begun"])


def deep(state):
    value = "bottom"
    for _ in range(int(state["messages"][-1].content)):
        value = [value]
    return heard("deep", interrupt(value))


nested = chain(deep=deep).compile()


class Context(TypedDict, total=False):
    tone: str


def tell(state, config, runtime: Runtime[Context]):
    metadata, configurable = config["metadata"], config["configurable"]
    told = {
        "tone": (runtime.context or {}).get("tone"),
        "flavour": configurable.get("flavour"),
        "ticket": metadata.get("ticket"),
        "user": metadata.get("user_id"),
        "tags": "urgent" in config.get("tags", []),
        "limit": config["recursion_limit"],
    }
    return {"messages": [AIMessage(content=json.dumps(told))]}


_telling = StateGraph(State, context_schema=Context)
_telling.add_node("tell", tell)
_telling.add_edge(START, "tell")
telling = _telling.compile()


class Letter(TypedDict):
    letter: dict
    answer: str


def reply(state):
    approved = interrupt(f"answer {state['letter']['from']}?")
    return {"answer": f"{approved}, {state['letter']['from']}"}


_letters = StateGraph(Letter)
_letters.add_node("reply", reply)
_letters.add_edge(START, "reply")
letters = _letters.compile()


class PrivateError(Exception):
    """Not one of those whose messages callers see."""


def leak(state):
    said = state["messages"][-1].content
    raise (PrivateError if said == "privately" else ValueError)("no access with sk-the-agents-own-secret")


leaky = chain(leak=leak).compile()
