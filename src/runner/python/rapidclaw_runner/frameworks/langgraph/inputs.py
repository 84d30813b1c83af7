"""What a graph is given: its config, context and input, as LangGraph's own server gives them."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any, get_args
from uuid import UUID, uuid5

from langchain_core.messages import BaseMessage, convert_to_messages
from langgraph.pregel import Pregel
from langgraph.types import Command, Send
from pydantic import BaseModel, ValidationError

from ... import foreign, jsonable
from ...failures import PublicError
from ...runs import Run

OURS = frozenset(("thread_id", "checkpoint_id", "checkpoint_ns", "checkpoint_map"))
"""Keys of `configurable` that say where state lies: never the caller's to set."""
ASSISTANTS = UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")
"""LangGraph's name space for the assistants that it makes of graphs."""


class InvalidContext(PublicError):
    """The context does not fit the graph's context schema."""


class User(dict[str, Any]):
    """Who asks, as LangGraph's `BaseUser`: read by key or by attribute."""

    def __init__(self, identity: str) -> None:
        super().__init__(identity=identity, display_name=identity, is_authenticated=True, permissions=[])

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Empty(dict[str, Any]):
    """An empty context that is one: LangGraph's runtime takes a falsy context for none."""

    def __bool__(self) -> bool:
        return True


def config(run: Run, callbacks: list[Any]) -> dict[str, Any]:
    fields = run.fields
    asked = jsonable.loads(fields["configurable"]) if fields.get("configurable") else {}
    configurable = {key: value for key, value in asked.items() if key not in OURS and not key.startswith("__")}
    metadata = jsonable.loads(fields["metadata"]) if fields.get("metadata") else {}
    graph = fields["graph"]
    ids = {"run_id": run.id, "graph_id": graph, "assistant_id": str(uuid5(ASSISTANTS, graph))}
    configurable |= ids
    configurable["thread_id"] = run.thread_id
    if isinstance(user := metadata.get("user_id"), str):
        configurable.setdefault("user_id", user)
        configurable.setdefault("langgraph_user_id", user)
        configurable |= {"langgraph_auth_user_id": user, "langgraph_auth_user": User(user)}
    if fields.get("checkpoint_id"):
        configurable["checkpoint_id"] = fields["checkpoint_id"]
    made: dict[str, Any] = {"configurable": configurable, "metadata": metadata | ids, "callbacks": callbacks}
    try:
        made["run_id"] = UUID(run.id)
    except ValueError:
        pass
    if fields.get("recursion_limit"):
        made["recursion_limit"] = int(fields["recursion_limit"])
    return made


def context(fields: dict[str, Any], schema: Any) -> Any:
    """The caller's context, or none given an empty one, as an object of the graph's schema; None without both."""
    given = jsonable.loads(fields["context"]) if fields.get("context") is not None else None
    if given is None and schema is None:
        return None
    given = {} if given is None else given
    if not isinstance(given, dict) or not inspect.isclass(schema):
        return given
    try:
        if issubclass(schema, BaseModel) or dataclasses.is_dataclass(schema):
            return schema(**given)
    except (TypeError, ValidationError) as error:
        raise InvalidContext(f"the graph's context {_misfit(schema, error)}") from error
    return given or Empty()


def _misfit(schema: Any, error: TypeError | ValidationError) -> str:
    if isinstance(error, ValidationError):
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors(include_input=False)]
        return f"{foreign.clean(schema.__name__, 200)} does not fit: {'; '.join(faults)}"
    return f"does not fit: {foreign.text(error, 1000)}"


def graph_input(fields: dict[str, Any], graph: Pregel) -> Any:
    if fields.get("command") is None:
        given = jsonable.loads(fields["input"]) if fields.get("input") is not None else None
        return _with_messages(given, graph)
    command = jsonable.loads(fields["command"])
    options = {key: command[key] for key in ("resume", "update") if command.get(key) is not None}
    if "update" in options:
        options["update"] = _with_messages(options["update"], graph)
    if command.get("goto"):
        goto = command["goto"]
        targets = [_target(target) for target in (goto if isinstance(goto, list) else [goto])]
        options["goto"] = targets if isinstance(goto, list) else targets[0]
    if "resume" in command and "resume" not in options:
        options["resume"] = None
    return Command(**options)


def _target(target: Any) -> Any:
    return Send(target["node"], target.get("input")) if isinstance(target, dict) else target


def _with_messages(given: Any, graph: Pregel) -> Any:
    """Messages as objects, for reducers and nodes that know no dicts, in the channels that hold messages."""
    if type(given) is not dict:
        return given
    return {key: _as_messages(value) if _holds_messages(graph, key) else value for key, value in given.items()}


def _as_messages(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_message(item) for item in value]
    return _as_message(value)


def _as_message(value: Any) -> Any:
    if not isinstance(value, dict) or "content" not in value or not ("role" in value or "type" in value):
        return value
    try:
        return convert_to_messages([value])[0]
    except Exception:  # noqa: BLE001 - what is no message to LangChain may be one to the graph
        return value


def _holds_messages(graph: Pregel, key: str) -> bool:
    """By the channel's declared type; a bare list holds them where it is called `messages`."""
    channel = graph.channels.get(key)
    declared = getattr(channel, "typ", None)
    if channel is None or declared is None:
        return False
    found, is_bare = _look_for_messages(declared)
    return found or (is_bare and key == "messages")


def _look_for_messages(declared: Any) -> tuple[bool, bool]:
    """Whether a type speaks of messages, and whether it says nothing of what it holds."""
    waiting, seen, says = [declared], 0, False
    while waiting and seen < 100:
        seen += 1
        part = waiting.pop()
        if inspect.isclass(part) and not get_args(part):
            if issubclass(part, BaseMessage):
                return True, False
            says = says or not (issubclass(part, Sequence) or part is object)
        elif part is not Any:
            waiting.extend(get_args(part))
    return False, not says
