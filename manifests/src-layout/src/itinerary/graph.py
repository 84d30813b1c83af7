"""The graph imports its package by name: `src/` is on the path, and the package's version is known."""

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

from itinerary import __version__
from itinerary.days import days


def plan(state: MessagesState) -> dict:
    listed = ", ".join(days(str(state["messages"][-1].content), 3))
    return {"messages": [AIMessage(f"itinerary {__version__}: {listed}")]}


graph = StateGraph(MessagesState).add_node(plan).add_edge(START, "plan").compile()
