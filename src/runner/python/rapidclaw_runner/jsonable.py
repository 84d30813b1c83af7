"""Values as JSON text: messages, dataclasses, models, whatever a state may hold.

`dumps` never fails: what has no JSON form is written as its `repr`, and what is nested too deep, goes
round in circles or has no end is cut there.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections import deque
from typing import Any

from .own import orjson

from . import foreign

NUL_ESCAPE = b"\\u0000"
DEEPEST = 100
MOST_ITEMS = 1_000_000
LONGEST_INT_BITS = 4096
"""Python refuses to write much longer ones in decimals."""
slotted_modules: set[str] = set()
"""Beginnings of modules' names whose objects with slots are written as objects: frameworks name theirs."""
_LONG_NUMBER = re.compile(rb"(?:^|[:,\[\s])-?\d{19,}(?:$|[,\]}\s])")


def dumps(value: Any) -> bytes:
    try:
        return orjson.dumps(value, default=_default)
    except Exception:  # noqa: BLE001
        # Lone surrogates, integers beyond 64 bits, keys that are no strings, circles, great depth.
        return json.dumps(plain(value), ensure_ascii=False).encode("utf-8", "replace")


def dumps_jsonb(value: Any) -> bytes:
    """As `dumps`, for a jsonb column: it cannot hold NUL characters, so they are left out."""
    encoded = dumps(value)
    if NUL_ESCAPE in encoded:
        return dumps(plain(value, strip_nul=True))
    return encoded


def loads(data: bytes) -> Any:
    """JSON text as a value. orjson would make floats of integers beyond 64 bits."""
    if _LONG_NUMBER.search(data):
        return json.loads(data)
    return orjson.loads(data)


def plain(value: Any, strip_nul: bool = False) -> Any:
    """The value in JSON's own types; NaN and infinite numbers become null, as orjson has it."""
    return _Plain(strip_nul).of(value, 0)


class _Plain:
    def __init__(self, strip_nul: bool) -> None:
        self._strip_nul = strip_nul
        self._left = MOST_ITEMS
        self._open: set[int] = set()
        """The containers around the value: one of them again is a circle."""

    def of(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if value is None or value is True or value is False:
            return value
        kind = type(value)
        if kind is str:
            return self._text(value)
        if kind is int:
            return value if value.bit_length() <= LONGEST_INT_BITS else hex(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else None
        if depth > DEEPEST or self._left <= 0 or id(value) in self._open:
            return self._text(foreign.representation(value))
        self._open.add(id(value))
        try:
            return self._within(value, depth + 1)
        finally:
            self._open.discard(id(value))

    def _within(self, value: Any, depth: int) -> Any:
        if isinstance(value, dict):
            return {self._text(foreign.text(key)): self.of(item, depth) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.of(item, depth) for item in value]
        if isinstance(value, str):
            return self._text(str.__str__(value))
        try:
            return self.of(orjson.loads(orjson.dumps(value, default=_default)), depth)
        except Exception:  # noqa: BLE001 - foreign code behind `_default`
            return self.of(_default(value), depth)

    def _text(self, value: str) -> str:
        value = value.encode("utf-8", "replace").decode("utf-8")
        return value.replace("\x00", "") if self._strip_nul else value


def _default(value: Any) -> Any:
    try:
        return _form(value)
    except BaseException:  # noqa: BLE001 - even `__class__` may be foreign code
        return foreign.representation(value)


def _form(value: Any) -> Any:
    if isinstance(value, type):
        return foreign.representation(value)
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump()
    if isinstance(value, (set, frozenset, deque)):
        return list(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(bytes(value)).decode("ascii")
    if isinstance(value, BaseException):
        return {"error": foreign.type_name(value), "message": foreign.text(value)}
    if isinstance(value, float):
        return float(value)
    if isinstance(value, tuple):
        return list(value)
    for name in ("to_dict", "_asdict", "tolist", "item"):
        method = getattr(value, name, None)
        if callable(method):
            try:
                return method()
            except Exception:  # noqa: BLE001 - foreign code
                continue
    slots = getattr(value, "__slots__", None)
    if slots and type(value).__module__.startswith(tuple(slotted_modules)):
        return {name: getattr(value, name, None) for name in slots}
    return foreign.representation(value)
