"""The checkpointer of a replica: a run's state travels to its gateway, which keeps it in Postgres.

Each run has a saver bound to it, so that code without the run's context (a thread of the project's own)
works for the run whose config it was given, and for no later one of the same thread. A run reaches its own
thread and no other: that is checked here for a clear error, and by the gateway for safety.

The async face and the sync face (sync subgraphs, `graph.get_state()` inside a node) send the same
frames; the sync one waits for the connection thread, so it works on the graph loop's thread too. What
both do is written once, as generators of the answers that they wait for.
"""

from __future__ import annotations

import asyncio
import copy
import random
import threading
import uuid
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NoReturn

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
from langgraph.checkpoint.serde.base import SerializerProtocol

try:
    from langgraph.checkpoint.base import get_serializable_checkpoint_metadata
except ImportError:
    from langgraph.checkpoint.base import get_checkpoint_metadata as get_serializable_checkpoint_metadata

from ... import current_run, jsonable
from ...runs import Run
from . import answers, layout

PAGE = 64
"""Tuples asked for at once: the history of a long thread does not fit one message."""
BELOW = ":"
"""What a sub-agent's namespaces begin with. LangGraph's begin with a node's name, which has no colon."""

Rows = list[dict[str, Any]]
Steps = Generator[Future[Rows], Rows, Any]
"""Something to do, as far as the next answer that it needs."""


class NoRun(RuntimeError):
    """The checkpointer was used outside any run."""


class ForeignThread(PermissionError):
    """A run asked for the state of a thread that is not its own."""


class RemoteSaver(BaseCheckpointSaver[str]):
    """See the module's text. Thread-safe; clones (`with_allowlist`) are of the same run."""

    def __init__(self, serde: SerializerProtocol | None = None) -> None:
        super().__init__(serde=serde)
        self.run: Run | None = None

    def bound_to(self, run: Run) -> RemoteSaver:
        bound = copy.copy(self)
        bound.run = run
        return bound

    # Which run, and where its state lies

    def _run(self, thread_id: str | None) -> Run:
        run = self._any_run()
        if not run.any_thread and (thread_id is None or str(thread_id) != run.thread_id):
            named = "all threads" if thread_id is None else f"thread {thread_id}"
            raise ForeignThread(f"a run reaches only its own thread {run.thread_id}, not {named}")
        return run

    def _any_run(self) -> Run:
        run = self.run or current_run.get()
        if run is None:
            raise NoRun("the checkpointer works only inside a run")
        return run

    def _place(self, config: RunnableConfig | None, lists: bool = False) -> tuple[Run, RunnableConfig | None]:
        """The run that a call belongs to, and the config as the gateway knows it. One without a namespace is
        that of the graph itself, and for lists all of them."""
        return self._run(config["configurable"]["thread_id"] if config else None), config

    def _is_here(self, config: RunnableConfig | None, namespace: str) -> bool:
        """Whether a list over all namespaces shows this one."""
        return self._any_run().any_thread or not namespace.startswith(BELOW)

    def _as_asked(self, config: RunnableConfig | None, found: CheckpointTuple) -> CheckpointTuple:
        """What was found, in the names that project code uses."""
        return found

    def _memory(self, run: Run) -> Any:
        """A stateless run's memory, with this saver's serializer."""
        memory = copy.copy(run.memory)
        memory.serde = self.serde
        return memory

    def _refuse_connection_thread(self) -> None:
        if threading.current_thread().name == "rapidclaw-connection":
            raise RuntimeError("the checkpointer's sync methods cannot be called on the connection's thread")

    def _now(self, steps: Steps) -> Any:
        self._refuse_connection_thread()
        try:
            answer = next(steps)
            while True:
                answer = steps.send(answer.result())
        except StopIteration as end:
            return end.value

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

    def _read(self, run: Run, config: RunnableConfig | None, **fields: Any) -> Future[Rows]:
        frame = dict.fromkeys(("thread_id", "ns", "checkpoint_id", "before", "filter", "limit")) | {"pages": True}
        if config is not None:
            configurable = config["configurable"]
            frame["thread_id"] = str(configurable["thread_id"])
            frame["ns"] = configurable.get("checkpoint_ns")
            frame["checkpoint_id"] = get_checkpoint_id(config)
        return run.request("read", frame | fields)

    async def newest_row(self, run: Run, config: RunnableConfig) -> dict[str, Any] | None:
        """The TUPLE of the thread's newest root checkpoint; LangGraph's first read gets it again."""
        if run.first_state is None:
            rows = await asyncio.wrap_future(self._read(run, config, ns="", limit=1))
            run.first_state = {"tuple": rows[0] if rows else None}
        return run.first_state.get("tuple")

    def _load(self, run: Run, row: dict[str, Any]) -> Steps:
        """A decoded row as LangGraph's tuple; a checkpoint of an old format needs its parent's sends."""
        sends = []
        if layout.needs_parents_sends(row):
            parent = {"thread_id": row["thread_id"], "ns": row["ns"], "checkpoint_id": row["parent_id"], "limit": 1}
            parents = yield run.request("read", parent)
            sends = layout.sends_of(parents[0]) if parents else []
        row = row | {"writes": answers.kept_writes(run, row.get("writes") or ())}
        loaded = layout.load_tuple(self.serde, row, sends, self.get_next_version(None))
        run.state_size.loaded(row)
        if run.turn is not None and not run.steps and not row["ns"]:
            run.turn.loaded(loaded.metadata, loaded.checkpoint["channel_values"])
        _go_on_after(row["checkpoint_id"])
        return loaded

    def _get(self, run: Run, config: RunnableConfig) -> Steps:
        answered, row = self._first_state(run, config)
        if not answered:
            namespace = config["configurable"].get("checkpoint_ns") or ""
            rows = yield self._read(run, config, ns=namespace, limit=1)
            row = rows[0] if rows else None
        if row is None:
            return None
        return (yield from self._load(run, layout.decode(row)))

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        run, placed = self._place(config)
        if run.memory is not None:
            found = self._memory(run).get_tuple(placed)
        else:
            found = self._now(self._get(run, placed))
        return found and self._as_asked(config, found)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        run, placed = self._place(config)
        if run.memory is not None:
            found = await self._memory(run).aget_tuple(placed)
        else:
            found = await _later(self._get(run, placed))
        return found and self._as_asked(config, found)

    def _found(
        self,
        run: Run,
        asked: RunnableConfig | None,
        config: RunnableConfig | None,
        filter: dict[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> Generator[Future[Rows] | CheckpointTuple, Any, None]:
        """The tuples of a list, page by page; yields answers to wait for and tuples.

        Over all namespaces an id may be there more than once, so that a page's last id is read again.
        """
        fields: dict[str, Any] = {"filter": jsonable.dumps(filter) if filter else None}
        fields["before"] = get_checkpoint_id(before) if before else None
        everywhere = config is None or config["configurable"].get("checkpoint_ns") is None
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None or everywhere else min(PAGE, left)
            rows = yield self._read(run, config, **fields, limit=size)
            has_more = len(rows) >= size or getattr(rows, "more", False)
            if everywhere and has_more:
                rows = [row for row in rows if row["checkpoint_id"] != rows[-1]["checkpoint_id"]] or rows
            for row in rows:
                if everywhere and not self._is_here(asked, row["ns"]):
                    continue
                if left is not None:
                    left -= 1
                yield (yield from self._load(run, layout.decode(row)))
                if left == 0:
                    return
            if not has_more or not rows:
                return
            fields["before"] = rows[-1]["checkpoint_id"]

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        run, placed = self._place(config, lists=True)
        if run.memory is not None:
            for found in self._memory(run).list(placed, filter=filter, before=before, limit=limit):
                yield self._as_asked(config, found)
            return
        self._refuse_connection_thread()
        steps, answer = self._found(run, config, placed, filter, before, limit), None
        try:
            while True:
                found = steps.send(answer)
                answer = found.result() if isinstance(found, Future) else None
                if answer is None:
                    yield self._as_asked(config, found)
        except StopIteration:
            return

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        run, placed = self._place(config, lists=True)
        if run.memory is not None:
            async for found in self._memory(run).alist(placed, filter=filter, before=before, limit=limit):
                yield self._as_asked(config, found)
            return
        steps, answer = self._found(run, config, placed, filter, before, limit), None
        while True:
            try:
                found = steps.send(answer)
            except StopIteration:
                return
            answer = await asyncio.wrap_future(found) if isinstance(found, Future) else None
            if answer is None:
                yield self._as_asked(config, found)

    # The history of channels that are kept as changes (langgraph's DeltaChannel)

    def _deltas(self, run: Run, config: RunnableConfig, channels: Sequence[str]) -> Steps:
        """As the base class has it, along the chain of parents, but read in pages: those of one line of
        checkpoints lie beside each other."""
        writes: dict[str, list[Any]] = {channel: [] for channel in channels}
        seeds: dict[str, Any] = {}
        remaining = set(channels)
        rows: dict[str, dict[str, Any]] = {}
        target = yield from self._get(run, config)
        wanted = _parent_id(target) if target else None
        if target:
            config = target.config
        lowest, is_exhausted = target and target.config["configurable"]["checkpoint_id"], False
        while wanted is not None and remaining:
            while wanted not in rows and not is_exhausted and wanted < lowest:
                page = yield self._read(run, config, checkpoint_id=None, before=lowest, limit=PAGE)
                is_exhausted = not page or (len(page) < PAGE and not getattr(page, "more", False))
                rows = {row["checkpoint_id"]: row for row in page}
                lowest = page[-1]["checkpoint_id"] if page else lowest
            if wanted not in rows:
                page = yield self._read(run, config, checkpoint_id=wanted, limit=1)
                if not page:
                    break
                rows[wanted] = page[0]
            found = layout.load_tuple(self.serde, layout.decode(rows[wanted]), [], self.get_next_version(None))
            for write in reversed(found.pending_writes or ()):
                if write[1] in remaining:
                    writes[write[1]].append(write)
            for channel in list_of(remaining):
                if channel in found.checkpoint["channel_values"]:
                    seeds[channel] = found.checkpoint["channel_values"][channel]
                    remaining.discard(channel)
            wanted = _parent_id(found)
        return {
            channel: {"writes": writes[channel][::-1]} | ({"seed": seeds[channel]} if channel in seeds else {})
            for channel in channels
        }

    def get_delta_channel_history(self, *, config: RunnableConfig, channels: Sequence[str]) -> Mapping[str, Any]:
        run, placed = self._place(config)
        if run.memory is not None:
            return self._memory(run).get_delta_channel_history(config=placed, channels=channels)
        return self._now(self._deltas(run, placed, channels)) if channels else {}

    async def aget_delta_channel_history(self, *, config: RunnableConfig, channels: Sequence[str]) -> Mapping[str, Any]:
        run, placed = self._place(config)
        if run.memory is not None:
            return await self._memory(run).aget_delta_channel_history(config=placed, channels=channels)
        return await _later(self._deltas(run, placed, channels)) if channels else {}

    # Writing

    def _checkpoint_frame(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> dict[str, Any]:
        configurable = config["configurable"]
        try:
            encoded, blobs = layout.dump_checkpoint(self.serde, checkpoint, new_versions)
        except Exception as error:  # noqa: BLE001 - the project's own serializer
            self._name_channel(checkpoint["channel_values"].items(), error)
        kept = get_serializable_checkpoint_metadata(config, metadata)
        return {
            "id": 0,
            "thread_id": str(configurable["thread_id"]),
            "ns": configurable.get("checkpoint_ns") or "",
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
        try:
            dumped = layout.dump_writes(self.serde, writes)
        except Exception as error:  # noqa: BLE001 - the project's own serializer
            self._name_channel(writes, error)
        return {
            "id": 0,
            "thread_id": str(configurable["thread_id"]),
            "ns": configurable.get("checkpoint_ns") or "",
            "checkpoint_id": configurable["checkpoint_id"],
            "task_id": task_id,
            "task_path": task_path,
            "overwrite": layout.replaces(writes),
            "writes": dumped,
        }

    def _name_channel(self, values: Iterable[tuple[str, Any]], error: Exception) -> NoReturn:
        """Raises what says which key of the state holds the value that could not be saved."""
        for channel, value in values:
            try:
                self.serde.dumps_typed(value)
            except Exception:  # noqa: BLE001 - the one that is looked for
                raise TypeError(
                    f"the state's {channel} cannot be saved: {error}; convert its {type(value).__name__}, compile the "
                    "graph with a checkpointer whose serializer takes it (JsonPlusSerializer(pickle_fallback=True)), or "
                    'set "checkpointer": "own" in the rapidclaw section of langgraph.json'
                ) from error
        raise error

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        run, placed = self._place(config)
        if run.memory is not None:
            self._memory(run).put(placed, checkpoint, metadata, new_versions)
            return _next_config(config, checkpoint)
        self._refuse_connection_thread()
        if run.paused:
            run.block_while_paused()
        frame = self._checkpoint_frame(placed, checkpoint, metadata, new_versions)
        run.check_size("checkpoint", frame, checkpoint["channel_versions"])
        if run.durability == "sync":
            run.request("checkpoint", frame).result()
        else:
            run.send("checkpoint", frame)
        return _next_config(config, checkpoint)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        run, placed = self._place(config)
        if run.memory is not None:
            await self._memory(run).aput(placed, checkpoint, metadata, new_versions)
            return _next_config(config, checkpoint)
        if run.paused:
            await run.while_paused()
        frame = self._checkpoint_frame(placed, checkpoint, metadata, new_versions)
        run.check_size("checkpoint", frame, checkpoint["channel_versions"])
        if run.durability == "sync":
            await asyncio.wrap_future(run.request("checkpoint", frame))
        else:
            run.send("checkpoint", frame)
        return _next_config(config, checkpoint)

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        run, placed = self._place(config)
        if run.memory is not None:
            self._memory(run).put_writes(placed, writes, task_id, task_path)
            return
        self._refuse_connection_thread()
        if run.paused:
            run.block_while_paused()
        frame = self._writes_frame(placed, answers.before_writes(run, writes), task_id, task_path)
        run.check_size("writes", frame)
        run.send("writes", frame)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        run, placed = self._place(config)
        if run.memory is not None:
            await self._memory(run).aput_writes(placed, writes, task_id, task_path)
            return
        if run.paused:
            await run.while_paused()
        frame = self._writes_frame(placed, answers.before_writes(run, writes), task_id, task_path)
        run.check_size("writes", frame)
        run.send("writes", frame)

    # Managing

    def _manage(self, threads: Sequence[str], op: str, args: dict[str, Any]) -> Future[Rows]:
        """Every thread that is touched must be the run's own."""
        run = self._any_run()
        if not run.any_thread and (not threads or any(thread != run.thread_id for thread in threads)):
            raise ForeignThread(f"{op}: a run reaches only its own thread {run.thread_id}")
        return run.request("manage", {"op": op, "args": jsonable.dumps(args)})

    def _manage_delete_thread(self, thread_id: str) -> Future[Rows]:
        return self._manage([str(thread_id)], "delete_thread", {"thread_id": str(thread_id)})

    def _manage_copy(self, source: str, target: str) -> Future[Rows]:
        args = {"source_thread_id": str(source), "target_thread_id": str(target)}
        return self._manage([str(source), str(target)], "copy_thread", args)

    def _manage_runs(self, run_ids: Sequence[str]) -> Future[Rows]:
        return self._manage([], "delete_for_runs", {"run_ids": [str(run_id) for run_id in run_ids]})

    def _manage_prune(self, thread_ids: Sequence[str], strategy: str) -> Future[Rows]:
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


async def _later(steps: Steps) -> Any:
    try:
        answer = next(steps)
        while True:
            answer = steps.send(await asyncio.wrap_future(answer))
    except StopIteration as end:
        return end.value


def list_of(values: Iterable[str]) -> Sequence[str]:
    return [*values]  # `list` is a method up there


def _parent_id(found: CheckpointTuple) -> str | None:
    return found.parent_config["configurable"]["checkpoint_id"] if found.parent_config else None


def _next_config(config: RunnableConfig, checkpoint: Checkpoint) -> RunnableConfig:
    return {
        "configurable": {
            "thread_id": str(config["configurable"]["thread_id"]),
            "checkpoint_ns": config["configurable"].get("checkpoint_ns") or "",
            "checkpoint_id": checkpoint["id"],
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

