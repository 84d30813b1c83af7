"""Which messages of a conversation are this turn's, and what the turn's answer is.

A thread's state holds the words of earlier turns: they are neither this turn's answer nor its cost.
Messages are known by their ids. Those without (a plain `operator.add` gives none) are known as the
same objects, or by standing where an equal one stood before.
"""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, ToolMessage

from ... import jsonable

STRUCTURED = "structured_response"
"""Where LangChain's agents put an answer that has a schema."""


class Turn:
    """What was there before one attempt at one run."""

    def __init__(self, run_id: str, attempt: int) -> None:
        self.known_ids: set[str] = set()
        self.goes_on = False
        """An earlier attempt of this run has left checkpoints: what they hold is of this turn."""
        self._run_id = run_id
        self._may_go_on = attempt > 1
        self._before: list[Any] = []
        self._structured_before: Any = None

    def loaded(self, metadata: Any, values: dict[str, Any]) -> bool:
        """A root checkpoint that was read before the first step; false when it is of this very run."""
        if self._may_go_on and (metadata or {}).get("run_id") == self._run_id:
            self.goes_on = True
            return False
        self._know(values)
        return True

    def begun(self, values: Any) -> None:
        """The values that the run starts with: in an attempt that goes on they are not only of before."""
        if not self.goes_on:
            self._know(values)

    def _know(self, values: Any) -> None:
        self._before = list(messages_of(values))
        if type(values) is dict:
            self._structured_before = values.get(STRUCTURED)
            lists = [value for value in values.values() if type(value) is list]
        else:
            lists = [self._before]
        for items in lists:
            for item in items:
                if isinstance(message_id := getattr(item, "id", None), str):
                    self.known_ids.add(message_id)

    def new(self, messages: list[Any]) -> list[Any]:
        """Those of the final messages that this turn has brought."""
        same = {id(message) for message in self._before}
        return [message for place, message in enumerate(messages) if not self._is_known(message, place, same)]

    def _is_known(self, message: Any, place: int, same: set[int]) -> bool:
        message_id = message.get("id") if isinstance(message, dict) else getattr(message, "id", None)
        if isinstance(message_id, str):
            return message_id in self.known_ids
        return id(message) in same or (place < len(self._before) and self._before[place] == message)

    def result(self, values: Any) -> str | None:
        """The text of the turn's last AI message; where its last words are calls of tools that nobody
        answered with another message of the model: the structured response, else the tool's text."""
        messages = self.new(messages_of(values))
        said = next((message for message in reversed(messages) if _is_ai(message)), None)
        last = messages[-1] if messages else None
        if said is not None and (said is last or not isinstance(last, ToolMessage)):
            text = _text_of(said)
            if text:
                return text
        structured = values.get(STRUCTURED) if type(values) is dict else None
        if structured is not None and structured is not self._structured_before:
            return jsonable.dumps(structured).decode()
        if isinstance(last, ToolMessage) and (text := _text_of(last)):
            return text
        return None if said is None else _text_of(said)


def messages_of(values: Any) -> list[Any]:
    """The conversation in a state: its `messages`, else the first list that holds messages."""
    if isinstance(values, list):
        return values
    if type(values) is not dict:
        values = getattr(values, "__dict__", {})
    found = values.get("messages")
    if isinstance(found, list):
        return found
    for value in values.values():
        if isinstance(value, list) and value and hasattr(value[-1], "type") and hasattr(value[-1], "content"):
            return value
    return []


def _is_ai(message: Any) -> bool:
    if isinstance(message, dict):
        return (message.get("role") or message.get("type")) in ("assistant", "ai")
    return isinstance(message, AIMessage)


def _text_of(message: Any) -> str:
    content = message.get("content") if isinstance(message, dict) else message.content
    if isinstance(content, list):
        parts = (part if isinstance(part, str) else part.get("text") for part in content if isinstance(part, (str, dict)))
        content = "".join(part for part in parts if isinstance(part, str))
    return str(content or "").encode("utf-8", "replace").decode("utf-8")
