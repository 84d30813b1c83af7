"""The replica's first process: relays the ways out, starts the runner, ends as it ends.

Standard library only and few imports, so that the relay listens some 30 ms after the start. It
holds one end of a pipe that the runner watches: when the supervisor is gone, so is the runner.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
from time import monotonic

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

from relay import Relay  # noqa: E402 - a sibling, found by the line above

sys.path.remove(HERE)

FORWARDED = (signal.SIGTERM, signal.SIGINT)


def fail(message: str) -> None:
    sys.stderr.write(f"rapidclaw: {message}\n")
    sys.stderr.flush()
    os._exit(1)


def start_relay(selector: selectors.BaseSelector, base: str) -> Relay:
    path = os.path.join(base, "s", "replica.json")
    try:
        with open(path, encoding="utf-8") as file:
            entries = json.load(file).get("relay") or []
    except (OSError, ValueError, AttributeError) as error:
        fail(f"{path} cannot be read: {error}")
    relay = Relay(selector, os.path.join(base, "s"))
    for entry in entries:
        try:
            relay.listen(entry["address"], int(entry["port"]), entry["socket"], entry.get("connect"))
        except (OSError, KeyError, TypeError, ValueError) as error:
            fail(f"relay {entry}: {error}")
    return relay


def answer_for_the_living(selector: selectors.BaseSelector, base: str) -> None:
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
                peer.send(b"alive\n")
        except OSError:
            pass  # the one who asked has gone away

    selector.register(listener, selectors.EVENT_READ, answer)


def start_runner(lifeline: int) -> int:
    """The runner as a child. -P: the package's own folder stays off its sys.path."""
    os.set_inheritable(lifeline, True)
    environment = {**os.environ, "RAPIDCLAW_LIFELINE": str(lifeline)}
    command = [sys.executable, "-P", "-s", os.path.join(HERE, "__main__.py")]
    return os.posix_spawn(sys.executable, command, environment)


def main() -> None:
    base = os.environ.get("RAPIDCLAW_RUN") or "/run/rapidclaw"
    selector = selectors.DefaultSelector()
    relay = start_relay(selector, base)
    answer_for_the_living(selector, base)

    wake_read, wake_write = os.pipe()
    for end in (wake_read, wake_write):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    received: list[int] = []
    for number in (*FORWARDED, signal.SIGCHLD):
        signal.signal(number, lambda signum, _frame: received.append(signum))
    selector.register(wake_read, selectors.EVENT_READ, lambda _mask: os.read(wake_read, 4096))

    lifeline, _held = os.pipe()
    child = start_runner(lifeline)
    os.close(lifeline)

    while True:
        wait = relay.poll(monotonic())
        for key, mask in selector.select(wait):
            key.data(mask)
        while received:
            number = received.pop(0)
            if number != signal.SIGCHLD:
                os.kill(child, number)
                continue
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
