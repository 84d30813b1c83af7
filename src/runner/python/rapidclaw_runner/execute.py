"""Executing one run: LangGraph's stream in, frames out, one `end` whatever happens."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.pregel import Pregel
from langgraph.types import Command, Send

from . import current_run, failures, jsonable
from .describe import RunControl
from .loader import Entry
from .runs import Run, Runs
from .usage import Usage, UsageCallback

try:
    from langgraph.errors import GraphDrained
except ImportError:  # before 1.2

    class GraphDrained(Exception):  # type: ignore[no-redef]
        """Never raised there."""


log = logging.getLogger("rapidclaw")

OWN_MODES = ("values", "updates")
MODES = {mode: mode for mode in ("values", "updates", "messages", "custom", "debug", "tasks", "checkpoints", "tools")}
MODES["messages-tuple"] = "messages"
INTERRUPT = "__interrupt__"
OURS = frozenset(("thread_id", "checkpoint_id", "checkpoint_ns", "checkpoint_map"))
"""Keys of `configurable` that say where state lies: never the caller's to set."""


def executor(graphs: dict[str, Entry], runs: Runs) -> Callable[[Run], Coroutine[Any, Any, None]]:
    async def execute(run: Run) -> None:
        current_run.set(run)
        stream = Stream(run)
        try:
            entry = graphs.get(run.fields["graph"])
            if entry is None:
                raise ValueError(f"no such graph: {run.fields['graph']}; there are {', '.join(graphs)}")
            await stream.drive(entry)
            runs.finish(run, "interrupted" if stream.interrupted else "success", stream.answer())
        except GraphDrained:
            runs.finish(run, "drained", stream.answer())
        except asyncio.CancelledError as error:
            if run.stop_status is None:
                _failed(runs, run, stream, error)
            else:
                runs.finish(run, run.stop_status, stream.answer() | run.stop_fields())
        except Exception as error:
            if run.stop_status is None:
                _failed(runs, run, stream, error)
            else:
                runs.finish(run, run.stop_status, stream.answer() | run.stop_fields())

    return execute


def _failed(runs: Runs, run: Run, stream: Stream, error: BaseException) -> None:
    log.error("run failed: %s %s", failures.one_line(error), run.label, exc_info=error)
    runs.finish(run, "error", stream.answer() | {"error": failures.error_map(error)})


class Stream:
    """What one run's stream has shown so far."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.values: Any = None
        self.interrupts: dict[str, Any] = {}
        self.interrupted = False
        self._seen_values = 0
        fields = run.fields
        self._asked = [MODES.get(mode, mode) for mode in fields.get("stream_modes") or ()]
        self._subgraphs = bool(fields.get("subgraphs"))
        self._usage = run.usage = Usage(run.known_ids)

    async def drive(self, entry: Entry) -> None:
        unknown = [mode for mode in self._asked if mode not in MODES]
        if unknown:
            raise ValueError(f"stream mode {unknown[0]} is not supported")
        run = self.run
        if RunControl is not None:
            run.attach_control(RunControl())
        if run.stateless and not run.any_thread:
            run.memory = InMemorySaver()
        _attach_trace(run.traceparent)
        config = _config(run, UsageCallback(self._usage))
        if entry.static is not None:
            await self._follow(entry.static, config)
        else:
            context = jsonable.loads(run.fields["context"]) if run.fields.get("context") is not None else None
            async with entry.open(config, context) as graph:
                await self._follow(graph, config)

    async def _follow(self, graph: Pregel, config: dict[str, Any]) -> None:
        run, fields = self.run, self.run.fields
        modes = [*OWN_MODES, *(mode for mode in dict.fromkeys(self._asked) if mode not in OWN_MODES)]
        options: dict[str, Any] = {"stream_mode": modes, "subgraphs": self._subgraphs}
        if graph.checkpointer:
            options["durability"] = run.durability
        if fields.get("context") is not None:
            options["context"] = jsonable.loads(fields["context"])
        if run.control is not None:
            options["control"] = run.control
        asked, namespace = frozenset(self._asked), ()
        async for item in graph.astream(_input(fields), config, **options):
            if self._subgraphs:
                namespace, mode, data = item
            else:
                mode, data = item
            if mode == "values":
                if not namespace:
                    self._on_values(data)
            elif mode == "updates":
                self._on_updates(data, not namespace)
            if mode in asked and not run.ended:
                run.send("event", {"mode": mode, "ns": list(namespace), "data": jsonable.dumps(data)})
            if run.paused:
                await run.while_paused()

    def _on_values(self, data: Any) -> None:
        self._seen_values += 1
        self.run.steps = self._seen_values - 1
        if type(data) is dict and INTERRUPT in data:
            self._on_interrupts(data[INTERRUPT])
            data = {key: value for key, value in data.items() if key != INTERRUPT}
        if self._seen_values == 1:
            for message in _messages(data):
                if (message_id := getattr(message, "id", None)) is not None:
                    self.run.known_ids.add(message_id)
        self.values = data

    def _on_updates(self, data: Any, is_root: bool) -> None:
        if type(data) is not dict:
            return
        for node, update in data.items():
            if node != INTERRUPT:
                if update is not None:
                    self._usage.see(update)
            elif is_root:
                self._on_interrupts(update)

    def _on_interrupts(self, found: Any) -> None:
        self.interrupted = True
        for interrupt in found or ():
            told = {"id": getattr(interrupt, "id", None), "value": getattr(interrupt, "value", interrupt)}
            self.interrupts[str(told["id"] or len(self.interrupts))] = told

    def answer(self) -> dict[str, Any]:
        """The fields of `end` that the gateway asked for."""
        fields = self.run.fields
        kind, full = fields.get("answer") or "none", bool(fields.get("full"))
        told: dict[str, Any] = {}
        if self.interrupted:
            told["interrupts"] = jsonable.dumps(list(self.interrupts.values()))
        if kind == "values" or (kind == "chat" and full):
            told["values"] = jsonable.dumps(self.values)
        if kind == "chat":
            messages = _messages(self.values)
            told["result"] = None if self.interrupted else last_text(messages)
            if full:
                told["messages"] = jsonable.dumps(messages)
        return told


def _config(run: Run, callback: UsageCallback) -> dict[str, Any]:
    fields = run.fields
    configurable = {
        key: value
        for key, value in (jsonable.loads(fields["configurable"]) if fields.get("configurable") else {}).items()
        if key not in OURS and not key.startswith("__")
    }
    configurable["thread_id"] = run.thread_id
    if fields.get("checkpoint_id"):
        configurable["checkpoint_id"] = fields["checkpoint_id"]
    metadata = jsonable.loads(fields["metadata"]) if fields.get("metadata") else {}
    metadata |= {"run_id": run.id, "graph_id": fields["graph"]}
    config: dict[str, Any] = {"configurable": configurable, "metadata": metadata, "callbacks": [callback]}
    try:
        config["run_id"] = UUID(run.id)
    except ValueError:
        pass
    if fields.get("recursion_limit"):
        config["recursion_limit"] = int(fields["recursion_limit"])
    return config


def _input(fields: dict[str, Any]) -> Any:
    if fields.get("command") is None:
        return jsonable.loads(fields["input"]) if fields.get("input") is not None else None
    command = jsonable.loads(fields["command"])
    options = {key: command[key] for key in ("resume", "update") if command.get(key) is not None}
    if command.get("goto"):
        goto = command["goto"]
        targets = [_target(target) for target in (goto if isinstance(goto, list) else [goto])]
        options["goto"] = targets if isinstance(goto, list) else targets[0]
    if "resume" in command and "resume" not in options:
        options["resume"] = None
    return Command(**options)


def _target(target: Any) -> Any:
    return Send(target["node"], target.get("input")) if isinstance(target, dict) else target


def _messages(values: Any) -> list[Any]:
    """The conversation in a state: its `messages`, else the first list that holds messages."""
    if isinstance(values, list):
        return values
    if type(values) is not dict:
        values = getattr(values, "__dict__", {})
    found = values.get("messages")
    if isinstance(found, list):
        return found
    for value in values.values():
        if isinstance(value, list) and value and hasattr(value[-1], "type") and hasattr(value[-1], "content"):
            return value
    return []


def last_text(messages: list[Any]) -> str | None:
    for message in reversed(messages):
        if isinstance(message, AIMessage):
            return _text(message.content)
        if isinstance(message, dict) and (message.get("role") or message.get("type")) in ("assistant", "ai"):
            return _text(message.get("content"))
    return None


def _text(content: Any) -> str:
    if isinstance(content, list):
        parts = (part if isinstance(part, str) else part.get("text") for part in content if isinstance(part, (str, dict)))
        content = "".join(part for part in parts if isinstance(part, str))
    return str(content or "").encode("utf-8", "replace").decode("utf-8")


def _attach_trace(traceparent: str | None) -> None:
    """Lets the project's own OpenTelemetry instrumentation, where it is loaded, nest below the run."""
    if traceparent is None or "opentelemetry" not in sys.modules:
        return
    try:
        from opentelemetry import context, propagate

        context.attach(propagate.extract({"traceparent": traceparent}))
    except Exception:  # noqa: BLE001 - tracing must not fail a run
        log.debug("the trace context could not be attached", exc_info=True)
