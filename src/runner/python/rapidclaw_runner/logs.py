"""Log lines on stderr: plain text, with `thread_id` and `run_id` on every line of a run."""

from __future__ import annotations

import logging
import sys

from . import current_run, failures

LEVELS = {"trace": logging.DEBUG, "debug": logging.DEBUG, "info": logging.INFO}
LEVELS |= {"warn": logging.WARNING, "warning": logging.WARNING, "error": logging.ERROR}
QUIET = ("httpx", "httpx2", "httpcore", "httpcore2", "websockets", "openai._base_client", "asyncio")
"""Libraries that speak at `info` about every request."""


class RunFormatter(logging.Formatter):
    """The project's own log lines bear the run they come from as well, and no secret of its environment."""

    def format(self, record: logging.LogRecord) -> str:
        line = failures.blotted(super().format(record))
        run = current_run.get()
        if run is None or "run_id=" in line:
            return line
        first, newline, rest = line.partition("\n")
        return f"{first} {run.label}{newline}{rest}"


def set_up(level: str) -> None:
    """Before project code: a project that configures logging itself still wins."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RunFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    threshold = LEVELS.get(level.lower(), logging.INFO)
    logging.basicConfig(level=threshold, handlers=[handler])
    for name in QUIET:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))
