"""What models used in a run, read from their messages: each new AI message counts once, by its id.

Messages come from two sides: the nodes' updates, and LangChain's callbacks, which also see calls in
subgraphs and tools whose messages never reach the root's state.
"""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessage


class Usage:
    """Collects messages of one run. Ids may be set after a message was seen, so they are read last."""

    def __init__(self, known_ids: set[str]) -> None:
        self.known_ids = known_ids
        self._messages: dict[int, AIMessage] = {}

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

    def summary(self) -> tuple[list[dict[str, Any]], bool]:
        """The USAGE maps, and whether a new message carried none."""
        entries: dict[str, dict[str, Any] | None] = {}
        for message in list(self._messages.values()):
            if message.id in self.known_ids:
                continue
            key = message.id or f"object-{id(message)}"
            if entries.get(key) is None:
                entries[key] = _entry(key, message)
        found = [entry for entry in entries.values() if entry is not None]
        return found, len(found) < len(entries)


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
        "model": str(model) if model else None,
        "provider": str(provider) if provider else None,
        "input": int(usage.get("input_tokens") or 0),
        "output": int(usage.get("output_tokens") or 0),
        "cache_read": int(inputs.get("cache_read") or 0),
        "cache_write": int(inputs.get("cache_creation") or 0),
        "reasoning": int(outputs.get("reasoning") or 0),
    }


class UsageCallback(AsyncCallbackHandler):
    """Hands every model answer below a run to its `Usage`."""

    run_inline = True
    ignore_chain = True
    ignore_agent = True
    ignore_retriever = True
    ignore_retry = True
    ignore_custom_event = True

    def __init__(self, usage: Usage) -> None:
        self.usage = usage

    async def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to do; the base class's raises."""

    async def on_llm_end(self, response: Any, **kwargs: Any) -> None:
        for generations in response.generations:
            for generation in generations:
                message = getattr(generation, "message", None)
                if isinstance(message, AIMessage):
                    self.usage.see(message)
