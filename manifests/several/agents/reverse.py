"""A compiled graph."""

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

from agents.words import last_text


def reverse(state: MessagesState) -> dict:
    return {"messages": [AIMessage(last_text(state["messages"])[::-1])]}


graph = StateGraph(MessagesState).add_node(reverse).add_edge(START, "reverse").compile()
