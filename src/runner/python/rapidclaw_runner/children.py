"""What a process that project code forks keeps of the runner: nothing.

`os.fork`, and `multiprocessing` where it forks, copy the runner into the child: its sockets, its pipes,
its signal handlers. The child would hold the gateway's connections open when the runner has ended,
and drain nobody's runs on a SIGTERM meant for it. Programs that are executed inherit none of it:
descriptors are close-on-exec, and handlers end with the old program.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

STOPPING = (signal.SIGTERM, signal.SIGINT)


class Handlers:
    """SIGTERM and SIGINT of this process, and what the project does about them.

    Ours are set before the project's code runs. One that it sets instead stays: the supervisor's word
    comes another way, and the project's is called once the runs have come to their end.
    """

    def __init__(self, on_stop: Any) -> None:
        self._ours = lambda *_: on_stop()
        for number in STOPPING:
            signal.signal(number, self._ours)

    def reset(self) -> None:
        """Gives back the interpreter's own, where ours are still set."""
        for number, default in zip(STOPPING, (signal.SIG_DFL, signal.default_int_handler)):
            if signal.getsignal(number) is self._ours:
                signal.signal(number, default)

    def call_the_projects(self) -> None:
        found = signal.getsignal(signal.SIGTERM)
        if callable(found) and found is not self._ours and found is not signal.default_int_handler:
            try:
                found(signal.SIGTERM, None)
            except BaseException:  # noqa: BLE001 - most end the process, which is what happens anyway
                pass


def leave_nothing_to(server: Any, handlers: Handlers) -> None:
    """Registers what a forked child does first."""

    def after_in_child() -> None:
        if threading.current_thread() is threading.main_thread():
            try:
                handlers.reset()
            except ValueError:
                pass
        server.forget_after_fork()

    os.register_at_fork(after_in_child=after_in_child)


def swallow(*descriptors: int) -> None:
    """Puts /dev/null where pipes were: whoever still writes to the number harms nobody."""
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in descriptors:
        os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)
