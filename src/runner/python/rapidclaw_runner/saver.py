"""The checkpointer of a replica: a run's state travels to its gateway, which keeps it in Postgres.

One saver serves all graphs. It finds the run it works for by context, which LangGraph carries into
tasks, threads and subgraphs; a thread of the project's own, which has no context, is known by the
`thread_id` it names. A run reaches its own thread and no other: that is checked here for a clear
error, and by the gateway for safety.

The async face and the sync face (sync subgraphs, `graph.get_state()` inside a node) send the same
frames; the sync one waits for the connection thread, so it works on the graph loop's thread too.
"""

from __future__ import annotations

import asyncio
import random
import threading
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
)
from langgraph.checkpoint.base import id as ids

try:
    from langgraph.checkpoint.base import get_serializable_checkpoint_metadata
except ImportError:
    from langgraph.checkpoint.base import get_checkpoint_metadata as get_serializable_checkpoint_metadata

from . import current_run, jsonable, layout
from .runs import Run, Runs

PAGE = 64
"""Tuples asked for at once: the history of a long thread does not fit one message."""


class NoRun(RuntimeError):
    """The checkpointer was used outside any run."""


class ForeignThread(PermissionError):
    """A run asked for the state of a thread that is not its own."""


class RemoteSaver(BaseCheckpointSaver[str]):
    """See the module's text. Thread-safe; clones (`with_allowlist`) share the runs."""

    def __init__(self, runs: Runs) -> None:
        super().__init__()
        self.runs = runs

    # Which run

    def _run(self, thread_id: str | None) -> Run:
        run = current_run.get()
        if run is None and thread_id is not None:
            run = self.runs.on_thread(str(thread_id))
        if run is None:
            raise NoRun("the checkpointer works only inside a run, and no run is on this thread")
        if not run.any_thread and (thread_id is None or str(thread_id) != run.thread_id):
            named = "all threads" if thread_id is None else f"thread {thread_id}"
            raise ForeignThread(f"a run reaches only its own thread {run.thread_id}, not {named}")
        return run

    def _run_of(self, config: RunnableConfig | None) -> Run:
        return self._run(config["configurable"]["thread_id"] if config else None)

    def _refuse_connection_thread(self) -> None:
        if threading.current_thread().name == "rapidclaw-connection":
            raise RuntimeError("the checkpointer's sync methods cannot be called on the connection's thread")

    # Versions, as PostgresSaver's

    def get_next_version(self, current: str | int | None, channel: None = None) -> str:  # type: ignore[override]
        if current is None:
            number = 0
        elif isinstance(current, int):
            number = current
        else:
            number = int(current.split(".")[0])
        return f"{number + 1:032}.{random.random():016}"

    # Reading

    def _first_state(self, run: Run, config: RunnableConfig) -> tuple[bool, dict[str, Any] | None]:
        """The state that came with `start` answers the first read of the newest root checkpoint."""
        configurable = config["configurable"]
        if run.first_state is None or configurable.get("checkpoint_ns") or get_checkpoint_id(config):
            return False, None
        state, run.first_state = run.first_state, None
        return True, state.get("tuple")

    def _read(self, run: Run, config: RunnableConfig | None, **fields: Any) -> Future[list[dict[str, Any]]]:
        frame = dict.fromkeys(("thread_id", "ns", "checkpoint_id", "before", "filter", "limit"))
        if config is not None:
            configurable = config["configurable"]
            frame["thread_id"] = str(configurable["thread_id"])
            frame["ns"] = configurable.get("checkpoint_ns")
            frame["checkpoint_id"] = get_checkpoint_id(config)
        return run.request("read", frame | fields)

    def _read_parent(self, run: Run, row: dict[str, Any]) -> Future[list[dict[str, Any]]]:
        return run.request(
            "read",
            {"thread_id": row["thread_id"], "ns": row["ns"], "checkpoint_id": row["parent_id"], "limit": 1},
        )

    def _loaded(self, run: Run, row: dict[str, Any], parents: list[dict[str, Any]]) -> CheckpointTuple:
        sends = layout.sends_of(parents[0]) if parents else []
        loaded = layout.load_tuple(self.serde, row, sends, self.get_next_version(None))
        if not run.steps and not row["ns"]:
            _remember_messages(run, loaded.checkpoint["channel_values"])
        _go_on_after(row["checkpoint_id"])
        return loaded

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        run = self._run_of(config)
        if run.memory is not None:
            return run.memory.get_tuple(config)
        self._refuse_connection_thread()
        answered, row = self._first_state(run, config)
        if not answered:
            namespace = config["configurable"].get("checkpoint_ns") or ""
            rows = self._read(run, config, ns=namespace, limit=1).result()
            row = rows[0] if rows else None
        if row is None:
            return None
        row = layout.decode(row)
        parents = self._read_parent(run, row).result() if layout.needs_parents_sends(row) else []
        return self._loaded(run, row, parents)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        run = self._run_of(config)
        if run.memory is not None:
            return await run.memory.aget_tuple(config)
        answered, row = self._first_state(run, config)
        if not answered:
            namespace = config["configurable"].get("checkpoint_ns") or ""
            rows = await asyncio.wrap_future(self._read(run, config, ns=namespace, limit=1))
            row = rows[0] if rows else None
        if row is None:
            return None
        row = layout.decode(row)
        parents = []
        if layout.needs_parents_sends(row):
            parents = await asyncio.wrap_future(self._read_parent(run, row))
        return self._loaded(run, row, parents)

    def _pages(
        self,
        run: Run,
        config: RunnableConfig | None,
        filter: dict[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> Iterator[Future[list[dict[str, Any]]]]:
        """Reads of one page each; pages need one namespace, where checkpoint ids are unique."""
        fields: dict[str, Any] = {"filter": jsonable.dumps(filter) if filter else None}
        fields["before"] = get_checkpoint_id(before) if before else None
        if config is None or config["configurable"].get("checkpoint_ns") is None:
            yield self._read(run, config, **fields, limit=limit)
            return
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            page = self._read(run, config, **fields, limit=size)
            yield page
            rows = page.result()
            if len(rows) < size:
                return
            fields["before"] = rows[-1]["checkpoint_id"]
            left = None if left is None else left - len(rows)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        run = self._run_of(config)
        if run.memory is not None:
            yield from run.memory.list(config, filter=filter, before=before, limit=limit)
            return
        self._refuse_connection_thread()
        for page in self._pages(run, config, filter, before, limit):
            for row in map(layout.decode, page.result()):
                parents = self._read_parent(run, row).result() if layout.needs_parents_sends(row) else []
                yield self._loaded(run, row, parents)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        run = self._run_of(config)
        if run.memory is not None:
            async for loaded in run.memory.alist(config, filter=filter, before=before, limit=limit):
                yield loaded
            return
        for page in self._pages(run, config, filter, before, limit):
            for row in map(layout.decode, await asyncio.wrap_future(page)):
                parents = []
                if layout.needs_parents_sends(row):
                    parents = await asyncio.wrap_future(self._read_parent(run, row))
                yield self._loaded(run, row, parents)

    # Writing

    def _checkpoint_frame(
        self,
        run: Run,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> dict[str, Any]:
        configurable = config["configurable"]
        encoded, blobs = layout.dump_checkpoint(self.serde, checkpoint, new_versions)
        kept = get_serializable_checkpoint_metadata(config, metadata)
        namespace = configurable.get("checkpoint_ns") or ""
        return {
            "id": 0,
            "thread_id": str(configurable["thread_id"]),
            "ns": namespace,
            "checkpoint_id": checkpoint["id"],
            "parent_id": configurable.get("checkpoint_id"),
            "checkpoint": encoded,
            "metadata": layout.dump_metadata(kept),
            "blobs": blobs,
        }

    def _writes_frame(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> dict[str, Any]:
        configurable = config["configurable"]
        return {
            "id": 0,
            "thread_id": str(configurable["thread_id"]),
            "ns": configurable.get("checkpoint_ns") or "",
            "checkpoint_id": configurable["checkpoint_id"],
            "task_id": task_id,
            "task_path": task_path,
            "overwrite": layout.replaces(writes),
            "writes": layout.dump_writes(self.serde, writes),
        }

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        run = self._run_of(config)
        if run.memory is not None:
            return run.memory.put(config, checkpoint, metadata, new_versions)
        self._refuse_connection_thread()
        if run.paused:
            run.block_while_paused()
        frame = self._checkpoint_frame(run, config, checkpoint, metadata, new_versions)
        if run.durability == "sync":
            run.request("checkpoint", frame).result()
        else:
            run.send("checkpoint", frame)
        return _next_config(frame)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        run = self._run_of(config)
        if run.memory is not None:
            return await run.memory.aput(config, checkpoint, metadata, new_versions)
        if run.paused:
            await run.while_paused()
        frame = self._checkpoint_frame(run, config, checkpoint, metadata, new_versions)
        if run.durability == "sync":
            await asyncio.wrap_future(run.request("checkpoint", frame))
        else:
            run.send("checkpoint", frame)
        return _next_config(frame)

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        run = self._run_of(config)
        if run.memory is not None:
            run.memory.put_writes(config, writes, task_id, task_path)
            return
        self._refuse_connection_thread()
        if run.paused:
            run.block_while_paused()
        run.send("writes", self._writes_frame(config, writes, task_id, task_path))

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        run = self._run_of(config)
        if run.memory is not None:
            await run.memory.aput_writes(config, writes, task_id, task_path)
            return
        if run.paused:
            await run.while_paused()
        run.send("writes", self._writes_frame(config, writes, task_id, task_path))

    # Managing

    def _manage(self, threads: Sequence[str], op: str, args: dict[str, Any]) -> Future[list[dict[str, Any]]]:
        """Every thread that is touched must be the run's own."""
        run = current_run.get() or (self.runs.on_thread(threads[0]) if threads else None)
        if run is None:
            raise NoRun(f"{op}: the checkpointer works only inside a run")
        if not run.any_thread and (not threads or any(thread != run.thread_id for thread in threads)):
            raise ForeignThread(f"{op}: a run reaches only its own thread {run.thread_id}")
        return run.request("manage", {"op": op, "args": jsonable.dumps(args)})

    def _manage_delete_thread(self, thread_id: str) -> Future[list[dict[str, Any]]]:
        return self._manage([str(thread_id)], "delete_thread", {"thread_id": str(thread_id)})

    def _manage_copy(self, source: str, target: str) -> Future[list[dict[str, Any]]]:
        args = {"source_thread_id": str(source), "target_thread_id": str(target)}
        return self._manage([str(source), str(target)], "copy_thread", args)

    def _manage_runs(self, run_ids: Sequence[str]) -> Future[list[dict[str, Any]]]:
        return self._manage([], "delete_for_runs", {"run_ids": [str(run_id) for run_id in run_ids]})

    def _manage_prune(self, thread_ids: Sequence[str], strategy: str) -> Future[list[dict[str, Any]]]:
        if isinstance(thread_ids, str):
            raise TypeError("thread_ids is a sequence of thread ids, not one string")
        if strategy not in ("keep_latest", "delete"):
            raise ValueError(f"unknown prune strategy: {strategy!r}")
        threads = [str(thread_id) for thread_id in thread_ids]
        return self._manage(threads, "prune", {"thread_ids": threads, "strategy": strategy})

    def delete_thread(self, thread_id: str) -> None:
        self._refuse_connection_thread()
        self._manage_delete_thread(thread_id).result()

    async def adelete_thread(self, thread_id: str) -> None:
        await asyncio.wrap_future(self._manage_delete_thread(thread_id))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        self._refuse_connection_thread()
        self._manage_copy(source_thread_id, target_thread_id).result()

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        await asyncio.wrap_future(self._manage_copy(source_thread_id, target_thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        self._refuse_connection_thread()
        self._manage_runs(run_ids).result()

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        await asyncio.wrap_future(self._manage_runs(run_ids))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        self._refuse_connection_thread()
        self._manage_prune(thread_ids, strategy).result()

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        await asyncio.wrap_future(self._manage_prune(thread_ids, strategy))


def _next_config(frame: dict[str, Any]) -> RunnableConfig:
    return {
        "configurable": {
            "thread_id": frame["thread_id"],
            "checkpoint_ns": frame["ns"],
            "checkpoint_id": frame["checkpoint_id"],
        }
    }


def _go_on_after(checkpoint_id: str) -> None:
    """Lets the checkpoints that this process makes be newer than this one.

    The newest checkpoint is the one with the highest id, and ids begin with the time. LangGraph lets them rise
    within a process; where the clock was set back before the process began, they would sort before those of
    yesterday, and each turn would begin from there.
    """
    try:
        known = uuid.UUID(checkpoint_id)
    except ValueError:
        return
    if known.version == 6 and hasattr(ids, "_last_v6_timestamp"):
        time = (known.int >> 80) << 12 | (known.int >> 64) & 0xFFF
        ids._last_v6_timestamp = max(time, ids._last_v6_timestamp or 0)


def _remember_messages(run: Run, values: dict[str, Any]) -> None:
    """Messages the thread held before this run are not this run's usage."""
    for value in values.values():
        if type(value) is list:
            for item in value:
                if (message_id := getattr(item, "id", None)) is not None:
                    run.known_ids.add(message_id)
