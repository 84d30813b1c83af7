"""Frames as bytes: a MessagePack map of one key, carried by one binary WebSocket message."""

from __future__ import annotations

from typing import Any

from .own import ormsgpack

PROTOCOL = 1
SUBPROTOCOL = f"rapidclaw.runner.v{PROTOCOL}"
MAX_MESSAGE_BYTES = 64 << 20
FRAGMENT_BYTES = 1 << 20
"""Larger messages travel in pieces: WebSocket libraries bound frames lower than messages."""

_OPCODE_CONTINUATION, _OPCODE_BINARY, _FIN = 0x0, 0x2, 0x80


class FrameError(Exception):
    """The other side sent something that is no frame of this protocol."""


class TooLarge(ValueError):
    """A frame would be larger than the protocol allows."""


def pack(kind: str, fields: dict[str, Any]) -> bytes:
    """The WebSocket message (server side: unmasked) for one frame, ready to be written."""
    payload = ormsgpack.packb({kind: fields})
    size = len(payload)
    if size <= FRAGMENT_BYTES:
        return _header(_FIN | _OPCODE_BINARY, size) + payload
    if size > MAX_MESSAGE_BYTES:
        raise TooLarge(f"a {kind} frame of {size} bytes; at most {MAX_MESSAGE_BYTES} can be sent")
    pieces = []
    for start in range(0, size, FRAGMENT_BYTES):
        piece = payload[start : start + FRAGMENT_BYTES]
        first = _OPCODE_BINARY if start == 0 else _OPCODE_CONTINUATION
        last = _FIN if start + FRAGMENT_BYTES >= size else 0
        pieces += (_header(first | last, len(piece)), piece)
    return b"".join(pieces)


def _header(first: int, size: int) -> bytes:
    if size < 126:
        return bytes((first, size))
    if size < 1 << 16:
        return bytes((first, 126)) + size.to_bytes(2, "big")
    return bytes((first, 127)) + size.to_bytes(8, "big")


def unpack(message: bytes) -> tuple[str, dict[str, Any]]:
    try:
        frame = ormsgpack.unpackb(message)
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
