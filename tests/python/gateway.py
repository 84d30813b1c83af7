"""A gateway for tests: speaks PROTOCOL.md to a real runner process over its real socket."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import ormsgpack
from stores import MemoryStore
from websockets.asyncio.client import unix_connect

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "runner" / "python" / "rapidclaw_runner"
PROJECTS = Path(__file__).parent / "projects"
SECRET = "the-secret-of-this-replica"
SUBPROTOCOL = "rapidclaw.runner.v1"


class Run:
    """What came in for one run."""

    def __init__(self) -> None:
        self.frames: list[tuple[str, dict[str, Any]]] = []
        self.ended: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.thread_id: str | None = None

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.frames]

    def events(self, mode: str) -> list[Any]:
        return [json.loads(f["data"]) for kind, f in self.frames if kind == "event" and f["mode"] == mode]

    async def end(self, timeout: float = 20) -> dict[str, Any]:
        return await asyncio.wait_for(asyncio.shield(self.ended), timeout)


class Gateway:
    def __init__(self, store: Any | None = None, any_thread: bool = False) -> None:
        self.store = store if store is not None else MemoryStore()
        self.runs: dict[str, Run] = {}
        self.describe: dict[str, Any] = {}
        self.pongs: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.any_thread = any_thread
        self.refused: list[str] = []

    @asynccontextmanager
    async def connected(self, path: str, secret: str = SECRET, wait: bool = True) -> AsyncIterator[Gateway]:
        headers = {"Authorization": f"Bearer {secret}"}
        async with unix_connect(
            path, "ws://replica/connect", additional_headers=headers, subprotocols=[SUBPROTOCOL],
            compression=None, max_size=64 << 20, ping_interval=None, proxy=None,
        ) as self.ws:  # fmt: skip
            ready = asyncio.get_running_loop().create_future()
            reader = asyncio.create_task(self._read(ready))
            self.pinger = asyncio.create_task(self._ping())
            if wait:
                await asyncio.wait_for(ready, 75)
            try:
                yield self
            finally:
                reader.cancel()
                self.pinger.cancel()

    async def _ping(self) -> None:
        while True:
            await self.send("ping", n=0)
            await asyncio.sleep(1)

    async def send(self, kind: str, /, **fields: Any) -> None:
        await self.ws.send(ormsgpack.packb({kind: fields}))

    async def _read(self, ready: asyncio.Future[None]) -> None:
        async for message in self.ws:
            ((kind, f),) = ormsgpack.unpackb(message).items()
            if kind == "ready":
                self.describe = json.loads(f["describe"])
                ready.set_result(None)
            elif kind == "pong":
                if f["n"]:
                    self.pongs.put_nowait(f)
            else:
                await self._run_frame(kind, f)

    async def _run_frame(self, kind: str, f: dict[str, Any]) -> None:
        run = self.runs.get(f["run"])
        if run is not None:
            assert not run.ended.done(), f"{kind} after end"
            run.frames.append((kind, f))
        if kind == "end":
            run.ended.set_result(f)
        elif kind != "event":
            await self._state(kind, f, run)

    async def _state(self, kind: str, f: dict[str, Any], run: Run | None) -> None:
        tuples, error = [], None
        touched = f.get("thread_id")
        if not self.any_thread and (run is None or kind != "manage" and touched != run.thread_id):
            error = f"{kind}: thread {touched} is not the run's"
            self.refused.append(error)
        elif kind == "checkpoint":
            self.store.put(f)
        elif kind == "writes":
            self.store.put_writes(f)
        elif kind == "read":
            tuples = self.store.read(f)
        elif kind == "manage":
            try:
                self.store.manage(f["op"], json.loads(f["args"]))
            except Exception as failure:  # noqa: BLE001
                error = str(failure)
        if f.get("id"):
            await self.send("reply", id=f["id"], tuples=tuples, error=error)

    async def start(self, input: Any = None, **fields: Any) -> Run:
        run_id = fields.pop("run", None) or str(uuid.uuid4())
        run = self.runs[run_id] = Run()
        defaults: dict[str, Any] = {"graph": "agent", "thread_id": str(uuid.uuid4()), "attempt": 1}
        defaults |= {"answer": "values", "stream_modes": [], "subgraphs": False}
        for name in ("command", "configurable", "context", "metadata"):
            if name in fields:
                fields[name] = json.dumps(fields[name]).encode()
        fields = defaults | fields
        run.id, run.thread_id = run_id, fields["thread_id"] or run_id
        fields["input"] = None if input is None else json.dumps(input).encode()
        await self.send("start", run=run_id, **fields)
        return run

    async def run(self, input: Any = None, timeout: float = 20, **fields: Any) -> dict[str, Any]:
        run = await self.start(input, **fields)
        end = await run.end(timeout)
        return end | {"values": json.loads(end["values"]) if end.get("values") else None, "frames": run}


class Replica:
    """A runner process under its supervisor (or without), with folders of its own."""

    def __init__(self, folder: Path, graphs: dict[str, str], **replica: Any) -> None:
        self.folder = folder
        (folder / "s").mkdir(parents=True, exist_ok=True)
        (folder / "r").mkdir(exist_ok=True)
        self.log = folder / "log"
        self.path = str(folder / "r" / "runner.sock")
        env = replica.pop("environment", {})
        python = replica.pop("python", sys.executable)
        self.supervised = replica.pop("supervised", False)
        project = {"graphs": graphs, "paths": [str(PROJECTS)], "workdir": str(PROJECTS)}
        document = {"replica": "r1", "agent": "agent", "version": 1, "secret": SECRET, "env": {}}
        document |= {"checkpointer": "postgres", "concurrency": 8, "log_level": "info", "relay": []}
        (folder / "project.json").write_text(json.dumps(project))
        (folder / "s" / "replica.json").write_text(json.dumps(document | replica))
        keep = ("PATH", "HOME", "LANG", "TMPDIR", "RAPIDCLAW_SITE")
        self.environment = {name: os.environ[name] for name in keep if name in os.environ}
        self.environment |= {
            "RAPIDCLAW_RUN": str(folder),
            "RAPIDCLAW_PROJECT": str(folder / "project.json"),
            "PYTHONPYCACHEPREFIX": "/tmp/rapidclaw-test-pycache",
        } | env
        if self.supervised:
            self.command = [python, "-I", "-S", str(PACKAGE / "supervisor.py")]
        else:
            self.command = [python, "-P", "-s", str(PACKAGE / "__main__.py")]

    async def launch(self) -> None:
        with open(self.log, "wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command, env=self.environment, stdout=log, stderr=log
            )

    async def __aenter__(self) -> Replica:
        await self.launch()
        deadline = time.monotonic() + 20
        while not self.answers():
            if self.process.returncode is not None or time.monotonic() > deadline:
                raise AssertionError(f"no socket; exit {self.process.returncode}; log:\n{self.text()}")
            await asyncio.sleep(0.01)
        return self

    def answers(self) -> bool:
        probe = socket.socket(socket.AF_UNIX)
        try:
            probe.connect(self.path)
            return True
        except OSError:
            return False
        finally:
            probe.close()

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
            await self.process.wait()

    def text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    async def exit_code(self, timeout: float = 30) -> int:
        return await asyncio.wait_for(self.process.wait(), timeout)


async def http(path: str, target: str, secret: str | None = SECRET, headers: str = "") -> tuple[int, str]:
    """One HTTP request on the replica's socket."""
    reader, writer = await asyncio.open_unix_connection(path)
    authorization = f"Authorization: Bearer {secret}\r\n" if secret else ""
    writer.write(f"GET {target} HTTP/1.1\r\nHost: replica\r\n{authorization}{headers}\r\n".encode())
    answer = (await asyncio.wait_for(reader.read(), 10)).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split(" ")[1]), body
