"""Executing one run of a graph: LangGraph's stream in, frames out."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.constants import END
from langgraph.pregel import Pregel

from ... import jsonable
from ...runs import Run
from ..interface import Drained, asked_modes
from . import answers, inputs
from .describe import RunControl
from .loader import Entry
from .saver import RemoteSaver
from .turn import Turn, messages_of
from .usage import Usage, UsageCallback

try:
    from langgraph.errors import GraphDrained
except ImportError:  # before 1.2

    class GraphDrained(Exception):  # type: ignore[no-redef]
        """Never raised there."""


OWN_MODES = ("values", "updates")
INTERRUPT = "__interrupt__"
MOST_STEPS_BACK = 256
"""Checkpoints of an earlier attempt that are looked through for the turn's beginning."""


class Stream:
    """What one run's stream has shown so far."""

    def __init__(self, run: Run, entry: Entry) -> None:
        self.run = run
        self._entry = entry
        self.values: Any = None
        self.interrupts: dict[str, Any] = {}
        self.interrupted = False
        self._seen_values = 0
        self._shows_start = True
        fields = run.fields
        self._asked: list[str] = []
        self._subgraphs = bool(fields.get("subgraphs"))
        run.turn = Turn(run.id, run.attempt)
        self._usage = run.usage = Usage(run.turn.known_ids, run.attempt)

    async def drive(self) -> str:
        try:
            await self._drive()
        except GraphDrained as error:
            # Where nobody asked for it, it is the project's own, as any other.
            if self.run.shall_drain:
                raise Drained from error
            raise
        return "interrupted" if self.interrupted else "success"

    async def _drive(self) -> None:
        run, entry = self.run, self._entry
        self._asked = asked_modes(run.fields)
        if RunControl is not None:
            run.attach_control(RunControl())
        if run.stateless and not run.any_thread:
            run.memory = InMemorySaver()
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

    def answer(self, status: str) -> dict[str, Any]:
        fields = self.run.fields
        kind, full = fields.get("answer") or "none", bool(fields.get("full"))
        told: dict[str, Any] = {}
        if status == "interrupted":
            told["interrupts"] = jsonable.dumps(list(self.interrupts.values()))
        if kind == "values" or (kind == "chat" and full):
            told["values"] = jsonable.dumps(self.values)
        if kind == "chat":
            told["result"] = None if self.interrupted else self.run.turn.result(self.values)
            if full:
                told["messages"] = jsonable.dumps(messages_of(self.values))
        return told
