"""The Python half of rapidclaw: loads a project's graphs and executes runs.

PROTOCOL.md, beside this package's folder, says what travels between a replica and a gateway.
Project code may import `step_key` and `traceparent`; everything else is the runner's own.
"""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .runs import Run

__version__ = "0.1.0"

current_run: contextvars.ContextVar[Run | None] = contextvars.ContextVar("rapidclaw_run", default=None)
"""The run that this code works for. asyncio tasks, and the threads that frameworks start for it, inherit it."""


def step_key(config: dict[str, Any] | None = None) -> str:
    """A key for the step that calls this: the same when the step is tried again, in whatever replica.

    `THREAD_ID:STEP`, in a subgraph `THREAD_ID:STEP:NAMESPACE`. A step that does several things
    (tool calls in parallel) appends something of its own, such as the tool call's id. Works in any
    LangGraph node or tool, under rapidclaw or not; `config` is only needed where LangGraph's
    context does not reach.
    """
    run = current_run.get()
    if config is None and run is not None and run.step_key is not None:
        return run.step_key
    from .frameworks.langgraph.keys import step_key as of_config

    return of_config(config)


def traceparent() -> str | None:
    """The W3C trace context of the run that calls this, if the gateway sent one."""
    run = current_run.get()
    return run.traceparent if run is not None else None
