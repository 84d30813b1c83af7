"""What a framework is to the runner's core."""

from __future__ import annotations

from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..runs import Run

CHECKPOINTS = "checkpoints"
"""`stored_as` of a target whose state is written step by step, while it runs."""
DOCUMENT = "document"
"""`stored_as` of a target whose state is one JSON document, written with the run's end."""

MODES = {mode: mode for mode in ("values", "updates", "messages", "custom", "debug", "tasks", "checkpoints", "tools")}
"""The stream modes of a `start`, and what their events are called."""
MODES["messages-tuple"] = "messages"


class NoTarget(TypeError):
    """What the manifest names is nothing that can be run."""


class Drained(Exception):
    """The run has stopped where it goes on later, since it was asked to."""


class Execution(Protocol):
    """One attempt at a run of one target, on the graph loop."""

    async def drive(self) -> str:
        """Executes the attempt to its end: `success` or `interrupted`. Raises `Drained` when it stopped on request,
        and whatever the project's code raises."""

    def answer(self, status: str) -> dict[str, Any]:
        """The fields of `end` that the gateway asked for, whatever became of the attempt."""


class Target(Protocol):
    """What one name of the manifest's `graphs` is bound to."""

    name: str
    framework: Framework
    stored_as: str
    """How its state is kept."""

    async def load(self) -> Any:
        """Makes it ready to run; what it returns is handed to `describe`. Raises what is wrong with it."""

    def describe(self, loaded: Any, notes: list[str]) -> dict[str, Any]:
        """Its part of `describe`: schemas, where there are any, and what else its framework tells."""

    def execution(self, run: Run) -> Execution: ...


class Framework(Protocol):
    """One framework, as far as this project uses it."""

    name: str
    drains: bool
    """Whether a run stops at a step of its own when it is asked to."""

    def version(self) -> str | None:
        """Of the framework itself, where it is a package."""

    def versions(self) -> dict[str, str]:
        """Of its packages that are installed."""

    def adapt(self, name: str, value: Any, notes: list[str]) -> Target: ...

    def loaded(self, targets: dict[str, Any], notes: list[str]) -> None:
        """Called once all targets of the framework are loaded, with what their `load` returned."""

    def node_of_context(self, context: Any) -> Any:
        """What the code of a task's context executes, in the framework's words; none where that is not known."""

    def node_of_frame(self, frame: FrameType) -> Any:
        """The same, told from a frame."""


def asked_modes(fields: dict[str, Any]) -> list[str]:
    """The stream modes that a `start` asks for. Raises ValueError for one that there is not."""
    asked = fields.get("stream_modes") or ()
    unknown = [mode for mode in asked if mode not in MODES]
    if unknown:
        raise ValueError(f"stream mode {unknown[0]} is not supported")
    return [MODES[mode] for mode in asked]
