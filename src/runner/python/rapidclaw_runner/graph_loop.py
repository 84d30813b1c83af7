"""The loop that graphs run on, kept going whatever their code does.

`sys.exit()` and KeyboardInterrupt in a task end the task, and asyncio then raises them out of the loop
as well; `loop.stop()` ends it without a word. The loop loses nothing by that: what was ready to run is
still ready, so it is entered again. It ends with the process alone, and never cancels its tasks: runs
that are in flight then have no end, and their gateway gives them to another replica.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, NoReturn

from . import foreign

log = logging.getLogger("rapidclaw")


def serve(set_up: Coroutine[Any, Any, None]) -> NoReturn:
    """Runs `set_up`, then whatever it has made ready. Raises what `set_up` raises, or why the loop cannot go on."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    task = loop.create_task(set_up)
    task.add_done_callback(lambda _: loop.stop())
    while not task.done():
        _enter(loop)
    task.result()
    while True:
        _enter(loop)


def _enter(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    except (SystemExit, KeyboardInterrupt) as error:
        log.debug("the graph loop was left by a %s and goes on", foreign.type_name(error))
