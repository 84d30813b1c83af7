"""One graph whose node does what it is told: every way in which project code ends, or its values go wrong."""

import asyncio
import concurrent.futures
import operator
import threading
import time
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.errors import GraphDrained
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt
from pydantic import BaseModel, model_serializer


class Schemaless:
    """pydantic can make no schema of it."""


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[str], operator.add]
    way: str
    value: Any
    total: Annotated[int, operator.add]


class Stop(BaseException):
    pass


class Unprintable(Exception):
    def __str__(self):
        return self.response.text

    __repr__ = __str__


class NoText(Exception):
    def __str__(self):
        return 7


class Exiting(Exception):
    def __str__(self):
        raise SystemExit(9)

    __repr__ = __str__


class Endless(Exception):
    def __str__(self):
        return "x" * (70 << 20)


class Unshowable:
    def __repr__(self):
        raise RuntimeError("not to be shown")


class Undumpable(BaseModel):
    x: int = 1

    @model_serializer
    def refuse(self):
        raise ValueError("not to be dumped")


class Lying:
    @property
    def __class__(self):
        raise Stop("no class")


Odd = type("Odd" * 1000, (Exception,), {})


def nested(depth):
    value = "bottom"
    for _ in range(depth):
        value = [value]
    return value


def circle():
    value = {}
    value["itself"] = [value, value]
    return value


def deep_group(depth):
    error = Unprintable()
    for _ in range(depth):
        error = ExceptionGroup("more", [error])
    return error


def raising(error):
    raise error


async def araising(error):
    await asyncio.sleep(0)
    raise error


async def in_group(error):
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(30))
        group.create_task(araising(error))


async def abandoned(error):
    task = asyncio.create_task(araising(error))
    await asyncio.wait([task])
    return {"log": [type(task.exception()).__name__]}


def recurse(depth=0):
    return recurse(depth + 1)


async def stop_loop():
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.1)
    return {"log": ["went on"]}


async def break_loop():
    asyncio.get_running_loop()._selector.close()
    await asyncio.sleep(0.1)


async def exit_in_callback():
    asyncio.get_running_loop().call_soon(raising, SystemExit(5))
    await asyncio.sleep(0.1)
    return {"log": ["went on"]}


def ai(**fields):
    return {"messages": [AIMessage(content="fine", **fields)]}


def usage(tokens):
    message = AIMessage(content="fine")
    message.usage_metadata = {"input_tokens": tokens, "output_tokens": 1, "total_tokens": 1}
    return {"messages": [message]}


ASYNC = {
    "exit": lambda: araising(SystemExit(3)),
    "exit_words": lambda: araising(SystemExit("no data")),
    "keyboard": lambda: araising(KeyboardInterrupt()),
    "base": lambda: araising(Stop("enough")),
    "generator_exit": lambda: araising(GeneratorExit()),
    "cancelled": lambda: araising(asyncio.CancelledError()),
    "exit_thread": lambda: asyncio.to_thread(raising, SystemExit(3)),
    "keyboard_thread": lambda: asyncio.to_thread(raising, KeyboardInterrupt()),
    "exit_group": lambda: in_group(SystemExit(3)),
    "base_group": lambda: in_group(Stop("enough")),
    "error_group": lambda: in_group(Unprintable()),
    "exit_task": lambda: asyncio.create_task(araising(SystemExit(3))),
    "exit_abandoned": lambda: abandoned(SystemExit(3)),
    "stop_loop": stop_loop,
    "break_loop": break_loop,
    "exit_callback": exit_in_callback,
    "odd_async": lambda: araising(Odd("name")),
    "interrupt_unshowable": lambda: asyncio.to_thread(interrupt, Unshowable()),
}

SYNC = {
    "exit_sync": lambda: raising(SystemExit(3)),
    "quit": quit,
    "keyboard_sync": lambda: raising(KeyboardInterrupt()),
    "base_sync": lambda: raising(Stop("enough")),
    "generator_exit_sync": lambda: raising(GeneratorExit()),
    "drained": lambda: raising(GraphDrained("enough")),
    "cancelled_sync": lambda: raising(concurrent.futures.CancelledError()),
    "recursion": lambda: recurse(),
    "memory": lambda: raising(MemoryError()),
    "unprintable": lambda: raising(Unprintable()),
    "no_text": lambda: raising(NoText()),
    "exiting_text": lambda: raising(Exiting()),
    "endless_text": lambda: raising(Endless()),
    "deep_group": lambda: raising(deep_group(3000)),
    "secret": lambda: raising(ValueError("the key sk-very-secret-value is wrong")),
    "nested_120": lambda: {"value": nested(120)},
    "nested_300": lambda: {"value": nested(300)},
    "interrupt_nested": lambda: interrupt(nested(400)),
    "interrupt_circle": lambda: interrupt(circle()),
    "interrupt_surrogate": lambda: interrupt({"k\ud800": "v\ud800"}),
    "interrupt_lying": lambda: interrupt([Lying()]),
    "interrupt_undumpable": lambda: interrupt(Undumpable()),
    "interrupt_int": lambda: interrupt(10**5000),
    "id_surrogate": lambda: ai(id="id\ud800", usage_metadata={"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}),
    "usage_huge": lambda: usage(1 << 70),
    "usage_odd": lambda: usage("many"),
    "add": lambda: {"total": 1 << 63},
    "subtract": lambda: {"total": -(1 << 63)},
    "large": lambda: {"value": "x" * (70 << 20)},
}


async def do(state):
    way = state["way"]
    if way == "sleep":
        await asyncio.sleep(1)
        return {"log": ["slept"]}
    result = await ASYNC[way]()
    return result if isinstance(result, dict) else {"log": ["done"]}


def do_sync(state):
    result = SYNC[state["way"]]()
    return result if isinstance(result, dict) else {"log": ["done"]}


def again(state):
    total = state["total"]
    return {"log": [f"{type(total).__name__} {total}"]} if total else {}


def where_to(state):
    return "do_sync" if state["way"] in SYNC else "do"


_graph = StateGraph(State)
_graph.add_node("do", do)
_graph.add_node("do_sync", do_sync)
_graph.add_node("again", again)
_graph.add_conditional_edges(START, where_to, ["do", "do_sync"])
_graph.add_edge("do", "again")
_graph.add_edge("do_sync", "again")
_graph.add_edge("again", END)
graph = _graph.compile()


class Unschemed(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    odd: Schemaless


_unschemed = StateGraph(Unschemed)
_unschemed.add_node("say", lambda state: ai())
_unschemed.add_edge(START, "say")
unschemed = _unschemed.compile()


class Infinite(BaseModel):
    messages: Annotated[list[AnyMessage], add_messages] = []
    score: float = float("nan")


_infinite = StateGraph(Infinite)
_infinite.add_node("say", lambda state: ai())
_infinite.add_edge(START, "say")
infinite = _infinite.compile()
