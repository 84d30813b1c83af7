"""Graphs that look at what they are given, and that answer in every shape."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.func import entrypoint
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime
from pydantic import BaseModel


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[str], operator.add]


def chain(schema, *nodes, **how):
    graph = StateGraph(schema, **how)
    before = START
    for number, node in enumerate(nodes):
        graph.add_node(f"n{number}", node)
        graph.add_edge(before, f"n{number}")
        before = f"n{number}"
    return graph.compile()


# Contexts


@dataclass
class Defaults:
    model: str = "small"
    tags: list[str] = field(default_factory=lambda: ["a"])


class Model(BaseModel):
    model: str = "small"


class Keys(TypedDict, total=False):
    model: str


@dataclass
class Needs:
    tenant: str
    model: str = "small"


class NeedsModel(BaseModel):
    tenant: str


def of_object(state, runtime: Runtime[Any]):
    return {"log": [f"{type(runtime.context).__name__} {runtime.context.model}"]}


with_dataclass = chain(State, of_object, context_schema=Defaults)
with_model = chain(State, of_object, context_schema=Model)
with_keys = chain(State, lambda state, runtime: {"log": [str(runtime.context.get("model", "none"))]}, context_schema=Keys)
needs_field = chain(State, of_object, context_schema=Needs)
needs_model = chain(State, of_object, context_schema=NeedsModel)
without_context = chain(State, lambda state, runtime: {"log": [str(runtime.context)]})


# Who asks


def who(state, config):
    configurable = config["configurable"]
    user = configurable.get("langgraph_auth_user")
    names = ("user_id", "langgraph_user_id", "langgraph_auth_user_id", "run_id", "graph_id", "assistant_id", "thread_id")
    return {"log": [str(configurable.get(name)) for name in names] + [user and f"{user.identity} {user['identity']} {user.is_authenticated}"]}


asks_who = chain(State, who)


def keep(state, runtime: Runtime):
    runtime.store.put(("notes",), "k", {"v": 1})


wants_store = chain(State, keep)


# Messages


class Added(TypedDict):
    messages: Annotated[Sequence[BaseMessage], operator.add]


class Replaced(TypedDict, total=False):
    messages: list


class Dicts(TypedDict, total=False):
    messages: list[dict]


class Elsewhere(TypedDict, total=False):
    history: Annotated[list[HumanMessage | AIMessage], operator.add]
    latest: BaseMessage


class Modelled(BaseModel):
    messages: Annotated[list[AnyMessage], operator.add] = []


def heard(messages):
    return " ".join(f"{type(message).__name__}:{message.content}" for message in messages)


added = chain(Added, lambda state: {"messages": [AIMessage(content=heard(state["messages"]))]})
replaced = chain(Replaced, lambda state: {"messages": [*state["messages"], AIMessage(content=heard(state["messages"]))]})
dicts = chain(Dicts, lambda state: {"messages": [*state["messages"], {"role": "assistant", "content": str(type(state["messages"][0]).__name__)}]})
elsewhere = chain(Elsewhere, lambda state: {"history": [AIMessage(content=heard([*state["history"], state["latest"]]))]})
modelled = chain(Modelled, lambda state: {"messages": [AIMessage(content=heard(state.messages))]})


# Answers


class Weather(BaseModel):
    city: str


class Agent(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    structured_response: Any


def call(text=""):
    return AIMessage(content=text, tool_calls=[{"name": "look", "args": {}, "id": "call-1"}])


def tool(text):
    return ToolMessage(content=text, tool_call_id="call-1")


def answer(state):
    way = state["messages"][-1].content
    said = {
        "plain": [AIMessage(content="words")],
        "parts": [AIMessage(content=[{"type": "text", "text": "wo"}, {"type": "image", "url": "x"}, "rds"])],
        "direct": [call(), tool("DIRECT")],
        "direct_parts": [call(), tool([{"type": "text", "text": "DIRECT"}])],
        "preamble": [call("let me see"), tool("DIRECT")],
        "tool_then_words": [call(), tool("x"), AIMessage(content="words")],
        "structured": [call(), tool("Returning structured response")],
        "bare_structured": [],
        "silent": [],
        "empty": [AIMessage(content="")],
        "human_last": [AIMessage(content="words"), HumanMessage(content="thanks")],
    }[way]
    update = {"messages": said}
    if "structured" in way:
        update["structured_response"] = Weather(city="Paris")
    return update


answers = chain(Agent, answer)


def say_or_not(state):
    return {"messages": [AIMessage(content="words")]} if state["messages"][-1].content == "say" else {}


added_answers = chain(Added, say_or_not)


# Cost over attempts


def priced(text, message_id):
    usage = {"input_tokens": 5, "output_tokens": 1, "total_tokens": 6}
    return {"messages": [AIMessage(content=text, id=message_id, usage_metadata=usage)]}


def paid(number):
    def node(state):
        turn = sum(message.type == "human" for message in state["messages"])
        return priced(f"part {number}", f"turn-{turn}-{number}")

    return node


paying = chain(State, paid(1), paid(2), paid(3))


@entrypoint()
def returned(state):
    return {"messages": [AIMessage("words")]}
