"""What a graph is given, as LangGraph's own server gives it: context, identity, messages."""

from __future__ import annotations

import uuid

import pytest
from gateway import PROJECTS

NAMES = (
    "with_dataclass with_model with_keys needs_field needs_model without_context asks_who wants_store"
    " added replaced dicts elsewhere modelled"
).split()
GRAPHS = {name: f"{PROJECTS}/given.py:{name}" for name in NAMES}
HELLO = {"messages": [{"role": "user", "content": "hi", "id": "h-1"}]}


@pytest.mark.parametrize(
    ("graph", "context", "told"),
    [
        ("with_dataclass", None, "Defaults small"),
        ("with_dataclass", {"model": "big"}, "Defaults big"),
        ("with_model", None, "Model small"),
        ("with_model", {}, "Model small"),
        ("with_keys", None, "none"),
        ("with_keys", {"model": "big"}, "big"),
        ("needs_field", {"tenant": "t"}, "Needs small"),
        ("without_context", None, "None"),
        ("without_context", {"any": 1}, "{'any': 1}"),
    ],
)
async def test_context_and_its_defaults(own_gateway, graph, context, told):
    fields = {} if context is None else {"context": context}
    end = await own_gateway.run(HELLO, graph=graph, **fields)
    assert end["status"] == "success", end["error"]
    assert end["values"]["log"] == [told]


@pytest.mark.parametrize(
    ("graph", "context", "named"),
    [("needs_field", None, "tenant"), ("needs_model", None, "tenant: Field required"), ("needs_field", {"tenant": 1, "odd": 2}, "odd")],
)
async def test_a_context_that_does_not_fit_names_the_field(own_gateway, graph, context, named):
    fields = {} if context is None else {"context": context}
    end = await own_gateway.run(HELLO, graph=graph, **fields)
    assert (end["status"], end["error"]["type"], end["error"]["public"]) == ("error", "InvalidContext", True)
    assert named in end["error"]["message"]


async def test_who_asks_and_the_ids(own_gateway):
    t, metadata = str(uuid.uuid4()), {"user_id": "ada"}
    end = await own_gateway.run(HELLO, graph="asks_who", thread_id=t, metadata=metadata, configurable={"run_id": "forged"})
    assistant = str(uuid.uuid5(uuid.UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8"), "asks_who"))
    assert end["values"]["log"] == ["ada", "ada", "ada", end["run"], "asks_who", assistant, t, "ada ada True"]
    # A caller that names a user of its own application keeps it; who is authenticated stays.
    end = await own_gateway.run(HELLO, graph="asks_who", metadata=metadata, configurable={"user_id": "bob", "langgraph_auth_user_id": "eve"})
    assert end["values"]["log"][:3] == ["bob", "ada", "ada"]
    end = await own_gateway.run(HELLO, graph="asks_who")
    assert end["values"]["log"][0] == "None" and end["values"]["log"][-1] is None


async def test_a_missing_store_is_named(own_gateway):
    end = await own_gateway.run(HELLO, graph="wants_store")
    assert end["error"]["type"] == "AttributeError"
    assert "has no attribute 'put' (rapidclaw gives graphs no long-term store" in end["error"]["message"]


@pytest.mark.parametrize("graph", ["added", "replaced", "modelled"])
async def test_messages_are_objects_for_every_reducer(own_gateway, graph):
    t = str(uuid.uuid4())
    end = await own_gateway.run(HELLO, graph=graph, thread_id=t, answer="chat", full=True)
    assert end["status"] == "success", end["error"]
    assert end["result"] == "HumanMessage:hi"
    assert end["values"]["messages"][0]["id"] == "h-1"
    again = {"messages": [{"type": "human", "content": "more"}, {"role": "system", "content": "s"}]}
    end = await own_gateway.run(again, graph=graph, thread_id=t, answer="chat")
    assert end["result"].endswith("HumanMessage:more SystemMessage:s")


async def test_messages_elsewhere_and_dicts_that_are_none(own_gateway):
    given = {"history": [{"role": "user", "content": "a"}], "latest": {"role": "user", "content": "b"}}
    end = await own_gateway.run(given, graph="elsewhere", answer="chat")
    assert end["result"] == "HumanMessage:a HumanMessage:b"
    end = await own_gateway.run(HELLO, graph="dicts", answer="chat")
    assert end["result"] == "dict"
    # What is no message stays as it is: the graph says what is wrong with it.
    end = await own_gateway.run({"messages": [{"role": "nobody", "content": "x"}]}, graph="replaced")
    assert end["status"] == "error" and "dict" in end["error"]["message"]
