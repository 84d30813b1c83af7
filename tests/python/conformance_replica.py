"""LangGraph's checkpointer conformance suite, run through a replica's real connection and saver.

    RAPIDCLAW_RUN=DIR python conformance_replica.py

Serves `DIR/r/runner.sock` as a replica does (secret from `DIR/s/replica.json`), waits for a gateway
to connect, and runs all eight capabilities as run "conformance", attempt 1. The gateway must grant
that run every thread, though it sent no `start` for it. `checkpoint`, `read` and `manage` frames want
a `reply`; `writes` frames do not, but a later read must see them. The run ends with an `end` frame;
then the report is printed as JSON. Exits 0 when every capability is there and passes.

With `RAPIDCLAW_CONFORMANCE_RUN`, a UUID, it waits for the gateway's `start` of that run instead, so
that the run has a row and an attempt that can be fenced. With `RAPIDCLAW_CONFORMANCE_DATABASE` and
`RAPIDCLAW_CONFORMANCE_SCHEMA` it then runs graphs and compares, tuple by tuple, what the saver reads
through the gateway with what LangGraph's own `PostgresSaver` reads in those tables (`same_state.py`);
the report then holds that under "same_state".
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src" / "runner" / "python"))

from langgraph.checkpoint.conformance import checkpointer_test, validate

from rapidclaw_runner import current_run
from rapidclaw_runner.runs import Run, Runs
from rapidclaw_runner.frameworks.langgraph.saver import RemoteSaver
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
    started: queue.Queue[Run] = queue.Queue()
    server.loaded(json.dumps(describe).encode(), started.put)
    wanted = os.environ.get("RAPIDCLAW_CONFORMANCE_RUN")
    run = started_run(started, wanted) if wanted else run_of_our_own(server)
    run.any_thread = True
    saver = RemoteSaver()

    @checkpointer_test(name="rapidclaw")
    async def factory():
        yield saver

    async def suite():
        current_run.set(run)
        return await validate(factory)

    report = asyncio.run(suite()).to_dict()
    results = report["results"].values()
    passed = sum(1 for result in results if result["detected"] and result["passed"])
    good = passed == CAPABILITIES == len(results)
    if database := os.environ.get("RAPIDCLAW_CONFORMANCE_DATABASE"):
        import same_state

        current_run.set(run)
        report["same_state"] = same_state.check(saver, database, os.environ["RAPIDCLAW_CONFORMANCE_SCHEMA"])
        good = good and not report["same_state"]["differences"]
    run.end("success")
    print(json.dumps(report, indent=2), flush=True)
    os._exit(0 if good else 1)


def started_run(started: queue.Queue[Run], wanted: str) -> Run:
    try:
        run = started.get(timeout=WAIT_SECONDS)
    except queue.Empty:
        sys.exit(f"no gateway has started the run {wanted}")
    if run.id != wanted:
        sys.exit(f"the gateway has started {run.id}, not {wanted}")
    return run


def run_of_our_own(server: Server) -> Run:
    deadline = time.monotonic() + WAIT_SECONDS
    while not (gateways := list(server.sessions.values())):
        if time.monotonic() > deadline:
            sys.exit("no gateway has connected")
        time.sleep(0.02)
    fields = {"run": "conformance", "attempt": 1, "thread_id": "conformance", "durability": "sync"}
    return Run(gateways[0], fields | {"graph": ""}, time.monotonic())


if __name__ == "__main__":
    main()
