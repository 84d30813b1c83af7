"""The replica's first process: relays the ways out, starts the runner, ends as it ends.

Standard library only and few imports, so that the relay listens some 30 ms after the start. It
holds one end of a pipe, the lifeline, that the runner watches: when the supervisor is gone, so is
the runner. SIGTERM and SIGINT travel over it as a byte, so that a handler of the project's own neither
hides them from the runner nor is hidden by it.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import socket
import sys
from time import monotonic, sleep
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

from home import find_downloads, is_lost  # noqa: E402 - siblings, found by the line above
from relay import EXHAUSTED, RETRY_EVERY, SPARE_FILES, Relay  # noqa: E402

sys.path.remove(HERE)

STOPPING = (signal.SIGTERM, signal.SIGINT)
OURS = ("RUN", "PROJECT", "SITE", "LIFELINE", "ORPHAN_SECONDS", "GRACE_SECONDS")
"""Variables (behind `RAPIDCLAW_`) that say how the runner is set up: a project's never replace them."""
COMPLAIN_EVERY = 60.0


def say(message: str) -> None:
    try:
        sys.stderr.write(f"rapidclaw: {message}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # nobody reads it any more


def fail(message: str) -> None:
    say(message)
    os._exit(1)


def read_replica(base: str) -> dict[str, Any]:
    path = os.path.join(base, "s", "replica.json")
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        if not isinstance(document, dict):
            raise ValueError("a JSON object is expected")
    except (OSError, ValueError) as error:
        fail(f"{path} cannot be read: {error}")
    return document


def start_relay(selector: selectors.BaseSelector, base: str, entries: Any) -> Relay:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A pair has two files.
    relay = Relay(selector, os.path.join(base, "s"), (limit - SPARE_FILES) // 2 if limit > 0 else 4096)
    for entry in entries or []:
        try:
            relay.listen(entry["address"], int(entry["port"]), entry["socket"], entry.get("connect"))
        except (OSError, KeyError, TypeError, ValueError) as error:
            fail(f"relay {entry}: {error}")
    return relay


def answer_for_the_living(selector: selectors.BaseSelector, base: str, runners: list[int]) -> None:
    """Listens on `alive.sock`: whoever connects reads `alive`. This process ends with the runner's, so
    the answer holds however busy that is (a node in a long C call answers no ping)."""
    path = os.path.join(base, "r", "alive.sock")
    try:
        if os.path.lexists(path):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        listener.bind(path)
        os.chmod(path, 0o666)
        listener.listen(16)
    except OSError as error:
        fail(f"{path}: {error}")

    def answer(_mask: int) -> None:
        try:
            peer, _ = listener.accept()
            with peer:
                peer.send(b"stopped\n" if any(map(is_stopped, runners)) else b"alive\n")
        except OSError as error:
            if error.errno in EXHAUSTED:
                sleep(RETRY_EVERY)  # it stays readable: no spinning
            # Else the one who asked has gone away.

    selector.register(listener, selectors.EVENT_READ, answer)


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped a process: it computes nothing, and will not by itself."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except (OSError, IndexError):
        return False


def start_runner(lifeline: int, env: Any) -> int:
    """The runner as a child, with the project's environment from its first moment: what the interpreter,
    the C library and the loader read at their start (PYTHONHASHSEED, TZ, LD_LIBRARY_PATH) counts too.

    -P: the package's own folder stays off its sys.path.
    """
    environment = dict(os.environ)
    own = {f"RAPIDCLAW_{name}" for name in OURS}
    for name, value in (env or {}).items():
        name, value = str(name), str(value)
        if not name or "=" in name or "\0" in name + value:
            say(f"the variable {name!r} cannot be in an environment; it is left out")
        elif is_lost(name, value):
            say(f"{name} names {value}, which the image does not have; it is left out")
        elif name not in own:
            environment[name] = value
    if environment.get("HOME") == os.environ.get("HOME"):
        find_downloads(environment.get("HOME") or "/tmp")
    os.set_inheritable(lifeline, True)
    environment["RAPIDCLAW_LIFELINE"] = str(lifeline)
    command = [sys.executable, "-P", "-s", os.path.join(HERE, "__main__.py")]
    try:
        return os.posix_spawn(sys.executable, command, environment, setsigdef=[signal.SIGPIPE, *STOPPING])
    except OSError as error:
        fail(f"the runner cannot be started: {error}")
        raise


def main() -> None:
    base = os.environ.get("RAPIDCLAW_RUN") or "/run/rapidclaw"
    replica = read_replica(base)
    selector = selectors.DefaultSelector()
    relay = start_relay(selector, base, replica.get("relay"))
    runners: list[int] = []
    answer_for_the_living(selector, base, runners)

    wake_read, wake_write = os.pipe()
    for end in (wake_read, wake_write):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    received: list[int] = []
    for number in (*STOPPING, signal.SIGCHLD):
        signal.signal(number, lambda signum, _frame: received.append(signum))
    selector.register(wake_read, selectors.EVENT_READ, lambda _mask: os.read(wake_read, 4096))

    lifeline, held = os.pipe()
    os.set_blocking(held, False)
    child = start_runner(lifeline, replica.pop("env", None))
    runners.append(child)
    os.close(lifeline)
    replica.clear()

    complain_at = 0.0
    while True:
        try:
            wait = relay.poll(monotonic())
            for key, mask in selector.select(wait):
                key.data(mask)
            while received:
                on_signal(received.pop(0), child, held)
        except Exception as error:  # noqa: BLE001 - whatever a project does to its ways out, this process lives
            if monotonic() >= complain_at:
                complain_at = monotonic() + COMPLAIN_EVERY
                say(f"the relay met a fault: {type(error).__name__}: {error}")
            sleep(RETRY_EVERY)


def on_signal(number: int, child: int, held: int) -> None:
    if number != signal.SIGCHLD:
        try:
            os.write(held, b"T")
        except OSError:
            pass  # it is told already, or has ended
        return
    try:
        ended, status = os.waitpid(child, os.WNOHANG)
    except ChildProcessError:
        fail("the runner's end was not seen")
        return
    if ended:
        code = os.waitstatus_to_exitcode(status)
        os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
