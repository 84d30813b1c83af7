"""What stops project code inside a replica, said with what to do about it, in the log of the run that met it.

An exception names what failed ("Permission denied: '/tmp/t'"), not that a replica executes nothing from
there. Each kind is said once a minute.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Iterator
from time import monotonic

log = logging.getLogger("rapidclaw")

SAY_EVERY = 60.0
SEEN_AT_MOST = 50
"""Exceptions that are looked at, of one and what caused it."""

NOT_ALLOWED = (
    "{} cannot be reached: a replica reaches the hosts of rapidclaw.security.allowed_hosts alone, by the names that it lists: add the host (and"
    " port) there; a pattern (*.example.com) works only for clients that follow HTTPS_PROXY"
)
LOOPBACK = (
    "allowed hosts are names on the replica's own loopback, so a guard against requests to private addresses refuses"
    " them: switch it off for these hosts, or fetch with another client"
)
NO_EXECUTION = (
    "nothing can be executed from /tmp, which is also HOME, or from another place that is written at run time: install"
    " programs, browsers and compiled extensions in dockerfile_lines"
)
READ_ONLY = "the root file system is read-only: write below /tmp (HOME), which is memory and ends with the replica"
NO_ROOM = "/tmp is memory, 512 MiB of it: write less, or keep files outside the replica"
NOT_OWNER = "code runs as uid 10001, which owns nothing but /tmp: give what it needs in dockerfile_lines (chmod, chown)"

LOOKUPS = ("Name or service not known", "Temporary failure in name resolution", "Could not resolve host")
REMEMBERED = 256

_said: dict[str, float] = {}


def tell(error: BaseException) -> None:
    """Logs the hint for an exception that ended a run, if there is one."""
    hint = find(error)
    if hint is None:
        return
    now = monotonic()
    if len(_said) > REMEMBERED:
        _said.clear()
    if now - _said.get(hint, -SAY_EVERY) >= SAY_EVERY:
        _said[hint] = now
        log.warning("hint: %s", hint)


def find(error: BaseException) -> str | None:
    for one in _chain(error):
        try:
            if hint := _of(one):
                return hint.format(_host(error) or "a host") if hint is NOT_ALLOWED else hint
        except Exception:  # noqa: BLE001 - the project's own exceptions
            continue
    return None


def _of(error: BaseException) -> str | None:
    if isinstance(error, socket.gaierror):
        return NOT_ALLOWED
    if not isinstance(error, OSError):
        return _by_words(str(error))
    if error.errno == errno.EROFS:
        return READ_ONLY
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return NOT_ALLOWED
    if error.errno == errno.ENOSPC:
        return NO_ROOM
    if isinstance(error, PermissionError):
        name = str(error.filename or "")
        return NO_EXECUTION if _is_executable_on_tmp(name) else NOT_OWNER if name.startswith("/") else None
    return _by_words(str(error))


def _by_words(text: str) -> str | None:
    """What dlopen says, guards against requests to private addresses, and clients that look names up themselves."""
    if "failed to map segment" in text:
        return NO_EXECUTION
    if "private IP" in text or "private address" in text:
        return LOOPBACK
    return NOT_ALLOWED if any(words in text for words in LOOKUPS) else None


def _host(error: BaseException) -> str | None:
    """The host that was looked for: the socket module's own frame has its name, whichever client asked."""
    for one in _chain(error):
        trace = one.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            if code.co_name == "getaddrinfo" and code.co_filename == socket.__file__:
                host = trace.tb_frame.f_locals.get("host")
                return host.decode("ascii", "replace") if isinstance(host, bytes) else host
            trace = trace.tb_next
    return None


def _is_executable_on_tmp(name: str) -> bool:
    if not os.path.isfile(name):
        return False
    try:
        return bool(os.statvfs(name).f_flag & os.ST_NOEXEC) and os.access(name, os.R_OK)
    except OSError:
        return False


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception, what groups hold, and what it was caused by."""
    waiting, seen = [error], set()
    while waiting and len(seen) < SEEN_AT_MOST:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__, *(one.exceptions if isinstance(one, BaseExceptionGroup) else ())]
