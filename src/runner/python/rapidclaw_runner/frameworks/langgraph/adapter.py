"""What the runner's core sees of LangGraph."""

from __future__ import annotations

import importlib.metadata
import os
from types import FrameType
from typing import Any

from langchain_core.runnables.config import var_child_runnable_config

from ... import failures, jsonable
from ...runs import Run
from ...settings import Settings
from ..interface import CHECKPOINTS
from . import sub_agents
from .describe import RunControl, describe
from .execution import Stream
from .loader import Entry, serializer

VERSIONS = ("langgraph", "langgraph-checkpoint", "langgraph-prebuilt", "langchain-core", "langchain")
FOLDER = f"{os.sep}langgraph{os.sep}"

STORE_HINT = "rapidclaw gives graphs no long-term store yet; a graph that is compiled with one keeps it"
STORE_METHODS = frozenset(
    ("put", "aput", "aget", "search", "asearch", "adelete", "abatch", "list_namespaces", "alist_namespaces")
)
"""What is asked of a store, and of nothing else that is often None."""


class Graph(Entry):
    """One graph of the project."""

    stored_as = CHECKPOINTS

    def __init__(self, framework: LangGraph, name: str, value: Any, notes: list[str], settings: Settings) -> None:
        super().__init__(
            name, value, notes, own_checkpointer=settings.own_checkpointer, serde=framework.serde
        )
        self.framework = framework

    def describe(self, loaded: Any, notes: list[str]) -> dict[str, Any]:
        return describe(self.name, loaded, notes)

    def execution(self, run: Run) -> Stream:
        return Stream(run, self)


class LangGraph:
    """See `frameworks.Framework`."""

    name = "langgraph"
    drains = RunControl is not None

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.serde = serializer(settings.serde)
        failures.public_modules.add("langgraph.errors")
        failures.remarks.append(_on_a_missing_store)
        jsonable.slotted_modules.add("langgraph")

    def version(self) -> str | None:
        return self.versions().get("langgraph")

    def versions(self) -> dict[str, str]:
        found = {}
        for name in VERSIONS:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return found

    def adapt(self, name: str, value: Any, notes: list[str]) -> Graph:
        return Graph(self, name, value, notes, self._settings)

    def loaded(self, targets: dict[str, Any], notes: list[str]) -> None:
        """Gives the memories that graphs keep of their own to the runs that use them."""
        if self._settings.own_checkpointer:
            return
        checkpointer = sub_agents.Checkpointer()
        sub_agents.find(targets, self._settings.paths, checkpointer, notes)
        checkpointer.install()

    def node_of_context(self, context: Any) -> Any:
        config = context.get(var_child_runnable_config) or {}
        return (config.get("metadata") or {}).get("langgraph_node")

    def node_of_frame(self, frame: FrameType) -> Any:
        """The node that a config of LangGraph's was made for."""
        if FOLDER not in frame.f_code.co_filename:
            return None
        config = frame.f_locals.get("config")
        metadata = config.get("metadata") if isinstance(config, dict) else None
        return metadata.get("langgraph_node") if isinstance(metadata, dict) else None


def _on_a_missing_store(error: BaseException) -> str | None:
    is_of_none = isinstance(error, AttributeError) and error.obj is None
    return STORE_HINT if is_of_none and error.name in STORE_METHODS else None
