"""Graphs of one node or two, each for one behaviour that the tests look at."""

import asyncio
import contextlib
import operator
import os
import time
from typing import Annotated, Any, TypedDict

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from langgraph_sdk.runtime import ServerRuntime

from rapidclaw_runner import step_key


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[str], operator.add]
    odd: Any


class Context(TypedDict):
    name: str


def chain(**nodes):
    graph = StateGraph(State)
    names = list(nodes)
    for name, node in nodes.items():
        graph.add_node(name, node)
    for one, two in zip([START, *names], [*names, END]):
        graph.add_edge(one, two)
    return graph


def count(state):
    said = [m.content for m in state["messages"] if m.type == "human"]
    return {"messages": [AIMessage(content=f"heard {len(said)}: {said[0]}")]}


memory = chain(count=count).compile()
builder = chain(count=count)


async def ask(state):
    answer = interrupt({"question": "go on?"})
    return {"log": [f"answered {answer}"], "messages": [AIMessage(content=f"you said {answer}")]}


asking = chain(ask=ask).compile()


def forever(state):
    return {"log": ["again"]}


_loop = StateGraph(State)
_loop.add_node("forever", forever)
_loop.add_edge(START, "forever")
_loop.add_edge("forever", "forever")
looping = _loop.compile()


def block(state):
    time.sleep(float(os.environ.get("BLOCK", "6")))
    return {"log": ["blocked"]}


async def ablock(state):
    time.sleep(float(os.environ.get("BLOCK", "6")))
    return {"log": ["blocked the loop"]}


async def asleep(state):
    await asyncio.sleep(60)
    return {"log": ["slept"]}


async def stubborn(state):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1)
    return {"log": ["stubborn"]}


sync_blocking = chain(block=block).compile()
async_blocking = chain(ablock=ablock).compile()
sleeping = chain(asleep=asleep).compile()
stubborn_graph = chain(stubborn=stubborn).compile()


async def first(state):
    await asyncio.sleep(0.4)
    return {"log": ["first"]}


async def second(state):
    return {"log": ["second"]}


two_steps = chain(first=first, second=second).compile()

inner = chain(count=count).compile(checkpointer=InMemorySaver())


def call_inner(state):
    return {"messages": inner.invoke({"messages": state["messages"]})["messages"][-1:], "log": ["outer"]}


nested = chain(sub=inner, after=lambda state: {"log": ["after"]}).compile(checkpointer=InMemorySaver())
nested_call = chain(call=call_inner).compile()

remembering_inner = chain(
    note=lambda state: {"log": [f"inner {len(state.get('log') or [])}"]}
).compile(checkpointer=True)
stateful_subgraph = chain(sub=remembering_inner).compile()


def look(state, config):
    seen = looking.get_state({"configurable": {"thread_id": config["configurable"]["thread_id"]}})
    history = list(looking.get_state_history({"configurable": {"thread_id": config["configurable"]["thread_id"]}}))
    return {"log": [f"values {sorted(seen.values)}", f"history {len(history) > 0}"]}


async def look_on_loop(state, config):
    return look(state, config)


looking = chain(look=look, look_on_loop=look_on_loop).compile()


def spy(state):
    try:
        spying.get_state({"configurable": {"thread_id": "somebody-else"}})
        return {"log": ["saw another thread"]}
    except PermissionError as error:
        return {"log": [str(error)]}


spying = chain(spy=spy).compile()


def unmetered(state):
    return {"messages": [AIMessage(content="for nothing")]}


def metered(state):
    usage = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
    usage["input_token_details"] = {"cache_read": 2}
    message = AIMessage(content="paid", usage_metadata=usage, response_metadata={"model_name": "m-1", "model_provider": "p"})
    return {"messages": [message]}


def all_again(state):
    return {"messages": list(state["messages"])}


unmetered_graph = chain(unmetered=unmetered).compile()
metered_graph = chain(metered=metered, all_again=all_again).compile()


def model():
    usage = {"input_tokens": 5, "output_tokens": 1, "total_tokens": 6}
    return GenericFakeChatModel(messages=iter([AIMessage(content="inside", usage_metadata=usage)]))


async def think(state):
    return {"log": [(await model().ainvoke("hi")).content]}


def think_sync(state):
    return {"log": [model().invoke("hi").content]}


thinking = chain(sub=chain(think=think).compile(), think_sync=think_sync).compile()


def odd_values(state):
    return {"odd": state["odd"] if state.get("odd") != "make" else float("nan"), "log": ["a\x00b"]}


odd_graph = chain(odd_values=odd_values).compile()


class OddState(TypedDict, total=False):
    text: str
    number: float
    plain: str


_odd = StateGraph(OddState)
_odd.add_node("set", lambda state: {"text": "a\x00b", "number": float("inf"), "plain": "x"})
_odd.add_node("check", lambda state: {"plain": f"{state['text']!r} {state['number']}"})
_odd.add_edge(START, "set")
_odd.add_edge("set", "check")
inline_odd = _odd.compile()


def keys(state, config):
    return {"log": [step_key(), step_key(config)]}


keyed = chain(one=keys, two=keys).compile()
keyed_subgraph = chain(sub=chain(inside=keys).compile()).compile()


def fail(state):
    raise ValueError("no good\ud800")


failing = chain(fail=fail).compile()


def zero():
    return chain(count=count)


async def azero():
    return chain(count=count).compile()


def with_config(config):
    name = config["configurable"].get("who", "nobody")
    return chain(hello=lambda state: {"log": [f"hello {name}"]}).compile()


@contextlib.asynccontextmanager
async def managed(config):
    opened = ["open"]
    yield chain(hello=lambda state: {"log": list(opened)}).compile()
    opened.clear()
    print("managed closed", flush=True)


@contextlib.asynccontextmanager
async def by_runtime(runtime: ServerRuntime[Context]):
    execution = runtime.execution_runtime
    told = f"run for {execution.context['name']}" if execution else "looked at"
    yield chain(hello=lambda state: {"log": [told, runtime.access_context]}).compile()


def by_both(config: RunnableConfig, runtime: ServerRuntime):
    told = config["configurable"].get("who", "nobody")
    return chain(hello=lambda state: {"log": [told, runtime.access_context]}).compile()


def generator():
    yield chain(hello=lambda state: {"log": ["generated"]}).compile()


@task
async def double(x):
    return x * 2


@entrypoint()
async def functional(x: int, *, previous: Any = None) -> Any:
    total = await double(x) + (previous or 0)
    return entrypoint.final(value=total, save=total)


def read_context(state, runtime: Runtime[Context]):
    return {"log": [runtime.context["name"]]}


_context = StateGraph(State, context_schema=Context)
_context.add_node("n", read_context)
_context.add_edge(START, "n")
contextual = _context.compile()

not_a_graph = 42
