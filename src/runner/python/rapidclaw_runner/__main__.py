"""The runner's process: `python rapidclaw_runner/__main__.py`.

The socket is served first, from a thread of its own; then the graphs are loaded in the main thread
and run on its loop. Exit codes: 0 after SIGTERM or SIGINT, 1 for a fault of the set-up, 3 for a
graph that cannot be loaded.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # Run by path. This folder must not be on sys.path: its modules have plain names. A child of
    # `multiprocessing` that imports its parent's main module again gets here under another name, and does nothing.
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != _here]
    sys.path.append(os.path.dirname(_here))
    __package__ = "rapidclaw_runner"

import atexit
import json
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

EXIT_SET_UP, EXIT_LOAD = 1, 3
ATEXIT_SECONDS = 2.0


def leave(code: int, before: Callable[[], None] = lambda: None) -> NoReturn:
    """Ends the process without the interpreter's teardown, which costs half a second.

    The project's `atexit` functions (exporters that flush), and `before` them its handler of SIGTERM, get a
    moment, then the streams are flushed.
    """

    def run() -> None:
        before()
        atexit._run_exitfuncs()

    functions = threading.Thread(target=run, daemon=True)
    functions.start()
    functions.join(ATEXIT_SECONDS)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    os._exit(code)


def main() -> NoReturn:
    from rapidclaw_runner import settings as settings_module

    try:
        settings = settings_module.read()
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.stderr.write(f"rapidclaw: the replica's settings cannot be read: {error}\n")
        leave(EXIT_SET_UP)
    # The supervisor has set it before the interpreter began; without one it is set here.
    os.environ.update(settings.env)
    time.tzset()

    from rapidclaw_runner import children, failures, logs
    from rapidclaw_runner.runs import Runs
    from rapidclaw_runner.server import Server

    failures.hide({name: value for name, value in settings.env.items() if name not in settings.plain})
    logs.set_up(settings.log_level)
    runs = Runs(settings.orphan_seconds)

    def on_stop() -> None:
        server.shut_down(settings.grace_seconds)

    def on_drained() -> None:
        leave(0, handlers.call_the_projects)

    try:
        server = Server(
            settings.socket_path,
            settings.secret,
            runs,
            on_drained=on_drained,
            on_abandoned=lambda: os._exit(1),
            on_told=on_stop,
            lifeline=settings.lifeline,
        )
    except OSError as error:
        sys.stderr.write(f"rapidclaw: {settings.socket_path} cannot be served: {error}\n")
        leave(EXIT_SET_UP)
    handlers = children.Handlers(on_stop)
    children.leave_nothing_to(server, handlers)
    server.start()

    sys.path[:0] = [path for path in settings.paths if path not in sys.path]
    if settings.workdir:
        os.chdir(settings.workdir)
    _run_graphs(settings, runs, server)


def _run_graphs(settings: Any, runs: Any, server: Any) -> NoReturn:
    from rapidclaw_runner import failures
    from rapidclaw_runner.frameworks import Frameworks
    from rapidclaw_runner.frameworks.interface import Target
    from rapidclaw_runner.targets import LoadError, load_target

    current = ", ".join(settings.graphs)
    notes: list[str] = []
    targets: dict[str, Target] = {}
    frameworks = Frameworks(settings)
    try:
        # Modules are imported before there is a running loop: some call asyncio.run themselves.
        for current, spec in settings.graphs.items():
            value = load_target(spec, settings.paths, current)
            targets[current] = frameworks.adapt(current, value, notes)
    except BaseException as error:  # noqa: BLE001 - sys.exit in a project's module as well
        failures.report_load(current, error, settings.paths)
        leave(EXIT_LOAD)

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(
            ThreadPoolExecutor(max(32, settings.concurrency * 4), thread_name_prefix="node")
        )
        loaded: dict[str, Any] = {}
        for name, target in targets.items():
            try:
                loaded[name] = await target.load()
            except BaseException as error:
                raise LoadError(name, error) from error
        frameworks.loaded(targets, loaded, notes)
        described = describe(targets, loaded, frameworks.used(), notes)
        for note in described["notes"]:
            logging.getLogger("rapidclaw").info("%s", note)
        execute = executor(targets, runs)
        server.watch.attach(loop, settings.paths, frameworks.used())
        server.loaded(json.dumps(described, default=str).encode(), lambda run: run.begin(loop, execute))

    import asyncio

    from rapidclaw_runner import graph_loop
    from rapidclaw_runner.describe import describe
    from rapidclaw_runner.execute import executor

    try:
        # The loop of the project's own policy, where it sets one as it is imported, else asyncio's.
        graph_loop.serve(serve())
    except LoadError as error:
        failures.report_load(error.graph, error.cause or error, settings.paths)
        leave(EXIT_LOAD)
    except BaseException:
        logging.getLogger("rapidclaw").exception("the graph loop ended")
        leave(EXIT_SET_UP)


if __name__ == "__main__":
    main()
