"""What an exception becomes: an `error` map for the gateway, or the last words of a failed load."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from . import wire

PUBLIC_TYPES = frozenset(
    (ValueError, TypeError, KeyError, AttributeError, RuntimeError, RecursionError, TimeoutError)
)
"""The types whose messages LangGraph's own server passes on; subclasses stay inside."""

DATABASE_HINT = 'rapidclaw: DATABASE_URL is not set; "database": true in the rapidclaw section of langgraph.json gives the agent one'


def error_map(error: BaseException) -> dict[str, Any]:
    kind = type(error)
    public = kind in PUBLIC_TYPES or kind.__module__ == "langgraph.errors"
    return {"type": kind.__name__, "message": wire.text(error), "public": public}


def one_line(error: BaseException) -> str:
    message = " ".join(wire.text(error).split())
    return f"{type(error).__name__}: {message}"


def report_load(graph: str, error: BaseException, paths: Sequence[str]) -> None:
    """The traceback from the project's first frame on, then one line that names the graph."""
    error.__traceback__ = _from_project(error.__traceback__, paths)
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    sys.stderr.write("".join(lines).encode("utf-8", "replace").decode("utf-8"))
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
        if "DATABASE_URL" in str(error) and not os.environ.get("DATABASE_URL"):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False
