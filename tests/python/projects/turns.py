"""Plain turns, which no framework knows of."""

import asyncio
import os
import sys
import time

from rapidclaw_runner import step_key


async def remembering(thread, message, emit):
    state = thread.state or {"said": []}
    state["said"].append(message.text)
    thread.state = state
    return f"{message.user_id} said {', '.join(state['said'])}"


async def telling(thread, message, emit):
    emit("one ")
    await emit({"progress": 0.5})
    await emit("two")


async def answering(thread, message, emit):
    thread.state = {"input": message.input, "context": message.context, "key": step_key(), "thread": thread.id}
    return thread.state


async def silent(thread, message, emit):
    """Says nothing and keeps nothing."""


async def failing(thread, message, emit):
    thread.state = "never kept"
    match message.text:
        case "value":
            raise ValueError("no such order")
        case "exit":
            sys.exit(7)
        case "keyboard":
            raise KeyboardInterrupt
        case "set":
            thread.state = {1, 2}
        case "nan":
            thread.state = float("nan")
        case "large":
            thread.state = "x" * 2000
        case "blocking":
            time.sleep(3.5)
        case "sleeping":
            await asyncio.sleep(60)
        case "stubborn":
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    pass
        case "killing":
            os._exit(9)
    return "done"


async def odd(thread, message, emit):
    """A document comes back as it was written."""
    before = thread.state
    thread.state = {"z": 1.0, "a": ["\x00", "\ud800", "ü", -0.0, 10**30, 1e308], "b": None}
    return "same" if before == thread.state and repr(before) == repr(thread.state) else repr(before)


async def optional(thread, message, emit, more=1):
    return "optional"


def not_async(thread, message, emit):
    return ""


async def yielding(thread, message, emit):
    yield ""


async def factory(config):
    from langgraph.graph import StateGraph

    return StateGraph(dict).add_node("n", lambda state: state).add_edge("__start__", "n").compile()
