"""What stops project code inside a replica is said with what to do about it."""

from __future__ import annotations

import errno
import logging
import socket
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src" / "runner" / "python"))

from rapidclaw_runner import hints


def lookup():
    socket.getaddrinfo("nowhere.invalid", 443)


def wrapped():
    try:
        lookup()
    except OSError as error:
        raise RuntimeError("the tool failed") from error


def read_only():
    raise OSError(errno.EROFS, "Read-only file system", "/opt/x")


def owned():
    raise PermissionError(errno.EACCES, "Permission denied", "/etc/shadow")


def group():
    raise ExceptionGroup("two", [ValueError("x"), OSError(errno.ENOSPC, "No space left on device", "/tmp/x")])


def guarded():
    raise ValueError("URL resolves to a private IP range")


def mapped():
    raise ImportError("/tmp/x.so: failed to map segment from shared object")


def circle():
    error = ValueError("x")
    error.__cause__ = error
    raise error


def refused():
    raise PermissionError("you may not do that")


@pytest.mark.parametrize(
    ("fails", "hint"),
    [
        (lookup, "nowhere.invalid cannot be reached"),
        (wrapped, "nowhere.invalid cannot be reached"),
        (read_only, "the root file system is read-only"),
        (owned, "uid 10001"),
        (group, "/tmp is memory"),
        (guarded, "private addresses"),
        (mapped, "nothing can be executed from /tmp"),
        (circle, None),
        (refused, None),
    ],
)
def test_a_wall_is_named(fails, hint):
    with pytest.raises(BaseException) as failed:  # noqa: B017, PT011 - of every kind
        fails()
    found = hints.find(failed.value)
    assert found is None if hint is None else hint in found


def test_a_hint_is_said_once_a_minute(caplog, monkeypatch):
    caplog.set_level(logging.WARNING, "rapidclaw")
    monkeypatch.setattr(hints, "_said", {})
    now = [1000.0]
    monkeypatch.setattr(hints, "monotonic", lambda: now[0])
    for later in (0, 1, 58, 1.5):
        now[0] += later
        hints.tell(OSError(errno.EROFS, "Read-only file system", "/opt/x"))
    assert len(caplog.messages) == 2
