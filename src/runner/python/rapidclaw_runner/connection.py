"""One connection of a gateway (or of a probe) to this replica's socket.

Messages are written by whichever thread made them, straight to the socket: what the socket does not
take at once is left to the connection thread. So frames of a run keep their order, a busy graph
wakes no other thread, and no thread waits for another one's writing.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .own.websockets.frames import CloseCode, Frame, Opcode
from .own.websockets.http11 import Request
from .own.websockets.protocol import OPEN
from .own.websockets.server import ServerProtocol

from . import wire

if TYPE_CHECKING:
    from .session import Session

READ_BYTES = 256 << 10
CONGESTED_BYTES = 32 << 20
"""Above this many unsent bytes the connection's runs pause until the gateway has read."""

class Connection:
    """State of one socket. `receive`, `flush` and `close` belong to the connection thread."""

    def __init__(self, sock: socket.socket, wake: Callable[[], None], subprotocols: Sequence[str]) -> None:
        self.sock = sock
        self.protocol = ServerProtocol(
            subprotocols=list(subprotocols), extensions=None, max_size=wire.MAX_MESSAGE_BYTES
        )
        self.session: Session | None = None
        """The gateway's, once it has begun or gone on with one."""
        self.greets = False
        """Whether the gateway's `hello` is waited for."""
        self.closed = False
        self.broken = False
        self.unsent_bytes = 0
        self._unsent: deque[memoryview] = deque()
        self._wake = wake
        self._write_lock = threading.Lock()
        self._end_after_flush = False
        self._pieces: list[bytes] = []

    # Any thread

    def write(self, data: bytes) -> bool:
        with self._write_lock:
            if self.closed or self.broken:
                return False
            if not self._unsent:
                try:
                    sent = self.sock.send(data)
                except BlockingIOError:
                    sent = 0
                except OSError:
                    self.broken = True
                    self._wake()
                    return False
                if sent == len(data):
                    return True
                rest = memoryview(data)[sent:]
            else:
                rest = memoryview(data)
            self._unsent.append(rest)
            self.unsent_bytes += len(rest)
        self._wake()
        return True

    @property
    def congested(self) -> bool:
        return self.unsent_bytes > CONGESTED_BYTES

    # The connection thread

    @property
    def wants_write(self) -> bool:
        return bool(self._unsent)

    def flush(self) -> None:
        with self._write_lock:
            try:
                while self._unsent:
                    sent = self.sock.send(self._unsent[0])
                    self.unsent_bytes -= sent
                    if sent < len(self._unsent[0]):
                        self._unsent[0] = self._unsent[0][sent:]
                        return
                    self._unsent.popleft()
            except BlockingIOError:
                return
            except OSError:
                self.broken = True
        if self._end_after_flush and not self._unsent:
            self._shut_write()

    def receive(self) -> list[Request | bytes]:
        """What came in: HTTP requests and whole binary messages. Sets `broken` at the end."""
        try:
            data = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            self.broken = True
            return []
        if data:
            self.protocol.receive_data(data)
        else:
            self.protocol.receive_eof()
            self.broken = True
        received: list[Request | bytes] = []
        for event in self.protocol.events_received():
            if isinstance(event, Request):
                received.append(event)
            elif isinstance(event, Frame):
                self._collect(event, received)
        self.pump()
        return received

    def _collect(self, frame: Frame, received: list[Request | bytes]) -> None:
        if frame.opcode is Opcode.TEXT:
            self.refuse("messages are binary")
        elif frame.opcode in (Opcode.BINARY, Opcode.CONT):
            if frame.fin and not self._pieces:
                received.append(bytes(frame.data))
                return
            self._pieces.append(bytes(frame.data))
            if sum(map(len, self._pieces)) > wire.MAX_MESSAGE_BYTES:
                self.refuse("a message is too large")
            elif frame.fin:
                received.append(b"".join(self._pieces))
                self._pieces.clear()

    def pump(self) -> None:
        """Writes what the WebSocket protocol itself has to say: handshakes, pongs, closes."""
        for data in self.protocol.data_to_send():
            if data:
                self.write(data)
            elif not self._unsent:
                self._shut_write()
            else:
                self._end_after_flush = True

    def refuse(self, reason: str) -> None:
        self.hang_up(CloseCode.PROTOCOL_ERROR, reason)

    def hang_up(self, code: int = CloseCode.GOING_AWAY, reason: str = "") -> None:
        if self.protocol.state is OPEN:
            self.protocol.send_close(code, reason[:120])
            self.pump()

    def close(self) -> None:
        with self._write_lock:
            self.closed = True
            self.sock.close()

    def forget_after_fork(self) -> None:
        """In a forked child: the parent's bytes are not ours to send, nor its lock to wait for."""
        self._write_lock = threading.Lock()
        self.closed = True
        self._unsent.clear()
        self.sock.close()

    def _shut_write(self) -> None:
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.broken = True
