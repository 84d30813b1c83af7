"""What objects of the project say about themselves, whatever their own methods do.

`__str__`, `__repr__`, `__class__` and their kin are code of the project: they raise, exit, return what
is no text, hold lone surrogates, or answer with 70 MB. What is here always returns bounded, clean text.
"""

from __future__ import annotations

from typing import Any

TEXT_CHARS = 16 << 10
NAME_CHARS = 200


def text(value: Any, limit: int = TEXT_CHARS) -> str:
    """`str(value)`, else what was wrong with it."""
    try:
        return clean(str(value), limit)
    except BaseException as error:  # noqa: BLE001 - even SystemExit: somebody else's code
        return f"<{type_name(value)}: its __str__ raised {type_name(error)}>"


def representation(value: Any, limit: int = TEXT_CHARS) -> str:
    """`repr(value)`, else what was wrong with it."""
    try:
        return clean(repr(value), limit)
    except BaseException as error:  # noqa: BLE001 - as above
        return f"<{type_name(value)}: its __repr__ raised {type_name(error)}>"


def type_name(value: Any) -> str:
    try:
        return clean(type(value).__name__, NAME_CHARS) or "object"
    except BaseException:  # noqa: BLE001 - a metaclass may do what it likes
        return "object"


def clean(said: str, limit: int) -> str:
    """Text that MessagePack and Postgres can hold: no lone surrogates, no NUL; the middle of a long one is cut."""
    size = str.__len__(said)
    if size > limit:
        half = limit // 2
        said = f"{str.__getitem__(said, slice(half))} … {size - 2 * half} characters … {str.__getitem__(said, slice(size - half, None))}"
    return str.encode(said, "utf-8", "replace").decode("utf-8").replace("\x00", "")
