"""A factory with an async context manager: called for each run, with that run's config.

What it opens before `yield` is open for the run, and is closed after it, whatever becomes of the run.
"""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph

closed = 0


@asynccontextmanager
async def make_graph(config: RunnableConfig) -> AsyncIterator[CompiledStateGraph]:
    global closed
    folder = tempfile.TemporaryDirectory()
    notes = Path(folder.name) / "notes"
    thread = config.get("configurable", {}).get("thread_id", "no thread")
    notes.write_text(f"opened for {thread}")

    def answer(state: MessagesState) -> dict:
        return {"messages": [AIMessage(f"{notes.read_text()}; closed before: {closed}")]}

    try:
        yield StateGraph(MessagesState).add_node(answer).add_edge(START, "answer").compile()
    finally:
        folder.cleanup()
        closed += 1
