"""Executing one run: its target's framework does, and here it ends, once, whatever happens."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from . import current_run, failures, hints
from .frameworks.interface import Drained, Execution, Target
from .runs import Run, Runs

log = logging.getLogger("rapidclaw")


def executor(targets: dict[str, Target], runs: Runs) -> Callable[[Run], Coroutine[Any, Any, None]]:
    async def execute(run: Run) -> None:
        """Ends the run exactly once, whatever the project's code raises, and raises nothing itself."""
        current_run.set(run)
        _attach_trace(run.traceparent)
        execution: Execution | None = None
        told: dict[str, Any] = {}
        try:
            target = targets.get(run.fields["graph"])
            if target is None:
                raise ValueError(f"no such graph: {run.fields['graph']}; there are {', '.join(targets)}")
            execution = target.execution(run)
            status = await execution.drive()
        except Drained:
            status = "drained"
        except BaseException as error:  # noqa: BLE001 - SystemExit and their kin end this run, not the replica
            if run.stop_status is None:
                status, told = "error", _failed(run, error)
            else:
                status, told = run.stop_status, run.stop_fields()
        try:
            if execution is not None:
                told = execution.answer(status) | told
        except BaseException as error:  # noqa: BLE001 - the values are the project's own objects
            if status in ("success", "interrupted"):
                status, told = "error", _failed(run, error)
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


def _attach_trace(traceparent: str | None) -> None:
    """Lets the project's own OpenTelemetry instrumentation, where it is loaded, nest below the run."""
    if traceparent is None or "opentelemetry" not in sys.modules:
        return
    try:
        from opentelemetry import context, propagate

        context.attach(propagate.extract({"traceparent": traceparent}))
    except Exception:  # noqa: BLE001 - tracing must not fail a run
        log.debug("the trace context could not be attached", exc_info=True)
