"""The key of a step, told from LangGraph's config."""

from __future__ import annotations

from typing import Any


def step_key(config: dict[str, Any] | None) -> str:
    if config is None:
        from langgraph.config import get_config

        config = get_config()
    configurable, metadata = config.get("configurable") or {}, config.get("metadata") or {}
    key = f"{configurable.get('thread_id', '')}:{metadata.get('langgraph_step', 0)}"
    # In a subgraph the last part of the namespace is the task's own; what is before it is the call's.
    namespace, _, _ = str(metadata.get("langgraph_checkpoint_ns") or "").rpartition("|")
    return f"{key}:{namespace}" if namespace else key
