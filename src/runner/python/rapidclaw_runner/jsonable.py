"""LangGraph's values as JSON text: messages, dataclasses, models, whatever a state may hold.

`dumps` never fails: what has no JSON form is written as its `repr`.
"""

from __future__ import annotations

import base64
import json
import math
from collections import deque
from typing import Any

from .own import orjson

NUL_ESCAPE = b"\\u0000"


def dumps(value: Any) -> bytes:
    try:
        return orjson.dumps(value, default=_default)
    except (TypeError, RecursionError):
        # Lone surrogates, integers beyond 64 bits, keys that are no strings, circles.
        return json.dumps(plain(value), ensure_ascii=False).encode("utf-8", "replace")


def dumps_jsonb(value: Any) -> bytes:
    """As `dumps`, for a jsonb column: it cannot hold NUL characters, so they are left out."""
    encoded = dumps(value)
    if NUL_ESCAPE in encoded:
        return dumps(plain(value, strip_nul=True))
    return encoded


loads = orjson.loads


def plain(value: Any, strip_nul: bool = False, _depth: int = 0) -> Any:
    """The value in JSON's own types; NaN and infinite numbers become null, as orjson has it."""
    if value is None or value is True or value is False:
        return value
    kind = type(value)
    if kind is str:
        value = value.encode("utf-8", "replace").decode("utf-8")
        return value.replace("\x00", "") if strip_nul else value
    if kind is int:
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if _depth > 100:
        return repr(value)
    if isinstance(value, dict):
        return {
            plain(str(key), strip_nul): plain(item, strip_nul, _depth + 1) for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [plain(item, strip_nul, _depth + 1) for item in value]
    try:
        return plain(orjson.loads(orjson.dumps(value, default=_default)), strip_nul, _depth + 1)
    except (TypeError, ValueError):
        return plain(_default(value), strip_nul, _depth + 1)


def _default(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        try:
            return dump()
        except Exception:  # noqa: BLE001 - a model's own serializer may raise anything
            return repr(value)
    if isinstance(value, (set, frozenset, deque)):
        return list(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(bytes(value)).decode("ascii")
    if isinstance(value, BaseException):
        return {"error": type(value).__name__, "message": str(value)}
    if isinstance(value, float):
        return float(value)
    if isinstance(value, tuple):
        return list(value)
    for name in ("to_dict", "_asdict", "tolist", "item"):
        method = getattr(value, name, None)
        if callable(method) and not isinstance(value, type):
            try:
                return method()
            except Exception:  # noqa: BLE001 - foreign code
                continue
    slots = getattr(value, "__slots__", None)
    if slots and not isinstance(value, type) and type(value).__module__.startswith("langgraph"):
        return {name: getattr(value, name, None) for name in slots}
    return repr(value)
