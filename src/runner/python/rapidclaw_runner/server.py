"""The connection thread: the replica's socket, its HTTP answers, the gateways' frames.

It runs no code of the project, so pings are answered and runs are ended whatever the graphs do.
"""

from __future__ import annotations

import hmac
import logging
import os
import selectors
import socket
import stat
import threading
from collections.abc import Callable
from http import HTTPStatus
from time import monotonic
from typing import Any

from .own.websockets.datastructures import Headers
from .own.websockets.http11 import Request, Response

from . import children, wire
from .connection import Connection
from .left_behind import LeftBehind
from .loop_watch import LoopWatch
from .runs import STOP_SECONDS, Run, Runs
from .session import Session

log = logging.getLogger("rapidclaw")

DRAIN_REASON = "the replica shuts down"
LATE_SECONDS = 0.5


class Server(threading.Thread):
    """Serves `socket_path` until the process ends.

    `loaded(describe, begin)` opens it for runs; `shut_down(grace)` drains the runs and then calls
    `on_drained`; `on_told` is called when the supervisor says over `lifeline` that the replica shall end,
    `on_abandoned` when its end of it closes.
    """

    def __init__(
        self,
        socket_path: str,
        secret: str,
        runs: Runs,
        *,
        on_drained: Callable[[], None],
        on_abandoned: Callable[[], None],
        on_told: Callable[[], None] = lambda: None,
        lifeline: int | None = None,
    ) -> None:
        super().__init__(name="rapidclaw-connection", daemon=True)
        self.runs = runs
        self.connections: set[Connection] = set()
        self.watch = LoopWatch()
        self.left_behind = LeftBehind()
        self.sessions: dict[str, Session] = {}
        self._subprotocols = (wire.SUBPROTOCOL_V2, wire.SUBPROTOCOL_V1)
        if os.environ.get("RAPIDCLAW_CONTRACT") == "1":  # for tests
            self._subprotocols = (wire.SUBPROTOCOL_V1,)
        self._authorization = f"Bearer {secret}".encode()
        self._on_drained = on_drained
        self._on_abandoned = on_abandoned
        self._describe: bytes | None = None
        self._begin: Callable[[Run], None] | None = None
        self._waiting: list[Run] = []
        self._next_tick = 0.0
        self._drain_by: float | None = None
        self._loaded = threading.Event()
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._on_wake)
        self._lifeline = lifeline
        if lifeline is not None:
            told = lambda _: on_told() if os.read(lifeline, 64) else self._on_abandoned()  # noqa: E731
            self._selector.register(lifeline, selectors.EVENT_READ, told)
        self._listener = listen(socket_path)
        self._selector.register(self._listener, selectors.EVENT_READ, self._on_accept)

    # Other threads

    def loaded(self, describe: bytes, begin: Callable[[Run], None]) -> None:
        with self._lock:
            self._describe, self._begin = describe, begin
            for session in list(self.sessions.values()):
                session.send("ready", {"describe": describe})
            for run in self._waiting:
                begin(run)
            self._waiting.clear()

    def shut_down(self, grace_seconds: float) -> None:
        """Safe in a signal handler: a write to memory and one to a pipe."""
        if self._drain_by is None:
            self._drain_by = monotonic() + grace_seconds
        self.wake()

    def wake(self) -> None:
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:
            pass

    def forget_after_fork(self) -> None:
        """In a child that project code has forked: nothing of this server is its own."""
        self._selector.close()
        self._listener.close()
        for connection in list(self.connections):
            connection.forget_after_fork()
        for session in list(self.sessions.values()):
            session.forget_after_fork()
        own = (self._wake_read, self._wake_write, self._lifeline)
        children.swallow(*(descriptor for descriptor in own if descriptor is not None))

    # The thread itself

    def run(self) -> None:
        while True:
            wait = 60.0
            if len(self.runs) or self._drain_by is not None or self._is_anybody_away():
                wait = max(0.0, self._next_tick - monotonic())
            self._serve_what_came(wait)
            now = monotonic()
            if now >= self._next_tick:
                if now > self._next_tick + LATE_SECONDS:
                    # Something held the interpreter: what came meanwhile is no silence.
                    self._serve_what_came(0)
                self._next_tick = self.runs.tick(now)
                self._forget_sessions(now)
                if self._drain_by is not None:
                    self._drain(now)
                    self._next_tick = min(self._next_tick, now + 0.05)

    def _is_anybody_away(self) -> bool:
        return any(session.detached_at is not None for session in self.sessions.values())

    def _forget_sessions(self, now: float) -> None:
        """A gateway that does not come back while its runs are kept does not come back."""
        for session in list(self.sessions.values()):
            patience = self.runs.orphan_seconds + STOP_SECONDS
            if session.closed or (session.detached_at is not None and now - session.detached_at > patience):
                del self.sessions[session.id]
                session.close()

    def _serve_what_came(self, wait: float) -> None:
        for key, mask in self._selector.select(wait):
            try:
                key.data(mask)
            except Exception:
                log.exception("the connection thread met a fault")

    def _on_wake(self, _mask: int) -> None:
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            pass
        self._next_tick = 0.0
        for connection in list(self.connections):
            self._settle(connection)

    def _on_accept(self, _mask: int) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, 1 << 20)
        connection = Connection(sock, self.wake, self._subprotocols)
        self.connections.add(connection)
        self._selector.register(sock, selectors.EVENT_READ, lambda mask: self._on_ready(connection, mask))

    def _on_ready(self, connection: Connection, mask: int) -> None:
        if connection.closed:  # by what came before it in the same batch
            return
        if mask & selectors.EVENT_WRITE:
            connection.flush()
            if connection.session is not None:
                connection.session.pump()
        if mask & selectors.EVENT_READ:
            for received in connection.receive():
                if isinstance(received, Request):
                    self._on_request(connection, received)
                else:
                    self._on_message(connection, received)
            if connection.session is not None:
                connection.session.last_heard = monotonic()
                connection.session.acknowledge(only_if_due=True)
        self._settle(connection)

    def _settle(self, connection: Connection) -> None:
        """Watches for what the connection waits for, or buries it."""
        if connection.broken:
            self.connections.discard(connection)
            self._selector.unregister(connection.sock)
            connection.close()
            if connection.session is not None:
                connection.session.detach(connection)
            self._next_tick = 0.0
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.wants_write else 0)
        key = self._selector.get_key(connection.sock)
        if key.events != wanted:
            self._selector.modify(connection.sock, wanted, key.data)

    # HTTP

    def _on_request(self, connection: Connection, request: Request) -> None:
        response = self._answer(connection, request)
        connection.protocol.send_response(response)
        connection.pump()
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            if connection.protocol.subprotocol == wire.SUBPROTOCOL_V1:
                self._begin_session(connection, Session(connection, version=1))
            else:
                connection.greets = True

    def _begin_session(self, connection: Connection, session: Session) -> None:
        connection.session = session
        with self._lock:
            self.sessions[session.id] = session
            if self._describe is not None:
                session.send("ready", {"describe": self._describe})

    def _answer(self, connection: Connection, request: Request) -> Response:
        path = request.path.partition("?")[0]
        if path == "/healthz":
            return _response(HTTPStatus.OK, b"ok\n")
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self._authorization):
            return _response(HTTPStatus.UNAUTHORIZED, b"the replica's secret is wanted\n")
        if path == "/readyz":
            if self._describe is None or self._drain_by is not None:
                return _response(HTTPStatus.SERVICE_UNAVAILABLE, b"not ready\n")
            return _response(HTTPStatus.OK, b"ready\n")
        if path == "/describe":
            if self._describe is None:
                return _response(HTTPStatus.SERVICE_UNAVAILABLE, b"the graphs are not loaded yet\n")
            return _response(HTTPStatus.OK, self._describe, "application/json")
        if path == "/metrics":
            return _response(HTTPStatus.OK, self._metrics(), "text/plain; version=0.0.4")
        if path == "/connect":
            return self._connect(connection, request)
        return _response(HTTPStatus.NOT_FOUND, b"no such path\n")

    def _connect(self, connection: Connection, request: Request) -> Response:
        offered = [
            name.strip()
            for value in request.headers.get_all("Sec-WebSocket-Protocol")
            for name in value.split(",")
        ]
        if not any(version in offered for version in self._subprotocols):
            ours, theirs = ", ".join(self._subprotocols), ", ".join(offered) or "none"
            body = f"this replica speaks {ours}, the gateway offered {theirs}\n"
            return _response(HTTPStatus.BAD_REQUEST, body.encode("utf-8", "replace"))
        return connection.protocol.accept(request)

    def _metrics(self) -> bytes:
        lines = [
            "# HELP rapidclaw_runner_runs_in_flight Runs under way in this replica.",
            "# TYPE rapidclaw_runner_runs_in_flight gauge",
            f"rapidclaw_runner_runs_in_flight {len(self.runs)}",
            "# HELP rapidclaw_runner_runs_total Runs that have ended, by status.",
            "# TYPE rapidclaw_runner_runs_total counter",
        ]
        for status, count in sorted(self.runs.by_status.items()):
            lines.append(f'rapidclaw_runner_runs_total{{status="{status}"}} {count}')
        return ("\n".join(lines) + "\n").encode()

    # Frames

    def _on_message(self, connection: Connection, message: bytes) -> None:
        kind, fields = "", {}
        try:
            session = connection.session
            if session is None:
                self._on_hello(connection, message)
                return
            received = session.receive(message)
            if received is None:
                return
            kind, fields = received
            handler = getattr(self, f"_frame_{kind}", None)
            if handler is None:
                raise wire.FrameError(f"unknown kind {kind}")
            handler(session, fields)
        except (wire.FrameError, KeyError, TypeError, ValueError) as error:
            reason = str(error) if isinstance(error, wire.FrameError) else f"a field is wrong: {error}"
            log.error("a gateway's frame was refused: %s", wire.text(reason)[:300])
            if kind and connection.session is not None and connection.session.version > 1:
                connection.session.control("refused", wire.refusal(kind, fields, reason))
            else:
                connection.refuse(wire.text(reason)[:100])

    def _on_hello(self, connection: Connection, message: bytes) -> None:
        """A gateway begins a session, or goes on with the one whose socket broke."""
        _, packed = wire.split(message)
        kind, fields = wire.unpack(packed)
        if kind != "hello" or not connection.greets:
            raise wire.FrameError("the first frame is no hello")
        session = self.sessions.get(str(fields.get("session")))
        if session is not None and session.can_resume(fields):
            former, connection.session = session.connection, session
            session.hello(fields, connection, resumed=True)
            if former is not None:
                former.session = None
                former.broken = True
                self._settle(former)
            self._next_tick = 0.0
            return
        session = Session(connection)
        session.hello(fields, connection, resumed=False)
        if fields.get("session") is None:
            self._begin_session(connection, session)
        # Else the gateway knows now that its runs are lost, and closes the connection.

    def _frame_start(self, session: Session, fields: dict[str, Any]) -> None:
        run = Run(session, fields, monotonic())
        if self._drain_by is not None:
            run.end("drained")
            return
        if not self.runs.add(run):
            log.warning("attempt %d is under way already: %s", run.attempt, run.label)
            return
        self._next_tick = 0.0
        with self._lock:
            if self._begin is None:
                self._waiting.append(run)
            else:
                self._begin(run)

    def _frame_cancel(self, _session: Session, fields: dict[str, Any]) -> None:
        if run := self.runs.find(fields["run"], int(fields.get("attempt") or 0)):
            run.stop("cancelled", str(fields.get("reason") or "cancelled"))
            self._next_tick = 0.0

    def _frame_drain(self, session: Session, fields: dict[str, Any]) -> None:
        reason = str(fields.get("reason") or "drain")
        for run in self.runs.of(session):
            if fields.get("run") in (None, run.id):
                run.drain(reason)

    def _frame_reply(self, session: Session, fields: dict[str, Any]) -> None:
        session.resolve(fields)

    def _frame_ping(self, session: Session, fields: dict[str, Any]) -> None:
        session.has_pinged = True
        pong = {"n": fields.get("n"), "runs": len(self.runs)}
        if stalled := self.watch.look(monotonic()):
            pong["stalled"] = stalled
        session.control("pong", pong)
        self.left_behind.look(self.runs)
        session.acknowledge()

    def _frame_refused(self, session: Session, fields: dict[str, Any]) -> None:
        reason = wire.text(fields.get("reason"))
        log.warning("the gateway did not understand a frame %s: %s", wire.text(fields.get("kind")), reason)
        if fields.get("id"):
            session.resolve({"id": fields["id"], "error": reason})

    # Shutting down

    def _drain(self, now: float) -> None:
        runs = self.runs.of()
        for run in runs:
            run.drain(DRAIN_REASON)
            if now >= (self._drain_by or now):
                run.stop("drained", DRAIN_REASON)
        if not runs and not any(session.wants_write for session in self.sessions.values()):
            for connection in self.connections:
                connection.hang_up(reason=DRAIN_REASON)
            self._on_drained()


def listen(path: str) -> socket.socket:
    """A socket at `path` that other users of the host may connect to: the folder above guards it."""
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        pass
    listener = socket.socket(socket.AF_UNIX)
    listener.setblocking(False)
    listener.bind(path)
    os.chmod(path, 0o666)
    listener.listen(64)
    return listener


def _response(status: HTTPStatus, body: bytes, content_type: str = "text/plain; charset=utf-8") -> Response:
    headers = Headers()
    headers["Content-Type"] = content_type
    headers["Content-Length"] = str(len(body))
    headers["Connection"] = "close"
    return Response(status.value, status.phrase, headers, body)
