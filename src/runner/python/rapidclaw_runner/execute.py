"""Executing one run: LangGraph's stream in, frames out, one `end` whatever happens."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.constants import END
from langgraph.pregel import Pregel

from . import answers, current_run, failures, hints, inputs, jsonable
from .describe import RunControl
from .loader import Entry
from .runs import Run, Runs
from .saver import RemoteSaver
from .turn import Turn, messages_of
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
MOST_STEPS_BACK = 256
"""Checkpoints of an earlier attempt that are looked through for the turn's beginning."""


def executor(graphs: dict[str, Entry], runs: Runs) -> Callable[[Run], Coroutine[Any, Any, None]]:
    async def execute(run: Run) -> None:
        """Ends the run exactly once, whatever the project's code raises, and raises nothing itself."""
        current_run.set(run)
        stream = Stream(run)
        told: dict[str, Any] = {}
        try:
            entry = graphs.get(run.fields["graph"])
            if entry is None:
                raise ValueError(f"no such graph: {run.fields['graph']}; there are {', '.join(graphs)}")
            await stream.drive(entry)
            status = "interrupted" if stream.interrupted else "success"
        except GraphDrained as error:
            # Where nobody asked for it, it is the project's own, as any other.
            status, told = ("drained", {}) if run.shall_drain else ("error", _failed(run, error))
        except BaseException as error:  # noqa: BLE001 - SystemExit and their kin end this run, not the replica
            if run.stop_status is None:
                status, told = "error", _failed(run, error)
            else:
                status, told = run.stop_status, run.stop_fields()
        try:
            told = stream.answer() | told
        except BaseException as error:  # noqa: BLE001 - the values are the project's own objects
            if status in ("success", "interrupted"):
                status, told = "error", _failed(run, error)
        if status != "interrupted":
            told.pop("interrupts", None)
        runs.finish(run, status, told)

    return execute


def _failed(run: Run, error: BaseException) -> dict[str, Any]:
    """The end's `error`; what cannot be logged is left out."""
    if run.refusal is not None:
        error = run.refusal
    hint = None
    try:
        log.error("run failed: %s %s\n%s", failures.one_line(error), run.label, failures.trace(error))
        hint = hints.tell(error)
    except BaseException:  # noqa: BLE001 - handlers may be the project's
        pass
    told = failures.error_map(error)
    if hint is not None:
        told["hint"] = failures.blotted(hint)
    return {"error": told}


class Stream:
    """What one run's stream has shown so far."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.values: Any = None
        self.interrupts: dict[str, Any] = {}
        self.interrupted = False
        self._seen_values = 0
        self._shows_start = True
        fields = run.fields
        self._asked = [MODES.get(mode, mode) for mode in fields.get("stream_modes") or ()]
        self._subgraphs = bool(fields.get("subgraphs"))
        run.turn = Turn(run.id, run.attempt)
        self._usage = run.usage = Usage(run.turn.known_ids, run.attempt)

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
        config = inputs.config(run, [UsageCallback(self._usage)])
        if entry.static is not None:
            await self._follow(entry.static, config)
        else:
            async with entry.open(config, inputs.context(run.fields, dict)) as graph:
                await self._follow(graph, config)

    async def _follow(self, graph: Pregel, config: dict[str, Any]) -> None:
        run, fields = self.run, self.run.fields
        modes = [*OWN_MODES, *(mode for mode in dict.fromkeys(self._asked) if mode not in OWN_MODES)]
        options: dict[str, Any] = {"stream_mode": modes, "subgraphs": self._subgraphs}
        if graph.checkpointer:
            options["durability"] = run.durability
            if run.attempt > 1:
                await self._find_beginning(graph.checkpointer)
        context = inputs.context(fields, getattr(graph, "context_schema", None))
        if context is not None:
            options["context"] = context
        if run.control is not None:
            options["control"] = run.control
        decided = await answers.decide(run, graph, config)
        if decided is None:
            self.interrupted = True
            return
        # The functional API shows no values before those that it returns.
        self._shows_start = graph.output_channels != END
        asked, namespace = frozenset(self._asked), ()
        items = graph.astream(inputs.graph_input(decided, graph), config, **options)
        try:
            async for item in items:
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
                if run.refusal is not None:
                    raise run.refusal
                if run.paused:
                    await run.while_paused()
        except BaseException:
            # What it was waiting for is stopped before the run ends; how that fares is not why the run failed.
            with suppress(BaseException):
                await items.aclose()
            raise

    async def _find_beginning(self, saver: Any) -> None:
        """An attempt that goes on from its run's own checkpoints: what was there before the run is in the
        newest checkpoint of another run, and the messages since then are of this turn."""
        run = self.run
        if run.stateless or not isinstance(saver, RemoteSaver):
            return
        state = run.first_state
        where = {"thread_id": run.thread_id, "checkpoint_ns": ""}
        found = await saver.aget_tuple({"configurable": where})
        run.first_state = state
        newest = found
        for _ in range(MOST_STEPS_BACK):
            if found is None or run.turn.loaded(found.metadata, found.checkpoint["channel_values"]):
                break
            if found.parent_config is None:
                break
            found = await saver.aget_tuple(found.parent_config)
        if newest is not None and run.turn.goes_on:
            self._usage.goes_on_from(newest.checkpoint["channel_values"])

    def _on_values(self, data: Any) -> None:
        self._seen_values += 1
        self.run.steps = self._seen_values - 1
        if type(data) is dict and INTERRUPT in data:
            self._on_interrupts(data[INTERRUPT])
            data = {key: value for key, value in data.items() if key != INTERRUPT}
        if self._seen_values == 1 and self._shows_start:
            self.run.turn.begun(data)
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
            told["result"] = None if self.interrupted else self.run.turn.result(self.values)
            if full:
                told["messages"] = jsonable.dumps(messages_of(self.values))
        return told


def _attach_trace(traceparent: str | None) -> None:
    """Lets the project's own OpenTelemetry instrumentation, where it is loaded, nest below the run."""
    if traceparent is None or "opentelemetry" not in sys.modules:
        return
    try:
        from opentelemetry import context, propagate

        context.attach(propagate.extract({"traceparent": traceparent}))
    except Exception:  # noqa: BLE001 - tracing must not fail a run
        log.debug("the trace context could not be attached", exc_info=True)
