"""LangGraph's functional API, named as a module."""

from typing import TypedDict

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.func import entrypoint, task

from agents.words import last_text


class Talk(TypedDict):
    messages: list[AnyMessage]


@task
def twice(text: str) -> str:
    return f"{text} {text}"


@entrypoint()
def double(state: Talk) -> Talk:
    return {"messages": [AIMessage(twice(last_text(state["messages"])).result())]}
