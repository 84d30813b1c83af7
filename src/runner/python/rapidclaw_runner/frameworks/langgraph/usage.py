"""What models used in a run, read from their messages: each new AI message counts once, by its id.

Messages come from two sides: the nodes' updates, and LangChain's callbacks, which also see calls in
subgraphs and tools whose messages never reach the root's state.
"""

from __future__ import annotations

import threading
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage

from ... import foreign

MOST_TOKENS = 1 << 40
"""More is no count: what a message says of itself must not overflow anybody's integers."""
KEY_CHARS = 500


class Usage:
    """Collects messages of one attempt at a run. Ids may be set after a message was seen, so they are read last."""

    def __init__(self, known_ids: set[str], attempt: int) -> None:
        self.known_ids = known_ids
        self._earlier_ids: set[str] = set()
        self._earlier_is_unmetered = False
        self._attempt = attempt
        self._messages: dict[int, AIMessage] = {}
        self._told_ids: set[str] = set()
        self._looked_at = 0
        self._lock = threading.Lock()

    def see(self, value: Any) -> None:
        """Finds AI messages in a node's update: the value itself, or one or two levels down."""
        if isinstance(value, AIMessage):
            self._messages[id(value)] = value
        elif type(value) is dict:
            for item in value.values():
                if isinstance(item, AIMessage):
                    self._messages[id(item)] = item
                elif type(item) in (list, tuple):
                    self._see_all(item)
        elif type(value) in (list, tuple):
            for item in value:
                if type(item) is dict:
                    self.see(item)
                elif isinstance(item, AIMessage):
                    self._messages[id(item)] = item
        elif hasattr(value, "__dict__"):
            self.see(dict(vars(value)))

    def _see_all(self, items: Any) -> None:
        for item in items:
            if isinstance(item, AIMessage):
                self._messages[id(item)] = item

    def goes_on_from(self, values: dict[str, Any]) -> None:
        """The state that an earlier attempt of this run has left: that attempt has told what its messages cost."""
        for value in values.values():
            for item in value if type(value) is list else (value,):
                if isinstance(item, AIMessage) and item.id is not None and item.id not in self.known_ids:
                    self._earlier_ids.add(item.id)
                    self._earlier_is_unmetered |= not item.usage_metadata

    def untold(self) -> list[dict[str, Any]]:
        """What was used since this was asked before: it is told with what the run saves, in case that its replica is
        lost. Only what has an id, and usage; the run's end tells all."""
        with self._lock:
            if len(self._messages) == self._looked_at:
                return []
            self._looked_at = len(self._messages)
            found = [entry for entry in self.summary()[0] if entry["id"] not in self._told_ids]
            found = [entry for entry in found if not entry["id"].startswith(f"attempt-{self._attempt}-")]
            self._told_ids.update(entry["id"] for entry in found)
            return found

    def summary(self) -> tuple[list[dict[str, Any]], bool]:
        """The USAGE maps, and whether a new message carried none."""
        entries: dict[str, dict[str, Any] | None] = {}
        for message in list(self._messages.values()):
            if message.id in self.known_ids or message.id in self._earlier_ids:
                continue
            key = foreign.text(message.id, KEY_CHARS) if message.id else f"attempt-{self._attempt}-{id(message)}"
            if entries.get(key) is None:
                try:
                    entries[key] = _entry(key, message)
                except Exception:  # noqa: BLE001 - providers' own shapes
                    entries[key] = None
        found = [entry for entry in entries.values() if entry is not None]
        return found, self._earlier_is_unmetered or len(found) < len(entries)


def _entry(key: str, message: AIMessage) -> dict[str, Any] | None:
    usage = message.usage_metadata
    if not usage:
        return None
    metadata = message.response_metadata or {}
    inputs, outputs = usage.get("input_token_details") or {}, usage.get("output_token_details") or {}
    model = metadata.get("model_name") or metadata.get("model")
    provider = metadata.get("model_provider")
    return {
        "id": key,
        "model": foreign.text(model, KEY_CHARS) if model else None,
        "provider": foreign.text(provider, KEY_CHARS) if provider else None,
        "input": _count(usage.get("input_tokens")),
        "output": _count(usage.get("output_tokens")),
        "cache_read": _count(inputs.get("cache_read")),
        "cache_write": _count(inputs.get("cache_creation")),
        "reasoning": _count(outputs.get("reasoning")),
    }


def _count(value: Any) -> int:
    return min(max(int(value or 0), 0), MOST_TOKENS)


class UsageCallback(BaseCallbackHandler):
    """Hands every model answer below a run to its `Usage`.

    Sync and inline: an async handler costs a sync node an event loop for each token.
    """

    run_inline = True
    ignore_chain = True
    ignore_agent = True
    ignore_retriever = True
    ignore_retry = True
    ignore_custom_event = True

    def __init__(self, usage: Usage) -> None:
        self.usage = usage

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to do; the base class's raises."""

    def on_llm_end(self, response: Any, **kwargs: Any) -> None:
        for generations in response.generations:
            for generation in generations:
                message = getattr(generation, "message", None)
                if isinstance(message, AIMessage):
                    self.usage.see(message)
