"""Whether a turn is new input or the answer to open interrupts: the thread's state decides, not its history.

An interrupt is open while the newest root checkpoint holds it among its pending writes and its task has not
finished: also after an error, a time-out or a lost replica. An answer is given by interrupt id, and it is never
used for another question. What a run answers is noted beside the checkpoint before the graph goes on, in the
same stream as everything else, so that a later attempt sees the note whenever it sees what came of it. When a
question is asked after that, the note says so first: then a later attempt answers nothing and the graph asks
again. (LangGraph gives what is answered by id to the next interrupt of the same task as well.)
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from typing import Any

from langgraph.checkpoint.base import WRITES_IDX_MAP
from langgraph.pregel import Pregel

from ... import jsonable
from ...failures import TurnRefused
from ...runs import Run

INTERRUPT, RESUME, ERROR = "__interrupt__", "__resume__", "__error__"
NOTE = "__rapidclaw_answers__"
"""The channel of the note; its task is the run. LangGraph never sees it."""
NULL_TASK = "00000000-0000-0000-0000-000000000000"
UNFINISHED = frozenset((*WRITES_IDX_MAP, INTERRUPT, RESUME, ERROR, NOTE, "__error_source_node__"))
"""Channels that a task may have written to and still have to run again."""
INTERRUPT_ID = re.compile("[0-9a-f]{32}")


class Newest:
    """The thread's newest root checkpoint, as far as it decides about a turn."""

    def __init__(self, checkpoint_id: str, metadata: dict[str, Any], writes: list[tuple[str, str, Any]], ours: bool):
        self.checkpoint_id = checkpoint_id
        self.run_id = metadata.get("run_id")
        self.graph_id = metadata.get("graph_id")
        self.writes = writes
        self.ours = ours

    def open(self) -> dict[str, Any]:
        """Open interrupts by their ids."""
        finished = {task for task, channel, _ in self.writes if channel not in UNFINISHED}
        return {
            str(interrupt.id): interrupt
            for task, channel, value in self.writes
            if channel == INTERRUPT and task not in finished
            for interrupt in value or ()
        }

    def note_of(self, run: str) -> dict[str, Any] | None:
        for task, channel, value in self.writes:
            if channel == NOTE and task == run:
                return jsonable.loads(value)
        return None


async def decide(run: Run, graph: Pregel, config: dict[str, Any]) -> dict[str, Any] | None:
    """The fields of `start` with the turn's `input` or `command`; none where an earlier attempt of the run
    stands at a breakpoint, which a human has to see."""
    fields = run.fields
    if fields.get("turn") is None:
        return fields
    turn = jsonable.loads(fields["turn"])
    if turn.get("tags"):
        config["tags"] = [*(config.get("tags") or ()), *turn["tags"]]
    newest = await _newest(run, graph, config)
    if newest is None:
        return _begin(fields, turn, turn.get("first") or {})
    if newest.run_id == run.id:
        at_breakpoint, _ = await _breakpoint(run, graph, config)
        return None if at_breakpoint else _go_on(fields)
    if turn.get("anew") or newest.graph_id not in (None, fields["graph"]):
        return _begin(fields, turn, {})
    note = newest.note_of(run.id)
    if note is not None:
        # An attempt before this one has answered: the same, or nothing.
        ids = () if note["spent"] else note["ids"]
        return _answer(run, fields, newest, {id: _value(turn, id) for id in ids}, is_noted=True)
    if open := newest.open():
        answers = _answers(turn, list(open))
        if run.attempt > 1 and not newest.ours:
            # Nothing is noted in a checkpointer of the graph's own: asked again is better than answered twice.
            answers = {}
        return _answer(run, fields, newest, answers, is_noted=False)
    at_breakpoint, is_more_to_do = await _breakpoint(run, graph, config)
    if at_breakpoint and is_more_to_do:
        return _go_on(fields)
    return _begin(fields, turn, {})


def before_writes(run: Run, writes: Sequence[tuple[str, Any]]) -> Sequence[tuple[str, Any]]:
    """What of a task's writes is kept. To be asked before they are sent."""
    if run.fields.get("turn") is None:
        return writes
    channels = {channel for channel, _ in writes}
    if INTERRUPT in channels and run.answering is not None:
        checkpoint_id, ids = run.answering
        run.answering = None
        _note(run, checkpoint_id, ids, spent=True)
    if ERROR in channels and RESUME in channels:
        # The task failed on the answer: its question stays as open as it was, for the next answer.
        return [write for write in writes if write[0] != RESUME]
    return writes


def kept_writes(run: Run, writes: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """The writes of a TUPLE that LangGraph may see. An answer that names no interrupt (of a runner before
    this one) would be taken by whichever asks next."""
    is_turn = run.fields.get("turn") is not None
    return [
        write
        for write in writes
        if write[1] != NOTE and not (is_turn and write[0] == NULL_TASK and write[1] == RESUME)
    ]


def _begin(fields: dict[str, Any], turn: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    given = turn.get("input")
    if given is None:
        raise TurnRefused("nothing-to-resume", "the thread waits for no answer")
    if turn.get("not_chat"):
        raise TurnRefused("graph-not-chat", turn["not_chat"])
    return fields | {"input": jsonable.dumps(first | given), "command": None}


def _go_on(fields: dict[str, Any]) -> dict[str, Any]:
    return fields | {"input": None, "command": None}


def _answer(
    run: Run, fields: dict[str, Any], newest: Newest, answers: dict[str, Any], is_noted: bool
) -> dict[str, Any]:
    if not answers:
        return _go_on(fields)
    if newest.ours:
        if not is_noted:
            _note(run, newest.checkpoint_id, list(answers), spent=False)
        run.answering = (newest.checkpoint_id, list(answers))
    return fields | {"input": None, "command": jsonable.dumps({"resume": answers})}


def _answers(turn: dict[str, Any], open: list[str]) -> dict[str, Any]:
    by_id = _by_id(turn)
    if by_id is not None:
        unknown = [id for id in by_id if id not in open]
        if unknown:
            raise TurnRefused("no-such-interrupt", f"not open: {', '.join(unknown)}; open: {', '.join(open)}", open)
        return by_id
    if len(open) > 1:
        raise TurnRefused("several-interrupts", f"open: {', '.join(open)}", open)
    return {open[0]: _value(turn, open[0])}


def _by_id(turn: dict[str, Any]) -> dict[str, Any] | None:
    value = (turn.get("resume") or [None])[0]
    is_map = isinstance(value, dict) and bool(value) and all(map(INTERRUPT_ID.fullmatch, value))
    return value if is_map else None


def _value(turn: dict[str, Any], id: str) -> Any:
    by_id = _by_id(turn)
    if by_id is not None:
        return by_id.get(id)
    return turn["resume"][0] if turn.get("resume") else turn.get("message")


def _note(run: Run, checkpoint_id: str, ids: list[str], spent: bool) -> None:
    run.send(
        "writes",
        {
            "id": 0,
            "thread_id": run.thread_id,
            "ns": "",
            "checkpoint_id": checkpoint_id,
            "task_id": run.id,
            "task_path": "",
            "overwrite": True,
            "writes": [[0, NOTE, "bytes", jsonable.dumps({"ids": ids, "spent": spent})]],
        },
    )


async def _newest(run: Run, graph: Pregel, config: dict[str, Any]) -> Newest | None:
    from .saver import RemoteSaver

    saver = graph.checkpointer
    if not saver or saver is True or run.memory is not None:
        return None
    if not isinstance(saver, RemoteSaver):
        found = await _of_own(saver, config)
        if found is None:
            return None
        return Newest(found.checkpoint["id"], dict(found.metadata or {}), list(found.pending_writes or ()), ours=False)
    row = await saver.newest_row(run, config)
    if row is None:
        return None
    writes = [
        (write[0], write[1], write[3] if write[1] == NOTE else saver.serde.loads_typed((write[2], write[3])))
        if write[1] in (INTERRUPT, NOTE)
        else (write[0], write[1], None)
        for write in row.get("writes") or ()
    ]
    return Newest(row["checkpoint_id"], jsonable.loads(row.get("metadata") or b"{}"), writes, ours=True)


async def _of_own(saver: Any, config: dict[str, Any]) -> Any:
    try:
        return await saver.aget_tuple(config)
    except NotImplementedError:
        return await asyncio.to_thread(saver.get_tuple, config)


async def _breakpoint(run: Run, graph: Pregel, config: dict[str, Any]) -> tuple[bool, bool]:
    """Whether the newest checkpoint stands at one of the graph's own breakpoints that was not passed yet, and
    whether there is something to do after it."""
    before, after = graph.interrupt_before_nodes, graph.interrupt_after_nodes
    if not before and not after:
        return False, False
    state = run.first_state
    try:
        found = await _of_own(graph.checkpointer, config)
        run.first_state = state
        if found is None or not _moved_since_interrupt(found.checkpoint):
            return False, False
        snapshot = await graph.aget_state(config)
        stands = any(_names(before, snapshot.next))
        if not stands and after and snapshot.parent_config:
            done = await graph.aget_state(snapshot.parent_config)
            stands = any(_names(after, (task.name for task in done.tasks)))
        return stands, bool(snapshot.next)
    finally:
        run.first_state = state


def _names(wanted: Any, names: Any) -> Iterator[bool]:
    return (wanted == "*" or name in wanted for name in names)


def _moved_since_interrupt(checkpoint: Any) -> bool:
    versions = checkpoint["channel_versions"]
    seen = checkpoint["versions_seen"].get(INTERRUPT, {})
    nothing = type(next(iter(versions.values()), ""))()
    return any(version > seen.get(channel, nothing) for channel, version in versions.items())
