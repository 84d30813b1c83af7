"""What a gateway and this replica owe each other: frames that wait, messages that are not acknowledged.

In version 2 a session outlives its socket: the gateway comes back with its id, and both go on exactly
where they were. In version 1 it ends with its connection.

Frames are numbered and written by whichever thread made them. What may not go out yet (no credit, a
large frame in chunks) is left to the connection thread, and runs pause while too much of it waits:
the connection thread itself never does.
"""

from __future__ import annotations

import itertools
import secrets
import threading
from collections import Counter, deque
from collections.abc import Iterable
from concurrent.futures import Future
from time import monotonic
from typing import Any

from . import wire
from .connection import Connection

WAITING_BYTES = 8 << 20
"""Above so many bytes of small frames that may not be sent yet the session's runs pause. A run whose own
large frame waits pauses in any case."""
PIPE_BYTES = 1 << 20
"""Above so many unsent bytes in the connection no more of a large frame is put behind them."""
ACKNOWLEDGE_BYTES = wire.WINDOW_BYTES // 4

_reply_ids = itertools.count(1)


class Disconnected(ConnectionError):
    """The gateway that this run belongs to is gone."""


class Refused(RuntimeError):
    """The gateway answered a request of the saver with an error."""


class Rows(list[dict[str, Any]]):
    """A reply's tuples; `more` says that it was cut to what one message may hold."""

    def __init__(self, rows: Iterable[dict[str, Any]], more: bool) -> None:
        super().__init__(rows)
        self.more = more


class Session:
    """State of one gateway. Its runs belong to it, whatever socket carries their frames."""

    def __init__(self, connection: Connection, version: int = 2) -> None:
        self.id = secrets.token_hex(16)
        self.version = version
        self.closed = False
        self.abandoned = False
        """Whether a run was given up for want of the gateway: then nothing can go on as if it had not been."""
        self.has_pinged = False
        self.last_heard = monotonic()
        self.detached_at: float | None = None
        self.connection: Connection | None = connection
        self._lock = threading.Lock()
        self._pending: dict[int, Future[list[dict[str, Any]]]] = {}
        self._limit = wire.MAX_MESSAGE_BYTES
        # Out
        self._small: deque[bytes] = deque()
        self._large: deque[_Large] = deque()
        self._large_of: Counter[str | None] = Counter()
        self._chunk_is_next = False
        self._small_bytes = 0
        self._sent = self._sent_bytes = self._credit = 0
        self._unacknowledged: deque[tuple[int, bytes]] = deque()
        # In, of the connection thread
        self.received = self.received_bytes = 0
        self._told = self._told_bytes = 0
        self._parts: list[bytes] = []
        self._left: int | None = None

    # Any thread

    def send(self, kind: str, fields: dict[str, Any]) -> bool:
        """Sends one frame; false when the gateway is gone for good. Raises `wire.TooLarge`."""
        packed = wire.payload(kind, fields, self._limit)
        if self.version == 1:
            connection = self.connection
            return connection is not None and connection.write(wire.message(packed))
        run = fields.get("run")
        with self._lock:
            if self.closed:
                return False
            is_large = len(packed) > wire.LARGE_BYTES
            is_behind = run in self._large_of
            if not is_large and not is_behind and not self._small and self._sent_bytes < self._credit:
                self._number(packed)
                return True
            if is_large or is_behind:
                self._large.append(_Large(run, packed))
                self._large_of[run] += 1
            else:
                self._small.append(packed)
                self._small_bytes += len(packed)
            self._pump()
        return True

    def request(self, kind: str, fields: dict[str, Any]) -> Future[list[dict[str, Any]]]:
        """Sends a frame that wants a `reply`; the future yields the reply's tuples."""
        number = next(_reply_ids)
        future: Future[list[dict[str, Any]]] = Future()
        self._pending[number] = future
        fields["id"] = number
        try:
            sent = self.send(kind, fields)
        except BaseException:
            self._pending.pop(number, None)
            raise
        if not sent:
            self._pending.pop(number, None)
            if not future.done():
                future.set_exception(Disconnected("the gateway is gone"))
        return future

    @property
    def is_away(self) -> bool:
        """Whether no socket carries it now."""
        connection = self.connection
        return self.closed or connection is None or connection.closed or connection.broken

    def is_congested(self, run: str) -> bool:
        """Whether so much waits that the run should send no more."""
        connection = self.connection
        congested = connection is not None and connection.congested
        return congested or self._small_bytes > WAITING_BYTES or run in self._large_of

    @property
    def wants_write(self) -> bool:
        connection = self.connection
        return connection is not None and (self._waits or connection.wants_write)

    @property
    def _waits(self) -> bool:
        return bool(self._small or self._large)

    def _number(self, packed: bytes) -> None:
        self._sent += 1
        message = wire.numbered(self._sent, packed)
        self._sent_bytes += wire.HEAD_BYTES + len(packed)
        self._unacknowledged.append((self._sent, message))
        if self.connection is not None:
            self.connection.write(message)

    def _pump(self) -> None:
        """Sends what may be sent: a large frame's chunks and small frames take turns."""
        connection = self.connection
        while self._sent_bytes < self._credit:
            if connection is not None and connection.unsent_bytes > PIPE_BYTES:
                return
            is_chunks_turn, self._chunk_is_next = self._chunk_is_next and bool(self._large), False
            if self._small and not is_chunks_turn:
                self._chunk_is_next = True
                packed = self._small.popleft()
                self._small_bytes -= len(packed)
                self._number(packed)
            elif self._large:
                large = self._large[0]
                if not large.at and len(large.packed) <= wire.LARGE_BYTES:
                    data, packed = large.packed, large.packed
                else:
                    data = large.packed[large.at : large.at + wire.CHUNK_BYTES]
                    left = len(large.packed) - large.at - len(data)
                    packed = wire.payload("chunk", {"left": left, "data": data})
                large.at += len(data)
                if large.at == len(large.packed):
                    self._large.popleft()
                    self._large_of[large.run] -= 1
                    if not self._large_of[large.run]:
                        del self._large_of[large.run]
                self._number(packed)
            else:
                return

    # The connection thread

    def hello(self, fields: dict[str, Any], connection: Connection, resumed: bool) -> None:
        """Answers the gateway's `hello` on a socket that carries the session from now on."""
        with self._lock:
            self.connection = connection
            self.detached_at = None
            self.last_heard = monotonic()
            self._limit = min(wire.MAX_FRAME_BYTES, int(fields.get("max_bytes") or wire.MAX_FRAME_BYTES))
            told = {"session": self.id, "resumed": resumed, "received": self.received}
            told |= {"credit": self._grant(), "max_bytes": wire.MAX_FRAME_BYTES}
            connection.write(wire.numbered(0, wire.payload("hello", told | {"capabilities": wire.CAPABILITIES})))
            self._forget(int(fields.get("received") or 0), int(fields.get("credit") or 0))
            for _, message in self._unacknowledged:
                connection.write(message)
            self._pump()

    def can_resume(self, fields: dict[str, Any]) -> bool:
        return not self.closed and not self.abandoned and int(fields.get("received") or 0) <= self._sent

    def detach(self, connection: Connection) -> None:
        """The socket is gone. In version 1 so is the session."""
        with self._lock:
            if self.connection is not connection:
                return
            self.connection = None
            self.detached_at = monotonic()
        if self.version == 1:
            self.close()

    def receive(self, message: bytes) -> tuple[str, dict[str, Any]] | None:
        """The frame that a message completes. Frames of the session itself are dealt with here."""
        if self.version == 1:
            return wire.unpack(message)
        number, packed = wire.split(message)
        if number:
            if number <= self.received:
                return None
            if number != self.received + 1:
                raise wire.FrameError(f"message {number} came after {self.received}")
            self.received = number
            self.received_bytes += len(message)
        kind, fields = wire.unpack(packed)
        if kind == "chunk":
            whole = self._chunk(fields)
            return None if whole is None else wire.unpack(whole)
        if kind == "ack":
            with self._lock:
                self._forget(int(fields.get("seq") or 0), int(fields.get("credit") or 0))
                self._pump()
            return None
        return kind, fields

    def _chunk(self, fields: dict[str, Any]) -> bytes | None:
        left, data = int(fields.get("left") or 0), fields.get("data")
        if not isinstance(data, bytes) or not data or (self._left is not None and self._left != left + len(data)):
            raise wire.FrameError("chunks do not make a frame")
        if left + len(data) > wire.MAX_FRAME_BYTES:
            raise wire.FrameError("a frame is too large")
        self._parts.append(data)
        self._left = left or None
        if left:
            return None
        whole = b"".join(self._parts)
        self._parts.clear()
        return whole

    def pump(self) -> None:
        """Goes on sending, now that the connection has room."""
        if self._waits:
            with self._lock:
                self._pump()

    def acknowledge(self, only_if_due: bool = False) -> None:
        if self.version == 1 or self.connection is None or self.received == self._told:
            return
        if only_if_due and self.received_bytes - self._told_bytes < ACKNOWLEDGE_BYTES:
            return
        fields = {"seq": self.received, "credit": self._grant()}
        self.connection.write(wire.numbered(0, wire.payload("ack", fields)))

    def control(self, kind: str, fields: dict[str, Any]) -> None:
        """Sends a frame of the connection itself."""
        if self.connection is not None:
            packed = wire.payload(kind, fields)
            self.connection.write(wire.message(packed) if self.version == 1 else wire.numbered(0, packed))

    def resolve(self, fields: dict[str, Any]) -> None:
        """Hands a `reply` to who waits for it."""
        future = self._pending.pop(fields.get("id"), None)
        if future is None or not future.set_running_or_notify_cancel():
            return
        if error := fields.get("error"):
            future.set_exception(Refused(str(error)))
        else:
            future.set_result(Rows(fields.get("tuples") or (), bool(fields.get("more"))))

    def close(self) -> None:
        with self._lock:
            self.closed = True
            for waiting in (self._small, self._large, self._large_of, self._unacknowledged):
                waiting.clear()
            self._small_bytes = 0
        while self._pending:
            _, future = self._pending.popitem()
            if future.set_running_or_notify_cancel():
                future.set_exception(Disconnected("the gateway is gone"))

    def forget_after_fork(self) -> None:
        """In a forked child: the parent's frames are not ours to send, nor its lock to wait for."""
        self._lock = threading.Lock()
        self.closed = True
        self.connection = None

    def _grant(self) -> int:
        """What comes is dealt with at once: all of it is granted anew."""
        self._told, self._told_bytes = self.received, self.received_bytes
        return self.received_bytes + wire.WINDOW_BYTES

    def _forget(self, number: int, credit: int) -> None:
        while self._unacknowledged and self._unacknowledged[0][0] <= number:
            self._unacknowledged.popleft()
        self._credit = max(self._credit, credit)


class _Large:
    """A frame that goes out in chunks, or one of its run that may not overtake it."""

    __slots__ = ("at", "packed", "run")

    def __init__(self, run: str | None, packed: bytes) -> None:
        self.run, self.packed, self.at = run, packed, 0
