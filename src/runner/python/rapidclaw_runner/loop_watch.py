"""Watches the graph loop from the connection thread: whether it moves, and which code holds it.

A node that blocks the loop (a computation, `time.sleep` in an async node) holds up every run of the
replica. The gateway is told with each `pong`: it gives the replica no new runs, lets those that wait go on
elsewhere, and replaces the replica if it lasts; the log names run, node, file and line. A process that was
stopped as a whole has not stalled: only time in which the connection thread itself was awake counts.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from time import monotonic
from types import FrameType
from typing import Any

from . import current_run, foreign
from .frameworks.interface import Framework

log = logging.getLogger("rapidclaw")

BEAT_SECONDS = 0.5
STALLED_SECONDS = 1.0
LONGEST_LOOK_SECONDS = 2.0
"""What one look may add: between two looks further apart the watcher was held up itself."""
LOGGED_AT = (3.0, 30.0, 120.0)
HELD_SECONDS = 15
"""Code in C that holds the interpreter (a regular expression) stops the watcher too: after so long Python's
own watchdog, which needs no interpreter, writes every thread's traceback to the log."""
MOST_FRAMES = 500
MOST_TASKS_ABOVE = 10


class LoopWatch:
    """`attach` belongs to the loop's thread, `look` to the watcher's."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._roots: tuple[str, ...] = ()
        self._frameworks: Sequence[Framework] = ()
        self._beats = 0
        self._seen_beats = 0
        self._seen_at = monotonic()
        self._stalled_for = 0.0
        self._logged = 0

    def attach(
        self, loop: asyncio.AbstractEventLoop, paths: Sequence[str], frameworks: Sequence[Framework] = ()
    ) -> None:
        self._frameworks = frameworks
        self._roots = tuple(os.path.join(os.path.realpath(path), "") for path in paths)
        self._thread = threading.get_ident()
        self._loop = loop
        self._beat()

    def _beat(self) -> None:
        self._beats += 1
        if self._beats % 10 == 1:
            with suppress(OSError, ValueError, RuntimeError):
                faulthandler.dump_traceback_later(HELD_SECONDS, file=2)
        if self._loop is not None:
            self._loop.call_later(BEAT_SECONDS, self._beat)

    def look(self, now: float) -> dict[str, Any] | None:
        """What holds the loop, once it has not moved for a while: the `stalled` of a `pong`."""
        since, self._seen_at = min(now - self._seen_at, LONGEST_LOOK_SECONDS), now
        if self._loop is None or self._beats != self._seen_beats:
            self._seen_beats, self._stalled_for, self._logged = self._beats, 0.0, 0
            return None
        self._stalled_for += since
        if self._stalled_for < STALLED_SECONDS:
            return None
        try:
            found = self._holder()
        except Exception:  # noqa: BLE001 - frames of code that runs meanwhile
            found = {"run": None, "thread": None, "node": None, "where": None}
        self._log(found)
        thread = found.pop("thread")
        return found | {"seconds": round(self._stalled_for, 1), "thread_id": thread}

    def _log(self, found: dict[str, Any]) -> None:
        due = sum(self._stalled_for >= seconds for seconds in LOGGED_AT)
        if due > self._logged:
            self._logged = due
            log.warning(
                "the graph loop has not moved for %.0f s, and every run of this replica waits: "
                "node %s at %s thread_id=%s run_id=%s",
                self._stalled_for, found["node"] or "-", found["where"] or "-", found["thread"] or "-", found["run"] or "-",
            )  # fmt: skip

    def _holder(self) -> dict[str, Any]:
        frames = list(_frames(sys._current_frames().get(self._thread)))
        above = [*frames, *self._frames_of_those_who_wait()]
        run, node = self._from_context()
        for frame in above:
            if run is None and frame.f_code.co_filename.startswith(_HERE):
                found = frame.f_locals.get("run")
                run = found if hasattr(found, "label") else None
            if node is None:
                node = self._node(lambda framework, frame=frame: framework.node_of_frame(frame))
        return {
            "run": getattr(run, "id", None),
            "thread": None if run is None or run.stateless else run.thread_id,
            "node": None if node is None else foreign.text(node, 200),
            "where": self._where(frames),
        }

    def _node(self, ask: Callable[[Framework], Any]) -> Any:
        return next((node for framework in self._frameworks if (node := ask(framework)) is not None), None)

    def _from_context(self) -> tuple[Any, str | None]:
        """From Python 3.12 on a task tells its context, which knows the run and what its framework executes."""
        try:
            context = asyncio.current_task(self._loop).get_context()  # type: ignore[union-attr]
            return context.get(current_run), self._node(lambda framework: framework.node_of_context(context))
        except Exception:  # noqa: BLE001 - no task, an older Python
            return None, None

    def _frames_of_those_who_wait(self) -> Iterator[FrameType]:
        """LangGraph runs a node's code in a task of its own: the frames of the tasks that wait for it, or of
        what waits for those, up to the run's."""
        try:
            tasks, waited_for = asyncio.all_tasks(self._loop), asyncio.current_task(self._loop)
        except Exception:  # noqa: BLE001
            return
        for _ in range(MOST_TASKS_ABOVE):
            waiting = next((task for task in tasks if getattr(task, "_fut_waiter", None) is waited_for), None)
            if waiting is None or waited_for is None:
                return
            coroutine: Any = waiting.get_coro()
            left = MOST_FRAMES
            while coroutine is not None and left > 0:
                if (frame := getattr(coroutine, "cr_frame", None)) is not None:
                    yield frame
                coroutine, left = getattr(coroutine, "cr_await", None), left - 1
            waited_for = waiting

    def _where(self, frames: list[FrameType]) -> str | None:
        """The innermost line of the project's own code, else the innermost of all."""
        for frame in frames:
            if os.path.realpath(frame.f_code.co_filename).startswith(self._roots or ("/\0",)):
                return _place(frame)
        return _place(frames[0]) if frames else None


_HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    left = MOST_FRAMES
    while frame is not None and left > 0:
        yield frame
        frame, left = frame.f_back, left - 1


def _place(frame: FrameType) -> str:
    return foreign.clean(f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}", 500)
