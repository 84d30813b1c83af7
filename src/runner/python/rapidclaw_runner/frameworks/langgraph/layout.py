"""Checkpoints as frames: the layout of `langgraph-checkpoint-postgres`, which its savers can read.

Primitive channel values stand inline in the checkpoint's JSON, everything else in blobs, one per
channel and version. What jsonb cannot hold (NUL characters, lone surrogates, NaN, infinity) is a
blob as well: a reader takes a channel's value from wherever it finds it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

try:
    from langgraph.checkpoint.serde.types import _DeltaSnapshot
except ImportError:  # langgraph-checkpoint before DeltaChannel

    class _DeltaSnapshot:  # type: ignore[no-redef]
        """Stands in where there are none."""


try:
    from langgraph.checkpoint.serde.types import TASKS
except ImportError:
    TASKS = "__pregel_tasks"

from ... import jsonable

PENDING_SENDS_VERSION = 4
"""Checkpoints older than this keep the sends of a step as writes of their parent."""


def is_inline(value: Any) -> bool:
    kind = type(value)
    if value is None or kind is bool:
        return True
    if kind is str:
        if value.isascii():
            return "\x00" not in value
        return "\x00" not in value and not any("\ud800" <= char <= "\udfff" for char in value)
    if kind is int:
        return value.bit_length() <= jsonable.LONGEST_INT_BITS
    return kind is float and math.isfinite(value)


def dump_checkpoint(
    serde: SerializerProtocol, checkpoint: Checkpoint, new_versions: ChannelVersions
) -> tuple[bytes, list[list[Any]]]:
    """The checkpoint's JSON and its new blobs, `[channel, version, type, bytes]`."""
    inline: dict[str, Any] = {}
    blobs: list[list[Any]] = []
    for channel, value in checkpoint["channel_values"].items():
        if is_inline(value):
            inline[channel] = value
            continue
        if isinstance(value, _DeltaSnapshot):
            inline[channel] = True
        if channel in new_versions:
            kind, data = serde.dumps_typed(value)
            blobs.append([channel, str(new_versions[channel]), kind, bytes(data)])
    return jsonable.dumps_jsonb({**checkpoint, "channel_values": inline}), blobs


def dump_writes(serde: SerializerProtocol, writes: Sequence[tuple[str, Any]]) -> list[list[Any]]:
    dumped = []
    for position, (channel, value) in enumerate(writes):
        kind, data = serde.dumps_typed(value)
        dumped.append([WRITES_IDX_MAP.get(channel, position), channel, kind, bytes(data)])
    return dumped


def replaces(writes: Sequence[tuple[str, Any]]) -> bool:
    """Whether writes replace older ones of the same task: errors, interrupts, resumes."""
    return all(channel in WRITES_IDX_MAP for channel, _ in writes)


def dump_metadata(metadata: CheckpointMetadata) -> bytes:
    return jsonable.dumps_jsonb(metadata)


def needs_parents_sends(row: dict[str, Any]) -> bool:
    """Whether the sends of this (decoded) tuple must be fetched from its parent's writes."""
    checkpoint = row["checkpoint"]
    return int(checkpoint.get("v") or 0) < PENDING_SENDS_VERSION and bool(row.get("parent_id"))


def decode(row: dict[str, Any]) -> dict[str, Any]:
    """A TUPLE with its JSON parsed."""
    return row | {
        "checkpoint": jsonable.loads(row["checkpoint"]),
        "metadata": jsonable.loads(row.get("metadata") or b"{}"),
    }


def sends_of(row: dict[str, Any]) -> list[tuple[str, bytes]]:
    """The sends among a TUPLE's writes, in order."""
    writes = sorted(row.get("writes") or (), key=_write_order)
    return [(write[2], write[3]) for write in writes if write[1] == TASKS]


def load_tuple(
    serde: SerializerProtocol,
    row: dict[str, Any],
    sends: list[tuple[str, bytes]],
    first_version: str,
) -> CheckpointTuple:
    """A decoded TUPLE as LangGraph's, with its parent's `sends` (of an old checkpoint) put in."""
    checkpoint, thread_id, namespace = row["checkpoint"], row["thread_id"], row["ns"]
    values = dict(checkpoint.get("channel_values") or {})
    for channel, kind, data in row.get("blobs") or ():
        if kind != "empty":
            values[channel] = serde.loads_typed((kind, data))
    if sends:
        values[TASKS] = [serde.loads_typed(send) for send in sends]
        versions = checkpoint["channel_versions"]
        versions[TASKS] = max(versions.values()) if versions else first_version
    writes = [
        (write[0], write[1], serde.loads_typed((write[2], write[3])))
        for write in sorted(row.get("writes") or (), key=_write_order)
    ]
    parent_id = row.get("parent_id")
    return CheckpointTuple(
        _config(thread_id, namespace, row["checkpoint_id"]),
        {**checkpoint, "channel_values": values},
        row["metadata"],
        _config(thread_id, namespace, parent_id) if parent_id else None,
        writes,
    )


def _write_order(write: Sequence[Any]) -> tuple[str, str, int]:
    """Live execution applies a step's writes in this order: task path, task, position."""
    return (write[4] or "", write[0], write[5])


def _config(thread_id: str, namespace: str, checkpoint_id: str) -> Any:
    return {
        "configurable": {
            "thread_id": thread_id,
            "checkpoint_ns": namespace,
            "checkpoint_id": checkpoint_id,
        }
    }
