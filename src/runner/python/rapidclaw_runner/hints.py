"""What stops project code inside a replica, said with what to do about it, in the log of the run that met it.

An exception names what failed ("Permission denied: '/tmp/t'"), not that a replica executes nothing from
there. Each kind is said once a minute.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import subprocess
from collections.abc import Iterator
from time import monotonic
from urllib.parse import urlsplit

from . import foreign

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
NOBODY_HERE = (
    "{} is the replica itself, where nothing listens: what runs on your own machine or the server's is not there; give the"
    " program an address of its own and add its host to rapidclaw.security.allowed_hosts"
)
KEY_ELSEWHERE = (
    "the key that {} was called with is the model gateway's, which stands in a replica for the provider's own: name the"
    " address in the agent's environment (OPENAI_BASE_URL, ANTHROPIC_BASE_URL) and not in the code, or write"
    ' "rapidclaw": {{"models": {{"gateway": false}}}}'
)
DOWNLOADS = (
    "HOME is /tmp, empty when a replica begins, and a replica downloads nothing: fetch it in dockerfile_lines (what they"
    " put below their HOME is found here as well), or into a folder that its variable names"
    " (PLAYWRIGHT_BROWSERS_PATH, NLTK_DATA, HF_HOME)"
)
NO_EXECUTION = (
    "nothing can be executed from /tmp, which is also HOME, or from another place that is written at run time: install"
    " programs, browsers and compiled extensions in dockerfile_lines"
)
READ_ONLY = "the root file system is read-only: write below /tmp (HOME), which is memory and ends with the replica"
NO_ROOM = "/tmp is memory, 512 MiB of it: write less, or keep files outside the replica"
NOT_OWNER = "code runs as uid 10001, which owns nothing but /tmp: give what it needs in dockerfile_lines (chmod, chown)"

LOOKUPS = ("name or service not known", "temporary failure in name resolution", "could not resolve host")
GUARDS = (
    "private ip", "private address", "private network", "internal address", "internal ip", "loopback address",
    "non-public", "not a public", "not globally routable", "ssrf",
)  # fmt: skip
MISSING_DOWNLOADS = (
    "executable doesn't exist at", "playwright install", "nltk.download(", "couldn't connect to 'https://huggingface.co",
    "cannot find the requested files in the disk cache", "in the local disk cache", "can't find model '",
)  # fmt: skip
READ_ONLY_WORDS = ("read-only file system", "attempt to write a readonly database")
GATEWAYS_KEY = "rcg_"
"""What the model gateway's keys begin with."""
NOT_EXECUTABLE = 126
"""What a shell ends with that may not execute a program."""
HERE = ("localhost", "0.0.0.0", "::1")
CONNECTS = frozenset(("create_connection", "_connect_sock", "connect_tcp", "_new_conn", "_create_connection", "connect"))
"""Functions that connect, whose frames know where to."""
REMEMBERED = 256

_said: dict[str, float] = {}


def tell(error: BaseException) -> str | None:
    """The hint for an exception that ended a run, if there is one; it is logged, too."""
    hint = find(error)
    if hint is None:
        return None
    now = monotonic()
    if len(_said) > REMEMBERED:
        _said.clear()
    if now - _said.get(hint, -SAY_EVERY) >= SAY_EVERY:
        _said[hint] = now
        log.warning("hint: %s", hint)
    return hint


def find(error: BaseException) -> str | None:
    for one in _chain(error):
        try:
            if hint := _of(one):
                return hint.format(_place(hint, error, one)) if "{}" in hint else hint
        except Exception:  # noqa: BLE001 - the project's own exceptions
            continue
    return None


def _of(error: BaseException) -> str | None:
    if _has_gateways_key(error):
        return KEY_ELSEWHERE
    if isinstance(error, socket.gaierror):
        return NOT_ALLOWED
    if isinstance(error, subprocess.CalledProcessError) and error.returncode == NOT_EXECUTABLE:
        return NO_EXECUTION
    if not isinstance(error, OSError):
        return _by_words(foreign.text(error))
    if error.errno == errno.EROFS:
        return READ_ONLY
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return NOT_ALLOWED
    # localhost is ::1 as well, which a replica does not have.
    if error.errno in (errno.ECONNREFUSED, errno.EADDRNOTAVAIL):
        return NOBODY_HERE if _is_here(_connected_to(error)) else None
    if error.errno == errno.ENOSPC:
        return NO_ROOM
    if isinstance(error, PermissionError):
        name = str(error.filename or "")
        return NO_EXECUTION if _is_executable_on_tmp(name) else NOT_OWNER if name.startswith("/") else None
    return _by_words(foreign.text(error))


def _by_words(text: str) -> str | None:
    """What dlopen, SQLite and libraries that miss a download say, guards against requests to private addresses, and
    clients that look names up themselves."""
    text = text.lower()
    for words, hint in (
        (("failed to map segment",), NO_EXECUTION),
        (MISSING_DOWNLOADS, DOWNLOADS),
        (READ_ONLY_WORDS, READ_ONLY),
        (GUARDS, LOOPBACK),
        (LOOKUPS, NOT_ALLOWED),
    ):
        if any(one in text for one in words):
            return hint
    return None


def _has_gateways_key(error: BaseException) -> bool:
    """Whether another host than the gateway refused the gateway's key: clients keep the request beside the answer."""
    response = getattr(error, "response", None)
    if getattr(response, "status_code", None) not in (401, 403):
        return False
    headers = getattr(getattr(response, "request", None), "headers", None) or {}
    sent = f"{headers.get('authorization') or ''} {headers.get('x-api-key') or ''}"
    return GATEWAYS_KEY in sent and not _is_here(_answered_by(error))


def _answered_by(error: BaseException) -> str | None:
    url = getattr(getattr(getattr(error, "response", None), "request", None), "url", None)
    return urlsplit(str(url)).hostname if url else None


def _place(hint: str, error: BaseException, one: BaseException) -> str:
    if hint is KEY_ELSEWHERE:
        return _answered_by(one) or "another host"
    if hint is NOBODY_HERE:
        return _connected_to(one) or "localhost"
    return _host(error) or "a host"


def _is_here(host: str | None) -> bool:
    return host is not None and (host in HERE or host.startswith("127."))


def _connected_to(error: BaseException) -> str | None:
    """Where a connection was refused: the frame that connects knows it, whichever client asked; asyncio says it."""
    trace, found = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_name in CONNECTS:
            names = trace.tb_frame.f_locals
            place = names.get("address") or names.get("host") or names.get("sa")
            place = place[0] if isinstance(place, tuple) and place else place
            found = place if isinstance(place, str) else found
        trace = trace.tb_next
    if found is None and "('" in (said := foreign.text(error)):
        found = said.split("('", 1)[1].split("'", 1)[0]
    return found


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
