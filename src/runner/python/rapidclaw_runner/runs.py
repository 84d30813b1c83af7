"""Runs in flight: who they belong to, how they are stopped, that each ends exactly once.

A run is begun by a connection and executed on the graph loop. The connection thread watches its
deadline and ends it itself when graph code blocks the loop or swallows its cancellation, so that
a run's end never depends on the project's code.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter, deque
from concurrent.futures import Future
from time import monotonic
from typing import Any

from . import failures, wire
from .session import Disconnected, Session
from .state_size import DEFAULT_BYTES, StateSize, StateTooLarge

log = logging.getLogger("rapidclaw")

SAVES = ("checkpoint", "writes")
"""Frames that bring what the run has used with what it has done."""
STOP_SECONDS = 2.0
"""How long a stopped run's own code has to come to its end before it is ended without it."""
SILENT_SECONDS = 3.0
"""A gateway that pings and then says nothing for this long has its runs paused."""


class RunEnded(RuntimeError):
    """Code of a run that has ended still tries to use it."""


class Run:
    """One attempt at one run."""

    def __init__(self, session: Session, fields: dict[str, Any], now: float) -> None:
        self.session = session
        self.fields = fields
        self.id: str = fields["run"]
        self.attempt: int = int(fields.get("attempt") or 0)
        self.stateless = fields.get("thread_id") is None
        self.thread_id: str = self.id if self.stateless else fields["thread_id"]
        self.any_thread = False
        self.durability: str = fields.get("durability") or ("exit" if self.stateless else "async")
        self.traceparent: str | None = fields.get("traceparent")
        timeout_ms = fields.get("timeout_ms")
        self.timeout_seconds = timeout_ms / 1000 if timeout_ms else None
        self.deadline = now + self.timeout_seconds if self.timeout_seconds else None
        self.first_state: dict[str, Any] | None = fields.get("state")
        self.step_key: str | None = None
        """What `step_key()` answers, where the whole run is one step."""
        self.memory: Any = None
        self.served: Any = None
        """The project's graph that a copy of is executed, and the saver of that copy."""
        self.turn: Any = None
        self.answering: tuple[str, list[str]] | None = None
        """The checkpoint and the ids of the interrupts that this run answers, until a question is asked after that."""
        self.usage: Any = None
        self.control: Any = None
        self.steps = 0
        self.ended = False
        self.stop_status: str | None = None
        self.stop_reason = ""
        self.stop_by: float | None = None
        self.orphaned_at: float | None = None
        self.state_size = StateSize(int(fields.get("state_bytes") or 0) or DEFAULT_BYTES)
        self.refusal: BaseException | None = None
        """Why the state cannot be kept: ends the run, although saves are not waited for."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._drain_reason: str | None = None
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    @property
    def label(self) -> str:
        thread = "-" if self.stateless else self.thread_id
        return f"thread_id={wire.text(thread)} run_id={wire.text(self.id)}"

    # What graph code and the saver use, on any thread

    def send(self, kind: str, fields: dict[str, Any]) -> bool:
        with self._lock:
            if self.ended:
                raise RunEnded(f"the run has ended: {self.label}")
            return self.session.send(kind, self._own(kind, fields))

    def request(self, kind: str, fields: dict[str, Any]) -> Future[list[dict[str, Any]]]:
        if self.ended:
            raise RunEnded(f"the run has ended: {self.label}")
        return self.session.request(kind, self._own(kind, fields))

    def _own(self, kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        fields["run"], fields["attempt"] = self.id, self.attempt
        if kind in SAVES and self.usage is not None and (used := self.usage.untold()):
            fields["usage"] = used
        return fields

    def check_size(self, kind: str, frame: dict[str, Any], versions: dict[str, Any] | None = None) -> None:
        try:
            self.state_size.check(kind, frame, versions)
        except StateTooLarge as error:
            self.refusal = self.refusal or error
            raise

    @property
    def paused(self) -> bool:
        session = self.session
        return (
            session.is_away
            or session.is_congested(self.id)
            or (session.has_pinged and monotonic() - session.last_heard > SILENT_SECONDS)
        )

    async def while_paused(self) -> None:
        """Returns when the gateway listens again; raises when it will not."""
        while self.paused:
            if self._stopped.is_set() or self.ended:
                raise Disconnected("the gateway is gone")
            await asyncio.sleep(0.02)

    def block_while_paused(self) -> None:
        while self.paused:
            if self.ended or self._stopped.wait(0.02):
                raise Disconnected("the gateway is gone")

    def end(self, status: str, fields: dict[str, Any] | None = None) -> bool:
        """Sends the last frame, a smaller one where the full one cannot be packed; false when the run has
        ended before."""
        with self._lock:
            if self.ended:
                return False
            self.ended = True
            frame = {"run": self.id, "attempt": self.attempt, "status": status, "steps": self.steps}
            frame |= {"usage": [], "unmetered": False}
            try:
                if self.usage is not None:
                    frame["usage"], frame["unmetered"] = self.usage.summary()
                self.session.send("end", frame | (fields or {}))
            except Exception as error:  # noqa: BLE001 - too large, or a value that MessagePack cannot hold
                frame["status"] = "error"
                frame["error"] = (fields or {}).get("error") or failures.error_map(error)
                self._send_small_end(frame)
            return True

    def _send_small_end(self, frame: dict[str, Any]) -> None:
        try:
            self.session.send("end", frame)
        except Exception as error:  # noqa: BLE001
            log.error("the end of a run had to be cut: %s %s", failures.one_line(error), self.label)
            frame |= {"usage": [], "unmetered": True, "error": failures.error_map(error)}
            self.session.send("end", frame)

    # Beginning and stopping, on any thread

    def begin(self, loop: asyncio.AbstractEventLoop, execute: Any) -> None:
        def create() -> None:
            if not self.ended:
                self._task = loop.create_task(execute(self))
                if self.stop_status:
                    self._task.cancel()

        self._loop = loop
        loop.call_soon_threadsafe(create)

    def stop(self, status: str, reason: str) -> None:
        """Cancels the run; it ends with `status`, at the latest after `STOP_SECONDS`."""
        with self._lock:
            if self.ended or self.stop_status:
                return
            self.stop_status, self.stop_reason = status, reason
            self.stop_by = monotonic() + STOP_SECONDS
        self._stopped.set()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def drain(self, reason: str) -> None:
        """Asks the run to stop at its next step, where its framework knows how."""
        self._drain_reason = reason
        if self.control is not None:
            self.control.request_drain(reason)

    @property
    def shall_drain(self) -> bool:
        """Whether it was asked to stop at its next step."""
        return self._drain_reason is not None

    def attach_control(self, control: Any) -> None:
        self.control = control
        if self._drain_reason is not None and control is not None:
            control.request_drain(self._drain_reason)

    def stop_fields(self) -> dict[str, Any]:
        if self.stop_status == "timeout":
            message = f"the run took longer than {self.timeout_seconds:g} s"
            return {"error": {"type": "TimeoutError", "message": message, "public": True}}
        return {}


class Runs:
    """All runs of this replica."""

    def __init__(self, orphan_seconds: float) -> None:
        self.orphan_seconds = orphan_seconds
        self.by_status: Counter[str] = Counter()
        self.ended: deque[str] = deque(maxlen=1000)
        """Labels of the runs that have ended lately."""
        self._runs: dict[tuple[str, int], Run] = {}
        self._lock = threading.Lock()

    def add(self, run: Run) -> bool:
        """False for an attempt that is under way; a newer attempt fences the older one."""
        with self._lock:
            if (run.id, run.attempt) in self._runs:
                return False
            older = [other for other in self._runs.values() if other.id == run.id]
            self._runs[run.id, run.attempt] = run
        for other in older:
            other.stop("cancelled", "a newer attempt has begun")
        return True

    def finish(self, run: Run, status: str, fields: dict[str, Any] | None = None) -> None:
        """Ends a run once, whoever comes first: its own task or the connection thread."""
        ended_now = run.end(status, fields)
        with self._lock:
            self._runs.pop((run.id, run.attempt), None)
            if ended_now:
                self.by_status[status] += 1
                self.ended.append(run.label)

    def find(self, run: str, attempt: int) -> Run | None:
        return self._runs.get((run, attempt))

    def of(self, session: Session | None = None) -> list[Run]:
        with self._lock:
            runs = list(self._runs.values())
        return [run for run in runs if session is None or run.session is session]

    def __len__(self) -> int:
        return len(self._runs)

    def tick(self, now: float) -> float:
        """Applies deadlines; returns the moment of the next one. Belongs to the connection thread."""
        following = now + 0.5
        for run in self.of():
            if run.deadline is not None:
                if now >= run.deadline:
                    run.stop("timeout", "the run's time is over")
                else:
                    following = min(following, run.deadline)
            self._watch_gateway(run, now)
            if run.stop_by is not None:
                if now >= run.stop_by:
                    log.warning("run ended without its code, which does not stop: %s", run.label)
                    self.finish(run, run.stop_status or "cancelled", run.stop_fields())
                else:
                    following = min(following, run.stop_by)
        return following

    def _watch_gateway(self, run: Run, now: float) -> None:
        session = run.session
        if session.closed or session.detached_at is not None:
            run.orphaned_at = run.orphaned_at or session.detached_at or now
        elif session.has_pinged and now - session.last_heard > SILENT_SECONDS:
            run.orphaned_at = run.orphaned_at or session.last_heard
        else:
            run.orphaned_at = None
        if run.orphaned_at is not None and now - run.orphaned_at >= self.orphan_seconds:
            if run.stop_status is None:
                log.warning("run cancelled, its gateway is gone: %s", run.label)
            session.abandoned = session.abandoned or session.is_away
            run.stop("cancelled", "the gateway is gone")
