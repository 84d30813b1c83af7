"""Passes bytes between addresses on the replica's loopback and the server's Unix sockets.

Standard library only, one thread, non-blocking. Each direction holds at most one chunk that its
destination has not taken, and stops reading meanwhile. When one side ends its direction the other
side is told so, and the other direction goes on (half-close). TLS stays end to end.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
from collections.abc import Callable
from time import monotonic

CHUNK_BYTES = 256 << 10
HEAD_BYTES = 16 << 10
RETRY_SECONDS = 5.0
RETRY_EVERY = 0.05
SPARE_FILES = 64
"""Open files that pairs leave to the rest of the process."""
_ABSENT = (errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN)
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""What passes when somebody closes something: to be tried again, not at once."""
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Relay:
    """All pairs of connections. `poll` does what can be done and returns when to call again.

    At `max_pairs`, and while the process or the machine has no file left, new connections wait in the
    listeners' backlogs: nothing that a project opens ends the process that relays for it.
    """

    def __init__(self, selector: selectors.BaseSelector, socket_dir: str, max_pairs: int = 4096) -> None:
        self._selector = selector
        self._socket_dir = socket_dir
        self._max_pairs = max(1, max_pairs)
        self._connecting: set[Pair] = set()
        self._listeners: list[tuple[socket.socket, Callable[[int], None]]] = []
        self._resume_at: float | None = None
        self.pairs = 0

    def listen(self, address: str, port: int, socket_name: str, connect: str | None) -> None:
        listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(128)
        listener.setblocking(False)
        path = os.path.join(self._socket_dir, socket_name)

        def accept(_mask: int) -> None:
            if self.pairs >= self._max_pairs:
                self._pause()
                return
            try:
                client, _ = listener.accept()
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._pause()
                return
            try:
                client.setblocking(False)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:  # reset before it was taken
                client.close()
                return
            pair = Pair(self, client, path, connect)
            self._connecting.add(pair)
            self._try(pair, monotonic())

        self._listeners.append((listener, accept))
        self._selector.register(listener, _READ, accept)

    def _pause(self) -> None:
        """Leaves the listeners alone for a moment: they stay readable, and a loop on them would spin."""
        if self._resume_at is None:
            self._resume_at = monotonic() + RETRY_EVERY
            for listener, _ in self._listeners:
                self._selector.unregister(listener)

    def poll(self, now: float) -> float | None:
        """Tries absent sockets again; returns the seconds until the next try."""
        if self._resume_at is not None and now >= self._resume_at:
            self._resume_at = None
            for listener, accept in self._listeners:
                self._selector.register(listener, _READ, accept)
        for pair in list(self._connecting):
            self._try(pair, now)
        return RETRY_EVERY if self._connecting or self._resume_at is not None else None

    def _try(self, pair: Pair, now: float) -> None:
        if pair.connect(now):
            self._connecting.discard(pair)

    def watch(self, sock: socket.socket, mask: int, wanted: int, pair: Pair) -> None:
        if mask == wanted:
            return
        if not mask:
            self._selector.register(sock, wanted, lambda events: pair.on_ready(sock, events))
        elif not wanted:
            self._selector.unregister(sock)
        else:
            self._selector.modify(sock, wanted, lambda events: pair.on_ready(sock, events))


class Pair:
    """A client's connection and the one to the server's socket that it belongs to."""

    def __init__(self, relay: Relay, client: socket.socket, path: str, connect: str | None) -> None:
        self.relay, self.client, self.path = relay, client, path
        self.upstream: socket.socket | None = None
        self.give_up = monotonic() + RETRY_SECONDS
        self.target = connect
        self.head: bytearray | None = bytearray() if connect else None
        self.to_upstream = memoryview(b"")
        self.to_client = memoryview(b"")
        self.client_ended = self.upstream_ended = False
        self.shut_upstream = self.shut_client = False
        self.client_mask = self.upstream_mask = 0
        self.closed = False
        relay.pairs += 1

    def connect(self, now: float) -> bool:
        """True when there is nothing left to try: connected, or given up."""
        upstream = None
        try:
            upstream = socket.socket(socket.AF_UNIX)
            upstream.setblocking(False)
            upstream.connect(self.path)
        except OSError as error:
            if upstream is not None:
                upstream.close()
            if error.errno in (*_ABSENT, *EXHAUSTED) and now < self.give_up:
                return False
            self.close()
            return True
        self.upstream = upstream
        try:
            if self.target is not None:
                request = f"CONNECT {self.target} HTTP/1.1\r\nHost: {self.target}\r\n\r\n"
                self.to_upstream = memoryview(request.encode("ascii"))
                self._flush_upstream()
            self._settle()
        except OSError:
            self.close()
        return True

    def on_ready(self, sock: socket.socket, events: int) -> None:
        if self.closed:
            return
        try:
            if sock is self.client:
                if events & _WRITE:
                    self._flush_client()
                if events & _READ and not self.to_upstream:
                    self._read_client()
            else:
                if events & _WRITE:
                    self._flush_upstream()
                if events & _READ and not self.to_client:
                    self._read_upstream()
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        self._settle()

    def _read_client(self) -> None:
        data = self.client.recv(CHUNK_BYTES)
        if data:
            self.to_upstream = memoryview(data)
            self._flush_upstream()
        else:
            self.client_ended = True

    def _read_upstream(self) -> None:
        data = self.upstream.recv(CHUNK_BYTES)
        if not data:
            self.upstream_ended = True
            if self.head is not None:
                self.close()
            return
        if self.head is not None:
            data = self._read_head(data)
        if data:
            self.to_client = memoryview(data)
            self._flush_client()

    def _read_head(self, data: bytes) -> bytes:
        """The proxy's answer to CONNECT; what follows it is the client's."""
        self.head += data
        end = self.head.find(b"\r\n\r\n")
        if end < 0:
            if len(self.head) > HEAD_BYTES:
                self.close()
            return b""
        status = self.head[:end].split(b"\r\n", 1)[0].split(b" ")
        rest = bytes(self.head[end + 4 :])
        self.head = None
        if len(status) < 2 or status[1] != b"200":
            self.close()
            return b""
        return rest

    def _flush_upstream(self) -> None:
        self.to_upstream = _send(self.upstream, self.to_upstream)

    def _flush_client(self) -> None:
        self.to_client = _send(self.client, self.to_client)

    def _settle(self) -> None:
        """Passes ends on, then watches for what can happen next."""
        if self.closed or self.upstream is None:
            return
        try:
            if self.client_ended and not self.to_upstream and not self.shut_upstream:
                self.shut_upstream = True
                self.upstream.shutdown(socket.SHUT_WR)
            if self.upstream_ended and not self.to_client and not self.shut_client:
                self.shut_client = True
                self.client.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        if self.shut_client and self.shut_upstream:
            self.close()
            return
        reads_client = not self.client_ended and not self.to_upstream and self.head is None
        reads_upstream = not self.upstream_ended and not self.to_client
        client = (_READ if reads_client else 0) | (_WRITE if self.to_client else 0)
        upstream = (_READ if reads_upstream else 0) | (_WRITE if self.to_upstream else 0)
        self.relay.watch(self.client, self.client_mask, client, self)
        self.relay.watch(self.upstream, self.upstream_mask, upstream, self)
        self.client_mask, self.upstream_mask = client, upstream

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.relay.pairs -= 1
        self.relay.watch(self.client, self.client_mask, 0, self)
        self.client.close()
        if self.upstream is not None:
            self.relay.watch(self.upstream, self.upstream_mask, 0, self)
            self.upstream.close()


def _send(sock: socket.socket, data: memoryview) -> memoryview:
    if not data:
        return data
    try:
        return data[sock.send(data) :]
    except BlockingIOError:
        return data
