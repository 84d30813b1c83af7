"""Frames as bytes: a MessagePack map of one key, carried by one binary WebSocket message.

In version 2 the message is an array of two: its number, as an uint 64, and the map. A number of 0 is
that of a frame of the connection itself.
"""

from __future__ import annotations

from typing import Any

from .own import ormsgpack

PROTOCOL = 2
SUBPROTOCOL_V1 = "rapidclaw.runner.v1"
SUBPROTOCOL_V2 = "rapidclaw.runner.v2"
CAPABILITIES = ["resume", "credit", "chunks", "refused"]
MAX_MESSAGE_BYTES = 64 << 20
"""The largest frame of version 1."""
MAX_FRAME_BYTES = 128 << 20
"""The largest frame of version 2, whatever it is cut into."""
FRAGMENT_BYTES = 1 << 20
"""Larger messages travel in pieces: WebSocket libraries bound frames lower than messages."""
LARGE_BYTES = 1 << 20
"""Frames of version 2 that are larger travel in chunks."""
CHUNK_BYTES = 256 << 10
WINDOW_BYTES = 16 << 20
"""What either side may send before it is granted more."""
HEAD_BYTES = 10

_OPCODE_CONTINUATION, _OPCODE_BINARY, _FIN = 0x0, 0x2, 0x80
_SHOWN = 64


class FrameError(Exception):
    """The other side sent something that is no frame of this protocol."""


class TooLarge(ValueError):
    """A frame would be larger than the protocol allows."""


def payload(kind: str, fields: dict[str, Any], limit: int = MAX_MESSAGE_BYTES) -> bytes:
    """A frame's MessagePack."""
    packed = ormsgpack.packb({kind: fields})
    if len(packed) > limit:
        raise TooLarge(f"a {kind} frame of {len(packed)} bytes; at most {limit} can be sent")
    return packed


def message(packed: bytes) -> bytes:
    """The WebSocket message (server side: unmasked) that carries it, ready to be written."""
    size = len(packed)
    if size <= FRAGMENT_BYTES:
        return _header(_FIN | _OPCODE_BINARY, size) + packed
    pieces = []
    for start in range(0, size, FRAGMENT_BYTES):
        piece = packed[start : start + FRAGMENT_BYTES]
        first = _OPCODE_BINARY if start == 0 else _OPCODE_CONTINUATION
        last = _FIN if start + FRAGMENT_BYTES >= size else 0
        pieces += (_header(first | last, len(piece)), piece)
    return b"".join(pieces)


def pack(kind: str, fields: dict[str, Any]) -> bytes:
    """The message of version 1 for one frame."""
    return message(payload(kind, fields))


def numbered(number: int, packed: bytes) -> bytes:
    """The message of version 2."""
    header = _header(_FIN | _OPCODE_BINARY, HEAD_BYTES + len(packed))
    return b"".join((header, b"\x92\xcf", number.to_bytes(8, "big"), packed))


def _header(first: int, size: int) -> bytes:
    if size < 126:
        return bytes((first, size))
    if size < 1 << 16:
        return bytes((first, 126)) + size.to_bytes(2, "big")
    return bytes((first, 127)) + size.to_bytes(8, "big")


def split(received: bytes) -> tuple[int, bytes]:
    """Number and frame of a message of version 2."""
    if len(received) <= HEAD_BYTES or received[:2] != b"\x92\xcf":
        raise FrameError("a message is an array of its number and a frame")
    return int.from_bytes(received[2:HEAD_BYTES], "big"), received[HEAD_BYTES:]


def unpack(packed: bytes) -> tuple[str, dict[str, Any]]:
    try:
        frame = ormsgpack.unpackb(packed)
    except ValueError as error:
        raise FrameError(f"not MessagePack: {error}") from None
    if not isinstance(frame, dict) or len(frame) != 1:
        raise FrameError("a frame is a map of one key")
    ((kind, fields),) = frame.items()
    if not isinstance(kind, str) or not isinstance(fields, dict):
        raise FrameError("a frame is a map of one kind to a map of fields")
    return kind, fields


def text(value: object) -> str:
    """`str(value)` that MessagePack and Postgres can hold: no lone surrogates, no NUL."""
    return str(value).encode("utf-8", "replace").decode("utf-8").replace("\x00", "")


def refusal(kind: str, fields: dict[str, Any], reason: str) -> dict[str, Any]:
    """The fields of `refused`: what a frame that is not understood was about."""
    run, attempt, number = fields.get("run"), fields.get("attempt"), fields.get("id")
    return {
        "kind": text(kind)[:_SHOWN],
        "reason": text(reason)[:300],
        "run": text(run) if isinstance(run, str) else None,
        "attempt": attempt if isinstance(attempt, int) and 0 <= attempt < 1 << 32 else 0,
        "id": number if isinstance(number, int) and 0 <= number < 1 << 63 else 0,
    }
