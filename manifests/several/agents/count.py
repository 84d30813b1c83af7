"""A factory: called once, when the replica starts."""

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph


def count(state: MessagesState) -> dict:
    said = sum(message.type == "human" for message in state["messages"])
    return {"messages": [AIMessage(f"message {said}")]}


def make_graph() -> CompiledStateGraph:
    return StateGraph(MessagesState).add_node(count).add_edge(START, "count").compile()
