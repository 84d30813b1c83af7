"""What stops project code inside a replica is said with what to do about it."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

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


def nobody_here():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    socket.create_connection(("127.0.0.1", port), timeout=5)


def nobody_here_either():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    asyncio.run(asyncio.open_connection("localhost", port))


def no_such_loopback():
    address = ("localhost", 11434)

    def create_connection(address):
        raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")

    try:
        create_connection(address)
    except OSError as error:
        raise RuntimeError("[Errno 99] Cannot assign requested address") from error


def key_elsewhere(host="openrouter.ai", key="rcg_abc"):
    request = SimpleNamespace(headers={"authorization": f"Bearer {key}"}, url=f"https://{host}/api/v1/chat/completions")
    error = RuntimeError("Error code: 401")
    error.response = SimpleNamespace(status_code=401, request=request)
    raise error


def key_of_its_own():
    key_elsewhere(key="sk-or-1")


def key_at_the_gateway():
    key_elsewhere(host="127.0.0.1:4180")


def no_browser():
    raise RuntimeError("Executable doesn't exist at /tmp/.cache/ms-playwright/chromium-1/chrome")


def no_corpus():
    raise LookupError("Resource punkt not found.\n>>> import nltk\n>>> nltk.download('punkt')")


def database():
    folder = tempfile.mkdtemp()
    path = f"{folder}/x.db"
    sqlite3.connect(path).execute("CREATE TABLE t (x)")
    sqlite3.connect(f"file:{path}?mode=ro", uri=True).execute("INSERT INTO t VALUES (1)")


def shell():
    subprocess.run(["sh", "-c", "exit 126"], check=True)


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
        (nobody_here, "127.0.0.1 is the replica itself"),
        (nobody_here_either, "is the replica itself"),
        (no_such_loopback, "localhost is the replica itself"),
        (key_elsewhere, "the key that openrouter.ai was called with"),
        (key_of_its_own, None),
        (key_at_the_gateway, None),
        (no_browser, "PLAYWRIGHT_BROWSERS_PATH"),
        (no_corpus, "NLTK_DATA"),
        (database, "read-only"),
        (shell, "nothing can be executed from /tmp"),
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
        # Each run is told, the log once.
        assert hints.tell(OSError(errno.EROFS, "Read-only file system", "/opt/x")) == hints.READ_ONLY
    assert len(caplog.messages) == 2
