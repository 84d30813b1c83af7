"""What a replica says about a graph: schemas, channels, nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NotRequired, Required, get_args, get_origin, get_type_hints

from langgraph.pregel import Pregel
from pydantic import TypeAdapter, create_model
from pydantic.errors import PydanticUserError

try:
    from langgraph.runtime import RunControl
except ImportError:  # before 1.2
    RunControl = None  # type: ignore[assignment,misc]


def describe(name: str, graph: Pregel | None, notes: list[str]) -> dict[str, Any]:
    """A graph's part. A schema that cannot be made is null, with a note: it must not fail the load."""
    if graph is None:
        return dict.fromkeys(("input", "output", "state", "context")) | {"nodes": [], "channels": {}}

    def schema(what: str, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except Exception as error:  # noqa: BLE001 - pydantic and the project's own types
            notes.append(f"graph {name}: its {what} schema could not be made: {type(error).__name__}")
            return None

    return {
        "input": schema("input", lambda: _schema(graph, "input") or graph.get_input_jsonschema()),
        "output": schema("output", lambda: _schema(graph, "output") or graph.get_output_jsonschema()),
        "state": schema("state", lambda: _schema(graph, "state") or graph.get_output_jsonschema()),
        "context": schema("context", lambda: _of_type(getattr(graph, "context_schema", None))),
        "nodes": [node for node in graph.nodes if not node.startswith("__")],
        "channels": _channels(graph),
        "recursion_limit": (graph.config or {}).get("recursion_limit"),
    }


def _schema(graph: Pregel, what: str) -> Any:
    """The schema of the type that the builder was given; none where there is no such type."""
    return _of_type(getattr(getattr(graph, "builder", None), f"{what}_schema", None))


def _of_type(declared: Any) -> Any:
    """Before Python 3.12 pydantic refuses `typing.TypedDict`: then the keys are taken one by one."""
    if declared is None:
        return None
    try:
        return TypeAdapter(declared).json_schema()
    except PydanticUserError:
        hints = get_type_hints(declared, include_extras=True)
        required = getattr(declared, "__required_keys__", frozenset(hints))
        fields = {
            name: (hint if name in required else hint | None, ... if name in required else None)
            for name, hint in ((name, _bare(hint)) for name, hint in hints.items())
        }
        return create_model(declared.__name__, **fields).model_json_schema()


def _bare(hint: Any) -> Any:
    """A key's type without reducer and without (Not)Required."""
    while get_origin(hint) in (Annotated, Required, NotRequired):
        hint = get_args(hint)[0]
    return hint


def _channels(graph: Pregel) -> dict[str, Any]:
    builder = getattr(graph, "builder", None)
    names = getattr(builder, "channels", None)
    if names is None:
        names = [name for name in graph.channels if not name.startswith(("__", "branch:"))]
    described = {}
    for name in names:
        channel = graph.channels.get(name)
        if channel is None or str(name).startswith("__"):
            continue
        reducer = getattr(channel, "operator", None) or getattr(channel, "reducer", None)
        label = getattr(reducer, "__name__", None) or (type(reducer).__name__ if reducer else None)
        described[name] = {"type": type(channel).__name__, "reducer": label and label.lstrip("_")}
    return described
