"""A gateway for tests that speaks version 2: sessions, numbers, credit, chunks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import ormsgpack
from gateway import SECRET, Gateway
from websockets.asyncio.client import unix_connect
from websockets.exceptions import ConnectionClosed

SUBPROTOCOL = "rapidclaw.runner.v2"
WINDOW = 16 << 20
OF_THE_CONNECTION = ("hello", "ack", "ping", "refused")


class SessionGateway(Gateway):
    """Keeps what it must to go on with its session over another socket."""

    def __init__(self, window: int = WINDOW) -> None:
        super().__init__()
        self.window = window
        self.credit = window
        self.session: str | None = None
        self.hello: dict[str, Any] = {}
        self.sent = self.received = self.received_bytes = 0
        self.unacknowledged: dict[int, bytes] = {}
        self.again = 0
        self.kinds: list[str] = []
        self.answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.changed = asyncio.Condition()
        self._parts: list[bytes] = []

    @asynccontextmanager
    async def connected(self, path: str, secret: str = SECRET, wait: bool = True) -> AsyncIterator[SessionGateway]:
        async with unix_connect(
            path, "ws://replica/connect", additional_headers={"Authorization": f"Bearer {secret}"},
            subprotocols=[SUBPROTOCOL], compression=None, max_size=64 << 20, ping_interval=None, proxy=None,
        ) as self.ws:  # fmt: skip
            told = {"session": self.session, "received": self.received, "credit": self.credit}
            await self.send("hello", **told, max_bytes=128 << 20, capabilities=[])
            head, (kind, self.hello) = opened(await self.ws.recv())
            assert (head, kind) == (0, "hello"), (head, kind)
            if self.hello["resumed"]:
                self._forget(self.hello["received"])
                for message in list(self.unacknowledged.values()):
                    await self.ws.send(message)
            self.session = self.hello["session"]
            ready = asyncio.get_running_loop().create_future()
            if self.describe:
                ready.set_result(None)
            reader = asyncio.create_task(self._read(ready))
            self.pinger = asyncio.create_task(self._ping())
            if wait:
                await asyncio.wait_for(ready, 75)
            try:
                yield self
            finally:
                reader.cancel()
                self.pinger.cancel()

    def cut(self) -> None:
        """Ends the socket as a crash does, whatever is in it."""
        self.ws.transport.abort()

    async def _ping(self) -> None:
        try:
            await super()._ping()
        except ConnectionClosed:
            pass

    async def send(self, kind: str, /, **fields: Any) -> None:
        number = 0
        if kind not in OF_THE_CONNECTION:
            self.sent += 1
            number = self.sent
        message = b"\x92\xcf" + number.to_bytes(8, "big") + ormsgpack.packb({kind: fields})
        if number:
            self.unacknowledged[number] = message
        try:
            await self.ws.send(message)
        except ConnectionClosed:
            if not number:
                raise

    def _forget(self, number: int) -> None:
        self.unacknowledged = {n: m for n, m in self.unacknowledged.items() if n > number}

    async def grant(self, credit: int) -> None:
        self.credit = max(self.credit, credit)
        await self.send("ack", seq=self.received, credit=self.credit)

    async def seen(self, right: Any) -> None:
        """Returns once what came is right."""
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(right), 30)

    async def _read(self, ready: asyncio.Future[None]) -> None:
        try:
            async for message in self.ws:
                await self._take(message, ready)
                async with self.changed:
                    self.changed.notify_all()
        except ConnectionClosed:
            pass

    async def _take(self, message: bytes, ready: asyncio.Future[None]) -> None:
        number, (kind, f) = opened(message)
        if number:
            if number <= self.received:
                self.again += 1
                return
            assert number == self.received + 1, f"{number} after {self.received}"
            assert self.received_bytes < self.credit, "more than was granted"
            self.received = number
            self.received_bytes += len(message)
            assert len(message) <= (1 << 20) + 16
        self.kinds.append(kind)
        if kind == "chunk":
            self._parts.append(f["data"])
            if f["left"]:
                await self._renew()
                return
            kind, f = next(iter(ormsgpack.unpackb(b"".join(self._parts)).items()))
            self._parts.clear()
        if kind == "ready":
            self.describe = json.loads(f["describe"])
            ready.set_result(None)
        elif kind == "pong":
            if f["n"]:
                self.pongs.put_nowait(f)
        elif kind == "ack":
            self._forget(f["seq"])
        elif kind == "refused":
            self.answers.put_nowait(f)
        else:
            await self._run_frame(kind, f)
        await self._renew()

    async def _state(self, kind: str, f: dict[str, Any], run: Any) -> None:
        if kind in ("checkpoint", "writes", "read", "manage"):
            await super()._state(kind, f, run)
        else:
            await self.send("refused", kind=kind, reason=f"unknown kind {kind}", id=f.get("id", 0))

    async def _renew(self) -> None:
        if self.window and self.credit - self.received_bytes < self.window // 2:
            await self.grant(self.received_bytes + self.window)


def opened(message: bytes) -> tuple[int, tuple[str, dict[str, Any]]]:
    number, frame = ormsgpack.unpackb(message)
    return number, next(iter(frame.items()))
