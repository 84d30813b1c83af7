"""What an exception becomes: an `error` map for the gateway, or the last words of a failed load.

Nothing here fails, whatever the exception is: a run's end depends on it. Values of the replica's
environment are blotted out of everything that is told or logged.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from . import foreign, wire

PUBLIC_TYPES = frozenset(
    (ValueError, TypeError, KeyError, AttributeError, RuntimeError, RecursionError, TimeoutError)
)
"""The types whose messages LangGraph's own server passes on; subclasses stay inside."""

DATABASE_HINT = 'rapidclaw: DATABASE_URL is not set; "database": true in the rapidclaw section of langgraph.json gives the agent one'

public_modules: set[str] = set()
"""Modules of frameworks whose exceptions' messages may leave the server as well."""
remarks: list[Callable[[BaseException], str | None]] = []
"""What frameworks add to the message of an exception that they know the cause of."""

BLOT = "***"
SHORTEST_SECRET = 8
TRACE_CHARS = 32 << 10
LEAVES = 5
"""Exceptions of a group that its message names."""

_secrets: re.Pattern[str] | None = None


class PublicError(Exception):
    """An error of ours whose message is written for the caller."""


class TurnRefused(PublicError):
    """The turn does not fit the thread; the thread is as it was."""

    def __init__(self, code: str, message: str, interrupts: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.interrupts = list(interrupts)


def hide(environment: Mapping[str, str]) -> None:
    """From now on these values are blotted out; plain addresses and names of models are no secrets."""
    global _secrets
    found = {
        value
        for name, value in environment.items()
        if len(value) >= SHORTEST_SECRET
        and not name.endswith("MODEL")
        and not re.fullmatch(r"https?://[^@?\s]*", value)
    }
    found |= {line for value in found for line in value.splitlines() if len(line) >= 2 * SHORTEST_SECRET}
    longest_first = sorted(found, key=len, reverse=True)
    _secrets = re.compile("|".join(map(re.escape, longest_first))) if found else None


def blotted(text: str) -> str:
    return _secrets.sub(BLOT, text) if _secrets is not None else text


def error_map(error: BaseException) -> dict[str, Any]:
    try:
        told = {"type": foreign.type_name(error), "message": message(error), "public": _is_public(error)}
    except BaseException:  # noqa: BLE001 - an end goes out, whatever the exception is
        told = {"type": foreign.type_name(error), "message": "", "public": False}
    if isinstance(error, TurnRefused):
        told |= {"code": error.code, "interrupts": error.interrupts}
    return told


def message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return blotted(foreign.text(error.code if error.code is not None else 0))
    said = foreign.text(error)
    if isinstance(error, BaseExceptionGroup):
        leaves = [f"{foreign.type_name(leaf)}: {foreign.text(leaf, 1000)}" for leaf in _leaves(error)]
        said = "; ".join((said, *leaves))
    for remark in remarks:
        if added := remark(error):
            said = f"{said} ({added})"
    return blotted(said)


def _is_public(error: BaseException) -> bool:
    kind = type(error)
    if kind in PUBLIC_TYPES or isinstance(error, (PublicError, wire.TooLarge)):
        return True
    if kind is SystemExit:
        return error.code is None or type(error.code) is int
    return kind.__module__ in public_modules


def _leaves(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    """The first exceptions of a group, however deep they are."""
    waiting: list[BaseException] = [group]
    found = 0
    while waiting and found < LEAVES:
        error = waiting.pop()
        if isinstance(error, BaseExceptionGroup):
            waiting.extend(reversed(error.exceptions[:LEAVES]))
        else:
            found += 1
            yield error


def one_line(error: BaseException) -> str:
    told = error_map(error)
    return f"{told['type']}: {' '.join(told['message'].split())}"


def trace(error: BaseException) -> str:
    """The traceback as text; the one line where there is none to be had."""
    try:
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        return blotted(foreign.clean("".join(lines), TRACE_CHARS).rstrip())
    except BaseException:  # noqa: BLE001 - groups nested too deep, foreign `__dir__`, …
        return one_line(error)


def report_load(graph: str, error: BaseException, paths: Sequence[str]) -> None:
    """The traceback from the project's first frame on, then one line that names the graph."""
    error.__traceback__ = _from_project(error.__traceback__, paths)
    sys.stderr.write(trace(error) + "\n")
    if _wants_database(error):
        sys.stderr.write(DATABASE_HINT + "\n")
    sys.stderr.write(f"rapidclaw: graph {graph}: {one_line(error)}\n")
    sys.stderr.flush()


def _from_project(trace: TracebackType | None, paths: Sequence[str]) -> TracebackType | None:
    """Without the frames of the runner and of the import machinery that come before the project's."""
    roots = tuple(os.path.join(os.path.realpath(path), "") for path in paths)
    found = trace
    while found is not None:
        file = found.tb_frame.f_code.co_filename
        if roots and not file.startswith("<") and os.path.realpath(file).startswith(roots):
            return found
        found = found.tb_next
    own = os.path.dirname(os.path.abspath(__file__))
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith((own, "<frozen importlib")):
        trace = trace.tb_next
    return trace


def _wants_database(error: BaseException | None) -> bool:
    seen = 0
    while error is not None and seen < 10:
        if "DATABASE_URL" in foreign.text(error) and not os.environ.get("DATABASE_URL"):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False
