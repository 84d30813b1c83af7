"""Plain Python: `async def turn(thread, message, emit)`, without any framework.

One call is one turn. `thread` has the conversation's id and its state, a JSON document that the function may read
and replace; `message` is what the user said; `emit` tells something before the turn has ended. The document is
committed with the run's end, both or neither: a turn that fails leaves it as it was, and one whose replica is lost
is called again, in another one, with the document of before.
"""

from __future__ import annotations

import inspect
import json
import platform
from collections.abc import Awaitable, Callable, Generator
from types import FrameType
from typing import TYPE_CHECKING, Any

from .. import foreign, jsonable
from ..failures import PublicError, TurnRefused
from .interface import DOCUMENT, asked_modes

if TYPE_CHECKING:
    from ..runs import Run

PARAMETERS = 3
NAMES = ["thread", "message", "emit"]
MODE = "custom"
"""What emitted events are called."""


class NoDocuments(PublicError):
    """The server is older than this image, and would lose the thread's state."""


class NotATurn(TypeError):
    """A function that looks like a turn and is none."""


def is_turn(value: Any) -> bool:
    """Whether it is a coroutine function of three parameters that is no factory of a graph: those take a config or
    a runtime. Raises `NotATurn` for a function that takes what a turn takes and is not one."""
    if not inspect.isroutine(value) and not inspect.iscoroutinefunction(value):
        return False
    try:
        parameters = list(inspect.signature(value).parameters.values())
    except (TypeError, ValueError):
        return False
    asked = [one for one in parameters if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    if [one.name for one in asked] == NAMES and not inspect.iscoroutinefunction(value):
        raise NotATurn(
            f"{getattr(value, '__name__', 'the function')} takes thread, message and emit, and is no coroutine: write it as"
            " `async def`, with `return` instead of `yield`"
        )
    is_plain = len(asked) == PARAMETERS and all(one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in asked)
    return is_plain and inspect.iscoroutinefunction(value) and not any(map(_is_a_factorys, asked))


def _is_a_factorys(parameter: inspect.Parameter) -> bool:
    annotation = str(parameter.annotation)
    return parameter.name in ("config", "runtime") or "RunnableConfig" in annotation or "Runtime" in annotation


class Plain:
    """See `Framework`."""

    name = "python"
    drains = False

    def version(self) -> str | None:
        return platform.python_version()

    def versions(self) -> dict[str, str]:
        return {}

    def adapt(self, name: str, value: Any, notes: list[str]) -> Turn:
        return Turn(self, name, value)

    def loaded(self, targets: dict[str, Any], notes: list[str]) -> None:
        """A turn keeps nothing that others would have to know."""

    def node_of_context(self, context: Any) -> Any:
        return None

    def node_of_frame(self, frame: FrameType) -> Any:
        return None


class Turn:
    """See `Target`."""

    stored_as = DOCUMENT

    def __init__(self, framework: Plain, name: str, function: Callable[..., Awaitable[Any]]) -> None:
        self.framework = framework
        self.name = name
        self.function = function

    async def load(self) -> None:
        """There is nothing to build: the module is imported."""

    def describe(self, loaded: Any, notes: list[str]) -> dict[str, Any]:
        schemas = dict.fromkeys(("input", "output", "state", "context"))
        return schemas | {"nodes": [], "channels": {}, "recursion_limit": None}

    def execution(self, run: Run) -> Call:
        return Call(run, self.function)


class Thread:
    """The conversation: `id`, and `state`, a JSON document, None until a turn has set it."""

    __slots__ = ("id", "state")

    def __init__(self, id: str, state: Any) -> None:
        self.id = id
        self.state = state


class Message:
    """What the user sent: `text` (empty where only `input` was sent), `user_id`, and, where the request has them,
    `input`, `context` and `metadata`."""

    __slots__ = ("context", "input", "metadata", "text", "user_id")

    def __init__(self, text: str, user_id: str | None, input: Any, context: Any, metadata: dict[str, Any]) -> None:
        self.text = text
        self.user_id = user_id
        self.input = input
        self.context = context
        self.metadata = metadata

    def __str__(self) -> str:
        return self.text


class Emitted:
    """What `emit` returns: to be awaited, or left. Awaiting it waits while the gateway takes nothing more."""

    __slots__ = ("_run",)

    def __init__(self, run: Run) -> None:
        self._run = run

    def __await__(self) -> Generator[Any, None, None]:
        return self._run.while_paused().__await__()


class Call:
    """See `Execution`: one call of the function."""

    def __init__(self, run: Run, function: Callable[..., Awaitable[Any]]) -> None:
        self._run = run
        self._function = function
        self._modes: list[str] = []
        self._said: list[str] = []
        self._result: str | None = None
        self._document: bytes | None = None
        self._before: bytes | None = None
        run.step_key = f"{run.thread_id}:{run.id}"

    async def drive(self) -> str:
        run = self._run
        self._modes = asked_modes(run.fields)
        self._before = self._stored()
        thread = Thread(run.thread_id, json.loads(self._before) if self._before is not None else None)
        returned = await self._function(thread, self._message(), self._emit)
        self._document = self._encoded(thread.state)
        self._result = self._text(returned)
        run.steps = 1
        return "success"

    def _stored(self) -> bytes | None:
        if self._run.stateless:
            return None
        state = self._run.first_state or {}
        if "document" not in state:
            raise NoDocuments("this server keeps no documents of threads: it is older than the agent's image; update it")
        return state["document"]

    def answer(self, status: str) -> dict[str, Any]:
        fields = self._run.fields
        kind, full = fields.get("answer") or "none", bool(fields.get("full"))
        told: dict[str, Any] = {}
        is_done = status == "success"
        if is_done and not self._run.stateless and self._document != self._before:
            told["document"] = self._document
        if kind == "values" or (kind == "chat" and full):
            told["values"] = self._document if is_done else self._before
        if kind == "chat" and is_done:
            told["result"] = self._result
        # Whom a turn asks, and what that costs, is its own affair.
        return told | {"unmetered": True}

    def _message(self) -> Message:
        fields = self._run.fields

        def given(name: str) -> Any:
            return jsonable.loads(fields[name]) if fields.get(name) is not None else None

        turn, metadata = given("turn"), given("metadata") or {}
        if turn is None:
            turn = {"input": given("input")}
        if turn.get("resume") and turn.get("message") is None and turn.get("input") is None:
            raise TurnRefused("nothing-to-resume", "the thread waits for no answer")
        # The message is in `input` as well, as graphs want it: the caller's own input is the one that begins anew.
        own = turn.get("input") if turn.get("anew") or turn.get("message") is None else None
        return Message(turn.get("message") or "", metadata.get("user_id"), own, given("context"), metadata)

    def _emit(self, event: Any) -> Emitted:
        """Text, or an event of any JSON. May be called from any thread."""
        if isinstance(event, str):
            self._said.append(event)
        if MODE in self._modes and not self._run.ended:
            self._run.send("event", {"mode": MODE, "ns": [], "data": jsonable.dumps(event)})
        return Emitted(self._run)

    def _text(self, returned: Any) -> str | None:
        """The turn's answer: the text that it returned, else what it emitted."""
        if returned is None:
            returned = "".join(self._said) if self._said else None
        if returned is None:
            return None
        text = returned if isinstance(returned, str) else jsonable.dumps(returned).decode("utf-8", "replace")
        return str.encode(text, "utf-8", "replace").decode("utf-8")

    def _encoded(self, state: Any) -> bytes | None:
        if state is None and self._before is None:
            return None
        try:
            text = json.dumps(state, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            try:
                encoded = text.encode()
            except UnicodeEncodeError:  # halves of characters: as escapes they come back as they were
                encoded = json.dumps(state, allow_nan=False, separators=(",", ":")).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(f"the thread's state cannot be saved as JSON: {foreign.text(error, 1000)}") from error
        self._run.state_size.check_document(encoded)
        return encoded
