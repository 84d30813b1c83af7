"""The project's graphs: making what a manifest names runnable with our checkpointer.

It may be a compiled graph, a builder, or a factory:
a function (sync or async, without arguments, or taking a config or LangGraph's server runtime), a
generator or a context manager that yields one. A factory without arguments that returns a graph is
called once; all others are called anew for each run, and what they open is closed after it.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.pregel import Pregel

from ... import current_run, failures
from .saver import RemoteSaver


class NotAGraph(TypeError):
    """What the manifest names is no graph."""


class Entry:
    """One graph of the project. `open` yields it ready to run."""

    def __init__(
        self, name: str, target: Any, notes: list[str], *, own_checkpointer: bool, serde: SerializerProtocol | None = None
    ) -> None:
        self.name = name
        self._target = target
        self._notes = notes
        self._own_checkpointer = own_checkpointer
        self._serde = serde
        self._graph: Pregel | None = None
        self._saver: RemoteSaver | None = None
        self.needs_config = callable(target) and bool(_parameters(target))

    async def load(self) -> Pregel | None:
        """Builds the graph once, to see that it can be built; none where only a run's config can."""
        async with AsyncExitStack() as stack:
            try:
                graph = await self._build({"configurable": {}}, _runtime(), stack)
            except Exception as error:
                if not self.needs_config:
                    raise
                told = failures.one_line(error)
                self._notes.append(f"graph {self.name}: its factory could not be called without a run's config: {told}")
                return None
            saver = self._saver_of(graph, self._notes)
            if not self.needs_config and not _has_exits(stack):
                self._graph, self._saver = graph, saver
            return graph

    def _saver_of(self, graph: Pregel, notes: list[str]) -> RemoteSaver | None:
        return None if self._own_checkpointer else _saver_for(self.name, graph, self._serde, notes)

    @asynccontextmanager
    async def open(self, config: dict[str, Any], context: Any = None) -> AsyncIterator[Pregel]:
        if self._graph is not None:
            yield _served(self._graph, self._saver)
            return
        async with AsyncExitStack() as stack:
            graph = await self._build(config, _runtime(context=context), stack)
            yield _served(graph, self._saver_of(graph, []))

    @property
    def static(self) -> Pregel | None:
        """The graph for the run that asks, where every run uses the same one: spares `open`'s cost."""
        return self._graph and _served(self._graph, self._saver)

    async def _build(self, config: dict[str, Any], runtime: Any, stack: AsyncExitStack) -> Pregel:
        value = self._target
        if _is_factory(value):
            arguments = _arguments(value, config, runtime)
            if inspect.isasyncgenfunction(value):
                value = asynccontextmanager(value)(**arguments)
            elif inspect.isgeneratorfunction(value):
                value = contextmanager(value)(**arguments)
            elif inspect.iscoroutinefunction(value) or not self.needs_config:
                value = value(**arguments)
            else:
                value = await asyncio.to_thread(value, **arguments)
        while not isinstance(value, Pregel):
            if inspect.isawaitable(value):
                value = await value
            elif hasattr(value, "__aenter__"):
                value = await stack.enter_async_context(value)
            elif hasattr(value, "__enter__"):
                value = stack.enter_context(value)
            elif callable(getattr(value, "compile", None)) and hasattr(value, "nodes"):
                value = value.compile()
            else:
                raise NotAGraph(f"{type(value).__name__} is no graph: a compiled graph, a builder or a factory of one is")
        return value


def _saver_for(name: str, graph: Pregel, serde: SerializerProtocol | None, notes: list[str]) -> RemoteSaver | None:
    """Our saver for a graph, with the manifest's serializer, else that of the saver which it replaces; none
    where the graph wants no state to be kept."""
    if getattr(graph, "store", None) is not None:
        notes.append(f"graph {name} has a long-term store of its own; it stays")
    own = graph.__dict__.get("checkpointer")
    if own is False:
        notes.append(f"graph {name} was compiled with checkpointer=False; its state is not kept")
        return None
    if isinstance(own, BaseCheckpointSaver):
        notes.append(f"graph {name} was compiled with a checkpointer of its own; ours is used")
        serde = serde or getattr(own, "serde", None)
    return RemoteSaver(serde)


def serializer(wanted: dict[str, Any] | None) -> SerializerProtocol | None:
    """The one that the manifest's `checkpointer.serde` describes, in LangGraph's words."""
    if not wanted:
        return None
    modules = {name: wanted[name] for name in ("allowed_json_modules", "allowed_msgpack_modules") if name in wanted}
    options: dict[str, Any] = {
        name: value if value is True or value is None else [tuple(item) for item in value] for name, value in modules.items()
    }
    options["pickle_fallback"] = wanted.get("pickle_fallback") is not False
    known = inspect.signature(JsonPlusSerializer).parameters
    return JsonPlusSerializer(**{name: value for name, value in options.items() if name in known})


def _served(graph: Pregel, saver: RemoteSaver | None) -> Pregel:
    """A copy of the project's graph for one run, with our saver; the graph itself stays as it is."""
    run = current_run.get()
    if saver is None or run is None:
        return graph
    served = copy.copy(graph)
    served.__dict__["checkpointer"] = bound = saver.bound_to(run)
    run.served = (graph, bound)
    return served


def _is_factory(value: Any) -> bool:
    return callable(value) and not isinstance(value, Pregel) and not hasattr(value, "compile")


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    if not _is_factory(function):
        return []
    skipped = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    found = [p for p in inspect.signature(function).parameters.values() if p.kind not in skipped]
    return [p for p in found if p.default is p.empty or _is_config(p) or _is_runtime(p)]


def _is_config(parameter: inspect.Parameter) -> bool:
    return parameter.name == "config" or "RunnableConfig" in str(parameter.annotation)


def _is_runtime(parameter: inspect.Parameter) -> bool:
    return parameter.name == "runtime" or "Runtime" in str(parameter.annotation)


def _arguments(function: Callable[..., Any], config: dict[str, Any], runtime: Any) -> dict[str, Any]:
    """Arguments by name: the config, or for a parameter that says so the server runtime."""
    arguments: dict[str, Any] = {}
    for parameter in _parameters(function):
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise NotAGraph("a factory's parameters must have names")
        if _is_runtime(parameter):
            if runtime is None:
                raise NotAGraph("this langgraph_sdk has no server runtime; let the factory take a config")
            arguments[parameter.name] = runtime
        else:
            arguments[parameter.name] = config
    return arguments


_NO_RUN = object()


def _runtime(context: Any = _NO_RUN) -> Any:
    """LangGraph's `ServerRuntime`: of a run, with its context, or of a look at the graph. None where this
    project's langgraph_sdk has none."""
    try:
        from langgraph_sdk.runtime import _ExecutionRuntime, _ReadRuntime
    except ImportError:
        return None
    if context is _NO_RUN:
        return _ReadRuntime(access_context="assistants.read", user=None, store=None)
    return _ExecutionRuntime(access_context="threads.create_run", user=None, store=None, context=context)


def _has_exits(stack: AsyncExitStack) -> bool:
    return bool(stack._exit_callbacks)  # noqa: SLF001 - no public way to ask
