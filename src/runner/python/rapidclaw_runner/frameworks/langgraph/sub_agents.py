"""Graphs that keep a memory of their own: which saver each has while a run calls it.

The graph that is served is a copy with our saver; what project code imported stays as it is. But nodes
call that graph, and others that were compiled with an `InMemorySaver`, by themselves, with threads that
they name. In a run these have one of our savers too: `Checkpointer`, a descriptor on LangGraph's class,
answers by the run that asks. Outside a run, and for a graph whose memory was made inside one, it answers
with what the graph was compiled with.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any
from urllib.parse import quote

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.pregel import Pregel

from ... import current_run
from ...runs import Run
from .saver import BELOW, ForeignThread, RemoteSaver, Rows


class SubAgentSaver(RemoteSaver):
    """Stands in for the memory of a graph that nodes call with threads of their own.

    Whatever those are called, they are kept below the run's own thread, in namespaces that begin with
    `:GRAPH:THREAD`, so that they are as durable, and as private to a conversation, as the run itself.
    """

    def __init__(self, label: str, serde: SerializerProtocol | None, *, is_the_roots: bool = False) -> None:
        """`is_the_roots`: the graph shares its memory with the one that is served, so that the run's
        own thread is the run's own state."""
        super().__init__(serde)
        self._label = label
        self._is_the_roots = is_the_roots

    def _below(self, thread_id: Any) -> str:
        return f"{BELOW}{quote(self._label, safe='')}:{quote(str(thread_id), safe='')}"

    def _place(self, config: RunnableConfig | None, lists: bool = False) -> tuple[Run, RunnableConfig | None]:
        run = self._any_run()
        if config is None:
            raise ForeignThread("a run reaches only the threads below its own, not all threads")
        configurable = config["configurable"]
        thread_id, namespace = configurable["thread_id"], configurable.get("checkpoint_ns")
        if self._is_the_roots and str(thread_id) == run.thread_id:
            return run, config
        below = self._below(thread_id)
        if namespace is not None or not lists:
            namespace = f"{below}|{namespace}" if namespace else below
        placed = {**configurable, "thread_id": run.thread_id, "checkpoint_ns": namespace}
        return run, {**config, "configurable": placed}

    def _is_here(self, config: RunnableConfig | None, namespace: str) -> bool:
        run, placed = self._place(config)
        if placed is config:
            return super()._is_here(config, namespace)
        below = self._below(config["configurable"]["thread_id"])
        return namespace == below or namespace.startswith(f"{below}|")

    def _as_asked(self, config: RunnableConfig | None, found: CheckpointTuple) -> CheckpointTuple:
        _, placed = self._place(config)
        if placed is config:
            return found
        thread_id, below = config["configurable"]["thread_id"], self._below(config["configurable"]["thread_id"])

        def named(place: RunnableConfig | None) -> RunnableConfig | None:
            if place is None:
                return None
            configurable = place["configurable"]
            namespace = configurable["checkpoint_ns"].removeprefix(below).removeprefix("|")
            return {"configurable": {**configurable, "thread_id": thread_id, "checkpoint_ns": namespace}}

        # LangGraph takes a call in a run whose checkpoint is there already for a second attempt at it, and drops
        # the input. A node may well call a sub-agent twice.
        metadata = {key: value for key, value in found.metadata.items() if key != "run_id"}
        return found._replace(config=named(found.config), parent_config=named(found.parent_config), metadata=metadata)

    def _manage(self, threads: Sequence[str], op: str, args: dict[str, Any]) -> Future[Rows]:
        raise NotImplementedError(f"{op}: a sub-agent's threads are kept below the run's, and end with it")


class Checkpointer:
    """`Pregel.checkpointer`, by the run that asks for it."""

    def __init__(self) -> None:
        self._labels: dict[int, tuple[str, BaseCheckpointSaver]] = {}
        self._default = Pregel.__dict__.get("checkpointer")

    def install(self) -> None:
        Pregel.checkpointer = self

    def keep(self, label: str, memory: BaseCheckpointSaver) -> None:
        """Threads of this memory are kept below those of the runs that use it."""
        self._labels[id(memory)] = (label, memory)

    def __get__(self, graph: Pregel | None, owner: type | None = None) -> Any:
        if graph is None:
            return self._default
        own = graph.__dict__.get("checkpointer", self._default)
        run = current_run.get()
        if run is None or run.served is None or isinstance(own, (bool, RemoteSaver)):
            return own
        original, saver = run.served
        if graph is original:
            return saver
        if (kept := self._labels.get(id(own))) is None:
            return own
        shares = own is original.__dict__.get("checkpointer")
        return SubAgentSaver(kept[0], own.serde, is_the_roots=shares).bound_to(run)

    def __set__(self, graph: Pregel, value: Any) -> None:
        graph.__dict__["checkpointer"] = value


def find(graphs: Mapping[str, Pregel | None], paths: Sequence[str], checkpointer: Checkpointer, notes: list[str]) -> None:
    """Has the memories kept that graphs hold once all of the project is imported."""
    served = {id(graph) for graph in graphs.values()}
    names = dict(_names(graphs, paths))
    kept: dict[int, str] = {}
    for graph in [found for found in gc.get_objects() if isinstance(found, Pregel)]:
        memory = graph.__dict__.get("checkpointer")
        if isinstance(memory, RemoteSaver) or not isinstance(memory, BaseCheckpointSaver):
            continue
        label = names.get(id(graph)) or str(getattr(graph, "name", None) or "graph")
        if isinstance(memory, InMemorySaver):
            if id(memory) not in kept:
                taken = [*kept.values()].count(label)
                kept[id(memory)] = label
                checkpointer.keep(f"{label}.{taken + 1}" if taken else label, memory)
                if id(graph) not in served:
                    notes.append(f"{label} has an in-memory checkpointer; its threads are kept below those of the runs that use it")
        elif id(graph) not in served:
            notes.append(f"{label} has a checkpointer of its own ({type(memory).__name__}); it stays")


def _names(graphs: Mapping[str, Pregel | None], paths: Sequence[str]) -> Iterator[tuple[int, str]]:
    """What the project calls its graphs; of several names the last counts: a module's variable, before an
    attribute of one, before the node that it is in."""
    for graph in graphs.values():
        if graph is not None:
            yield from ((id(found), path) for path, found in _subgraphs(graph))
    roots = tuple(os.path.join(os.path.realpath(path), "") for path in paths)
    modules = [
        module
        for module in list(sys.modules.values())
        if os.path.realpath(str(getattr(module, "__file__", None) or "")).startswith(roots or ("\0",))
    ]
    variables = [(name, value) for module in modules for name, value in list(vars(module).items())]
    for name, value in variables:
        inner = getattr(value, "__dict__", None)
        if type(inner) is dict and not isinstance(value, Pregel):
            yield from ((id(item), f"{name}.{key}") for key, item in list(inner.items()) if isinstance(item, Pregel))
    yield from ((id(value), name) for name, value in variables if isinstance(value, Pregel))


def _subgraphs(graph: Pregel) -> list[tuple[str, Pregel]]:
    found: dict[int, tuple[str, Pregel]] = {}
    waiting = [("", graph)]
    while waiting:
        prefix, parent = waiting.pop(0)
        for node_name, node in parent.nodes.items():
            for candidate in [*(getattr(node, "subgraphs", None) or ()), *_direct(parent, node_name)]:
                if isinstance(candidate, Pregel) and id(candidate) not in found and candidate is not graph:
                    found[id(candidate)] = (f"{prefix}{node_name}", candidate)
                    waiting.append((f"{prefix}{node_name}|", candidate))
    return list(found.values())


def _direct(parent: Pregel, node_name: str) -> list[Any]:
    try:
        return [candidate for _, candidate in parent.get_subgraphs(namespace=node_name)]
    except Exception:  # noqa: BLE001 - looks into the project's functions
        return []
