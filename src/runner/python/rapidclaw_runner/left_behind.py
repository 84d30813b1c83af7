"""Processes that runs leave behind in the replica: found in /proc, named in the log, ended where they burn.

A process that began during runs and is still there when all of them have ended is named once. Many are
meant to stay (a pool's workers, a tool server that the next run uses), so a process is only ended when
it goes on computing while no run at all is in flight: then nobody can be waiting for it, and it would
take the processor from the next runs.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import monotonic

from . import foreign
from .runs import Runs

log = logging.getLogger("rapidclaw")

EVERY_SECONDS = 1.0
BURNING_SHARE = 0.5
BURNING_LOOKS = 5
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Process:
    pid: int
    parent: int
    group: int
    started: int
    name: str
    cpu_seconds: float


@dataclass
class _Known:
    runs: frozenset[str]
    """What was in flight when it began; empty for what the replica's start brought."""
    is_named: bool = False
    wanted_seconds: float = 0.0
    seen_at: float = 0.0
    burning: int = field(default=0)


class LeftBehind:
    def __init__(self) -> None:
        self._known: dict[tuple[int, int], _Known] = {}
        self._next = 0.0
        self._is_first = True

    def look(self, runs: Runs) -> None:
        now = monotonic()
        if now < self._next:
            return
        self._next = now + EVERY_SECONDS
        try:
            self._look(now, runs)
        except Exception:  # noqa: BLE001 - a look must not end the connection thread's work
            log.debug("processes could not be looked at", exc_info=True)

    def _look(self, now: float, runs: Runs) -> None:
        in_flight = frozenset(run.label for run in runs.of())
        ended = [runs.ended.popleft() for _ in range(len(runs.ended))]
        present = {(process.pid, process.started): process for process in _ours()}
        self._known = {key: known for key, known in self._known.items() if key in present}
        for key, process in present.items():
            if key not in self._known:
                began_in = frozenset() if self._is_first else in_flight.union(ended)
                self._known[key] = _Known(began_in, seen_at=now)
        self._is_first = False
        left = [(process, self._known[key]) for key, process in present.items()]
        left = [(process, known) for process, known in left if known.runs and not known.runs & in_flight]
        fresh = [(process, known) for process, known in left if not known.is_named]
        for process, known in fresh:
            known.is_named = True
        if fresh:
            names = ", ".join(f"{process.name} (pid {process.pid})" for process, _ in fresh[:20])
            of = ", ".join(sorted(frozenset().union(*(known.runs for _, known in fresh)))[:5])
            log.warning("%d processes were left behind by runs: %s; %s", len(fresh), names, of)
        for process, known in left:
            self._end_if_it_burns(process, known, now, is_idle=not in_flight and not ended)

    def _end_if_it_burns(self, process: Process, known: _Known, now: float, is_idle: bool) -> None:
        passed, wanted = now - known.seen_at, process.cpu_seconds + _waited_seconds(process.pid)
        burns = passed > 0 and wanted - known.wanted_seconds >= BURNING_SHARE * passed
        known.wanted_seconds, known.seen_at = wanted, now
        known.burning = known.burning + 1 if burns and is_idle else 0
        if known.burning < BURNING_LOOKS:
            return
        known.burning = 0
        log.warning("%s (pid %d) goes on computing and no run is in flight: it is ended", process.name, process.pid)
        try:
            if process.group == process.pid:
                os.killpg(process.group, signal.SIGKILL)
            else:
                os.kill(process.pid, signal.SIGKILL)
        except OSError as error:
            log.warning("it could not be ended: %s", error)


def _ours() -> Iterator[Process]:
    """This process's descendants, and in a container those that have lost their parent."""
    processes = {process.pid: process for process in _all()}
    me = os.getpid()
    roots = {me}
    if _is_contained(processes):
        spared = _line_above(processes, me) | {me}
        roots |= {pid for pid, process in processes.items() if process.parent == 1 and pid not in spared}
    for pid, process in processes.items():
        if pid != me and (pid in roots or _descends(processes, pid, roots)):
            yield process


def _waited_seconds(pid: int) -> float:
    """How long the process's threads have waited for a processor: on a busy machine one that burns gets little."""
    waited = 0
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
                waited += int(file.read().split()[1])
    except (OSError, IndexError, ValueError):
        pass
    return waited / 1e9


def _line_above(processes: dict[int, Process], pid: int) -> set[int]:
    found: set[int] = set()
    while (process := processes.get(pid)) is not None and process.parent and process.parent not in found:
        pid = process.parent
        found.add(pid)
    return found


def _is_contained(processes: dict[int, Process]) -> bool:
    """Whether all that lives here is of this replica: its supervisor is the first process, or the child of one
    that the container's engine has put there."""
    above = _line_above(processes, os.getpid())
    return len(above) <= 2 and 1 in above


def _descends(processes: dict[int, Process], pid: int, roots: set[int]) -> bool:
    return bool(_line_above(processes, pid) & roots)


def _all() -> Iterator[Process]:
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                head, _, rest = file.read().rpartition(")")
        except OSError:
            continue
        fields = rest.split()
        if fields[0] in ("Z", "X"):
            continue
        yield Process(
            pid=int(entry),
            parent=int(fields[1]),
            group=int(fields[2]),
            started=int(fields[19]),
            name=foreign.clean(head.partition("(")[2], 60),
            cpu_seconds=(int(fields[11]) + int(fields[12])) / _TICKS,
        )
