"""Graphs for the gateway's tests: each waits, misbehaves or pays as its story needs."""

import asyncio
import hashlib
import os
import time
from pathlib import Path
from typing import Any, TypedDict

from graphs import State, asking, chain, looping, memory, sleeping, sync_blocking  # noqa: F401
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import START, StateGraph

from rapidclaw_runner import current_run

GATE = Path(os.environ.get("STORY_GATE", "/nonexistent"))
"""A file that the test makes when the graph may go on."""


def say(text):
    return {"messages": [AIMessage(content=text)]}


async def gate():
    deadline = time.monotonic() + 60
    while not GATE.exists():
        assert time.monotonic() < deadline, f"nobody has opened {GATE}"
        await asyncio.sleep(0.01)


async def wait(state):
    await gate()
    return {"log": ["waited"]}


def count(state):
    said = [m.content for m in state["messages"] if m.type == "human"]
    return say(f"heard {len(said)}: {said[-1]}")


async def hold(state):
    """Never gives the loop back before the test allows it."""
    deadline = time.monotonic() + 60
    while not GATE.exists():
        assert time.monotonic() < deadline, f"nobody has opened {GATE}"
        time.sleep(0.01)
    return {"log": ["held"]}


holding = chain(hold=hold, count=count).compile()
gated = chain(note=lambda state: {"log": ["begun"]}, wait=wait, count=count).compile()


async def linger(state):
    await asyncio.sleep(0.05)
    return {}


slow = chain(linger=linger, count=count).compile()


async def call():
    usage = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}
    metadata = {"model_name": "gpt-4o-mini", "model_provider": "openai"}
    answer = AIMessage(content="spent", usage_metadata=usage, response_metadata=metadata)
    return await FakeMessagesListChatModel(responses=[answer]).ainvoke("a question")


async def spend(state):
    await call()  # and keeps nothing of it
    return {"log": ["spent"]}


async def until_drained(state):
    run = current_run.get()
    while run.attempt == 1 and run._drain_reason is None:
        await asyncio.sleep(0.01)
    return {}


async def spend_and_say(state):
    return {"messages": [await call()]}


metered = chain(spend=spend, wait=until_drained, say=spend_and_say).compile()


async def pause(state):
    await asyncio.sleep(0.05)
    return {"log": ["paused"]}


async def pause_and_count(state):
    await asyncio.sleep(0.05)
    return count(state)


pacing = chain(one=pause, two=pause, three=pause_and_count).compile()


async def tried(attempt):
    try:
        await attempt
        return say("done")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the story's end
        return say(f"{type(error).__name__}: {error}")


def saver_of(config) -> Any:
    return config["configurable"]["__pregel_checkpointer"]


async def read_of(saver, thread):
    return await saver.aget_tuple({"configurable": {"thread_id": thread}})


async def overwrite(saver, thread):
    """An awaited checkpoint on another thread."""
    run = current_run.get()
    own = await read_of(saver, run.thread_id)
    run.durability = "sync"
    try:
        await saver.aput({"configurable": {"thread_id": thread, "checkpoint_ns": ""}}, own.checkpoint, {}, {})
    finally:
        run.durability = "async"


def trespasser(act):
    """The project lifts the runner's own check: the gateway has to refuse."""

    async def trespass(state, config):
        run = current_run.get()
        run.any_thread = True
        try:
            return await tried(act(saver_of(config), state["messages"][-1].content))
        finally:
            run.any_thread = False

    return chain(trespass=trespass).compile()


reading_elsewhere = trespasser(read_of)
writing_elsewhere = trespasser(overwrite)
deleting_elsewhere = trespasser(lambda saver, thread: saver.adelete_thread(thread))


async def delete_own(state, config):
    await gate()
    return await tried(saver_of(config).adelete_thread(current_run.get().thread_id))


deleting = chain(note=lambda state: {"log": ["begun"]}, delete_own=delete_own).compile()


def pay(state):
    usage = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}
    named = {"model_name": "gpt-4o-mini", "model_provider": "openai"}
    return {"messages": [AIMessage(content="paid", usage_metadata=usage, response_metadata=named)]}


priced = chain(pay=pay).compile()

# A channel whose name is too long for an index of Postgres, and too random to be compressed.
LONG = "".join(hashlib.sha256(str(n).encode()).hexdigest() for n in range(100))
_long = StateGraph(TypedDict("Long", {"messages": State.__annotations__["messages"], LONG: dict}, total=False))
_long.add_node("long", lambda state: {LONG: {"much": 1}})
_long.add_node("count", count)
_long.add_edge(START, "long")
_long.add_edge("long", "count")
unstorable = _long.compile()
