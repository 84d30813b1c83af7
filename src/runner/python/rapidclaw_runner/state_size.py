"""How large the state is that a run has written: what is too large to be read back is refused at once.

A thread's state is read in one piece when its next run begins, so the turn that makes it too large is
the one that fails, with size and limit, and the thread stays as it was.
"""

from __future__ import annotations

from typing import Any

from .failures import PublicError

DEFAULT_BYTES = 32 << 20


class StateTooLarge(PublicError):
    """`limits.state_bytes` is passed."""

    def __init__(self, namespace: str, size: int, limit: int) -> None:
        whose = f"the state of subgraph {namespace}" if namespace else "the thread's state"
        super().__init__(f"{whose} has {size} bytes, and `limits.state_bytes` allows {limit}")


class StateSize:
    """Encoded bytes of each version of each channel that a run has read or written, by namespace."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._channels: dict[tuple[str, str, str], int] = {}
        self._writes: dict[tuple[str, str], int] = {}

    def loaded(self, row: dict[str, Any]) -> None:
        """A decoded TUPLE that the run goes on from."""
        versions = row["checkpoint"].get("channel_versions") or {}
        for channel, _, data in row.get("blobs") or ():
            self._channels[row["ns"], channel, str(versions.get(channel))] = len(data or b"")

    def check_document(self, document: bytes) -> None:
        """Raises `StateTooLarge` for a document that passes the limit."""
        if self._limit is not None and len(document) > self._limit:
            raise StateTooLarge("", len(document), self._limit)

    def check(self, kind: str, frame: dict[str, Any], channel_versions: dict[str, Any] | None = None) -> None:
        """Raises `StateTooLarge` for a `checkpoint` or `writes` frame that passes the limit."""
        if self._limit is None:
            return
        namespace = frame["ns"]
        if kind == "checkpoint":
            for channel, version, _, data in frame["blobs"]:
                self._channels[namespace, channel, version] = len(data or b"")
            versions = channel_versions or {}
            kept = (self._channels.get((namespace, channel, str(version)), 0) for channel, version in versions.items())
            size = len(frame["checkpoint"]) + sum(kept)
            self._writes = {key: value for key, value in self._writes.items() if key[0] != namespace}
        else:
            place = namespace, frame["checkpoint_id"]
            size = self._writes.get(place, 0) + sum(len(write[3]) for write in frame["writes"])
            self._writes[place] = size
        if size > self._limit:
            raise StateTooLarge(namespace, size, self._limit)
