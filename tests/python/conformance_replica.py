"""LangGraph's checkpointer conformance suite, run through a replica's real connection and saver.

    RAPIDCLAW_RUN=DIR python conformance_replica.py

Serves `DIR/r/runner.sock` as a replica does (secret from `DIR/s/replica.json`), waits for a gateway
to connect, and runs all eight capabilities as run "conformance", attempt 1. The gateway must grant
that run every thread, though it sent no `start` for it. `checkpoint`, `read` and `manage` frames want
a `reply`; `writes` frames do not, but a later read must see them. The run ends with an `end` frame;
then the report is printed as JSON. Exits 0 when every capability is there and passes.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src" / "runner" / "python"))

from langgraph.checkpoint.conformance import checkpointer_test, validate

from rapidclaw_runner import current_run
from rapidclaw_runner.runs import Run, Runs
from rapidclaw_runner.saver import RemoteSaver
from rapidclaw_runner.server import Server

CAPABILITIES = 8
WAIT_SECONDS = 60


def main() -> None:
    base = Path(os.environ.get("RAPIDCLAW_RUN") or "/run/rapidclaw")
    secret = json.loads((base / "s" / "replica.json").read_text())["secret"]
    runs, abandoned = Runs(orphan_seconds=8), threading.Event()
    server = Server(
        str(base / "r" / "runner.sock"), secret, runs,
        on_drained=lambda: os._exit(0), on_abandoned=abandoned.set,
    )  # fmt: skip
    server.start()
    describe = {"protocol": 1, "runner": "conformance", "framework": "langgraph", "drain": False}
    describe |= {"notes": [], "graphs": {}, "versions": {}, "python": sys.version.split()[0]}
    server.loaded(json.dumps(describe).encode(), lambda run: run.end("error"))
    deadline = time.monotonic() + WAIT_SECONDS
    while not (gateways := [c for c in server.connections.copy() if c.is_gateway]):
        if time.monotonic() > deadline:
            sys.exit("no gateway has connected")
        time.sleep(0.02)

    fields = {"run": "conformance", "attempt": 1, "thread_id": "conformance", "durability": "sync"}
    run = Run(gateways[0], fields | {"graph": ""}, time.monotonic())
    run.any_thread = True
    saver = RemoteSaver(runs)

    @checkpointer_test(name="rapidclaw")
    async def factory():
        yield saver

    async def suite():
        current_run.set(run)
        return await validate(factory)

    report = asyncio.run(suite())
    run.end("success")
    print(json.dumps(report.to_dict(), indent=2), flush=True)
    results = report.to_dict()["results"].values()
    passed = sum(1 for result in results if result["detected"] and result["passed"])
    os._exit(0 if passed == CAPABILITIES == len(results) else 1)


if __name__ == "__main__":
    main()
