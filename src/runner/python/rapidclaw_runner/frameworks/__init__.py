"""The seam between the runner and the frameworks that projects are written in.

The core (connection, frames, lifecycle, limits, log, drain, cancel) knows what a manifest names only by what is
declared here. Each framework has a module or package of its own below this one, and nothing else imports the
framework's packages: a project gets along without those that it does not use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import foreign
from .interface import Framework, NoTarget, Target

if TYPE_CHECKING:
    from ..settings import Settings


class Frameworks:
    """The frameworks that the project's targets need, each imported for the first of them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._used: dict[str, Framework] = {}

    def adapt(self, name: str, value: Any, notes: list[str]) -> Target:
        """The target that `value` is, in its framework. Raises for what is none of any."""
        from . import plain

        return self._framework("python" if plain.is_turn(value) else "langgraph", value).adapt(name, value, notes)

    def used(self) -> list[Framework]:
        return list(self._used.values())

    def loaded(self, targets: dict[str, Target], loaded: dict[str, Any], notes: list[str]) -> None:
        for framework in self.used():
            of_it = {name: loaded[name] for name, target in targets.items() if target.framework is framework}
            framework.loaded(of_it, notes)

    def _framework(self, name: str, value: Any) -> Framework:
        if name not in self._used:
            self._used[name] = self._python() if name == "python" else self._langgraph(value)
        return self._used[name]

    def _python(self) -> Framework:
        from .plain import Plain

        return Plain()

    def _langgraph(self, value: Any) -> Framework:
        try:
            from .langgraph.adapter import LangGraph
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("langgraph", "langchain_core"):
                raise
            what = foreign.type_name(value)
            raise NoTarget(
                f"this {what} is no turn (`async def turn(thread, message, emit)`), and for a graph LangGraph is not"
                " installed: add langgraph to the project's dependencies"
            ) from error
        return LangGraph(self._settings)
