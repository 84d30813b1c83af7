"""An agent that ends its replica when it is told to, and answers otherwise after a moment."""

import asyncio
import ctypes
import os

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

HELD = []


async def act(state: MessagesState) -> dict:
    word = state["messages"][-1].content
    if word == "exit":
        os._exit(7)
    elif word == "segfault":
        ctypes.string_at(0)
    elif word == "memory":
        while True:
            HELD.append(bytes([len(HELD) % 255 + 1]) * (8 << 20))
    elif word == "loop":
        while True:
            pass
    await asyncio.sleep(0.2)
    return {"messages": [AIMessage(f"heard {word}")]}


graph = StateGraph(MessagesState).add_node(act).add_edge(START, "act").compile()
