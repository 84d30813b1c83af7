"""Runs graphs on the runner's saver, then reads every thread twice: through the gateway, and with
LangGraph's own `PostgresSaver` directly in the agent's tables. Both must read the same, tuple by tuple.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "projects"))

import graphs
import psycopg
import toy
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.types import Command
from psycopg.rows import dict_row

HELLO = {"messages": [{"role": "user", "content": "hällo"}]}
Key = tuple[str, str, str]


def check(saver: BaseCheckpointSaver[Any], database: str, schema: str) -> dict[str, Any]:
    """How much was compared, and each difference in a line."""
    expected = asyncio.run(run_graphs(saver))
    with psycopg.connect(database, autocommit=True, row_factory=dict_row) as connection:
        connection.execute('SET search_path TO "' + schema.replace('"', '""') + '"')
        theirs = PostgresSaver(connection)
        # Nothing to do: every migration after the table of migrations itself would fail.
        theirs.MIGRATIONS = theirs.MIGRATIONS[:1] + ["SELECT 1 / 0"] * (len(theirs.MIGRATIONS) - 1)
        theirs.setup()
        differences = [*compare(saver, theirs)]
        read = {name: value for name, value in states(theirs).items() if value != expected[name]}
        differences += [f"PostgresSaver's state of {name}: {value}, not {expected[name]}" for name, value in read.items()]
        tuples = {key_of(one) for one in theirs.list(None)}
    return {
        "threads": sorted({thread for thread, _, _ in tuples}),
        "namespaces": len({(thread, ns) for thread, ns, _ in tuples}),
        "tuples": len(tuples),
        "differences": differences,
    }


async def run_graphs(saver: BaseCheckpointSaver[Any]) -> dict[str, str]:
    """Several turns, interrupts answered and not, subgraphs, a failure, values that jsonb cannot hold."""

    async def turn(name: str, graph: Any, given: Any) -> None:
        try:
            await graph.copy({"checkpointer": saver}).ainvoke(given, config(name), durability="async")
        except ValueError:
            assert name == "failing", name

    for _ in range(3):
        await turn("memory", graphs.memory, HELLO)
    await turn("tools", toy.graph, toy.INPUT)
    await turn("asked", graphs.asking, HELLO)
    await turn("answered", graphs.asking, HELLO)
    await turn("answered", graphs.asking, Command(resume="gö on"))
    for _ in range(2):
        await turn("subgraph", graphs.stateful_subgraph, HELLO)
    await turn("nested", graphs.thinking, HELLO)
    await turn("odd", graphs.odd_graph, {"odd": "make"})
    await turn("odd inline", graphs.inline_odd, {"plain": "é \U0001f600"})
    await turn("failing", graphs.failing, HELLO)
    return {name: await state_of(saver, name) for name in STATES}


STATES = {"memory": graphs.memory, "asked": graphs.asking, "odd inline": graphs.inline_odd, "tools": toy.graph}


async def state_of(saver: BaseCheckpointSaver[Any], name: str) -> str:
    return told(await STATES[name].copy({"checkpointer": saver}).aget_state(config(name)))


def states(saver: BaseCheckpointSaver[Any]) -> dict[str, str]:
    return {name: told(graph.copy({"checkpointer": saver}).get_state(config(name))) for name, graph in STATES.items()}


def told(state: Any) -> str:
    return f"{state.values!r} next={state.next} interrupts={state.interrupts} {state.created_at}"


def config(thread: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": f"same {thread}"}}


def key_of(one: CheckpointTuple) -> Key:
    configurable = one.config["configurable"]
    return configurable["thread_id"], configurable["checkpoint_ns"], configurable["checkpoint_id"]


def compare(ours: BaseCheckpointSaver[Any], theirs: BaseCheckpointSaver[Any]) -> Iterator[str]:
    """All checkpoints of all threads, then each by its id, then the newest and the order of each namespace."""
    left = {key_of(one): one for one in ours.list(None)}
    right = {key_of(one): one for one in theirs.list(None)}
    yield from (f"{key}: only through the gateway" for key in left.keys() - right.keys())
    yield from (f"{key}: only with PostgresSaver" for key in right.keys() - left.keys())
    for key in left.keys() & right.keys():
        yield from (f"{key}: listed: {line}" for line in unequal(ours, left[key], right[key]))
        one, two = ours.get_tuple(right[key].config), theirs.get_tuple(right[key].config)
        yield from (f"{key}: by id: {line}" for line in unequal(ours, one, two))
    for thread, ns in {key[:2] for key in right}:
        where = {"configurable": {"thread_id": thread, "checkpoint_ns": ns}}
        yield from (f"{thread, ns}: newest: {line}" for line in unequal(ours, ours.get_tuple(where), theirs.get_tuple(where)))
        order = [key_of(one) for one in ours.list(where)], [key_of(one) for one in theirs.list(where)]
        if order[0] != order[1]:
            yield f"{thread, ns}: in another order: {order}"


def unequal(saver: BaseCheckpointSaver[Any], one: CheckpointTuple | None, two: CheckpointTuple | None) -> Iterator[str]:
    if one is None or two is None:
        if one is not two:
            yield f"{one} against {two}"
        return
    # Values by their bytes: NaN is not equal to itself.
    typed = saver.serde.dumps_typed
    values = one.checkpoint["channel_values"], two.checkpoint["channel_values"]
    parts = {
        "config": (one.config, two.config),
        "parent": (one.parent_config, two.parent_config),
        "metadata": (one.metadata, two.metadata),
        "values": tuple({name: typed(value) for name, value in side.items()} for side in values),
        "writes": tuple([(t, c, typed(v)) for t, c, v in side.pending_writes or []] for side in (one, two)),
    }
    for name in sorted((one.checkpoint.keys() | two.checkpoint.keys()) - {"channel_values"}):
        parts[f"checkpoint.{name}"] = (one.checkpoint.get(name), two.checkpoint.get(name))
    yield from (f"{name}: {left} against {right}" for name, (left, right) in parts.items() if left != right)
