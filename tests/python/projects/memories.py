"""Graphs with memories and serializers of their own, and sub-agents that nodes call by themselves."""

import threading
from array import array
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver, MemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    kept: Any
    said: Any


def one(node, **how):
    return StateGraph(State).add_node("node", node).add_edge(START, "node").compile(**how)


def heard(state):
    return {"messages": [AIMessage(f"heard {len(state['messages'])}")]}


def tell(graph, thread_id, **more):
    return graph.invoke({"messages": [HumanMessage("x")]}, {"configurable": {"thread_id": thread_id, **more}})


research = one(heard, checkpointer=MemorySaver())


class Team:
    def __init__(self):
        self.writer = one(heard, checkpointer=InMemorySaver())
        self.memory = InMemorySaver()


team = Team()


def last(result):
    return result["messages"][-1].content


def node_of_a_variable(state, config):
    return {"said": last(tell(research, config["configurable"]["thread_id"] + "-research"))}


async def node_on_the_loop(state, config):
    mine = {"configurable": {"thread_id": f"of {config['configurable']['thread_id']}|:/é"}}
    result = await research.ainvoke({"messages": [HumanMessage("x")]}, mine)
    seen = await research.aget_state(mine)
    history = [found async for found in research.aget_state_history(mine)]
    return {"said": [last(result), len(seen.values["messages"]), seen.config["configurable"]["thread_id"], len(history)]}


def node_of_two(state, config):
    """Both with the run's own thread id, and one with a fixed one: each has a memory of its own."""
    thread_id = config["configurable"]["thread_id"]
    return {"said": [last(tell(research, thread_id)), last(tell(team.writer, thread_id)), last(tell(team.writer, "all"))]}


def node_that_calls_twice(state, config):
    return {"said": [last(tell(research, "twice")), last(tell(research, "twice"))]}


def node_without_memory(state, config):
    fresh = one(heard, checkpointer=InMemorySaver())
    return {"said": last(tell(fresh, "scratch"))}


variable, on_the_loop = one(node_of_a_variable), one(node_on_the_loop)
two, twice, scratch = one(node_of_two), one(node_that_calls_twice), one(node_without_memory)

shared_memory = MemorySaver()
helper = one(heard, checkpointer=shared_memory)
shared = one(lambda state, config: {"said": last(tell(helper, "help"))}, checkpointer=shared_memory)


def look_at_myself(state):
    """What the project's own objects say, in the run and in a thread that is no part of it."""
    found = []
    outside = threading.Thread(target=lambda: found.append([type(g.checkpointer).__name__ for g in (itself, research)]))
    outside.start()
    outside.join()
    return {"said": [found[0], itself.__dict__["checkpointer"] is own_memory, len(list(own_memory.storage))]}


own_memory = InMemorySaver()
itself = one(look_at_myself, checkpointer=own_memory)
# A project may use its graph before anything is served, as its tests do.
AT_IMPORT = tell(research, "at import")

pickling = StateGraph(State)
pickling.add_node("make", lambda state: {"kept": state.get("kept") or array("i", [1, 2])})
pickling.add_node("use", lambda state: {"said": [type(state["kept"]).__name__, *state["kept"]]})
pickling.add_edge(START, "make")
pickling.add_edge("make", "use")
pickled = pickling.compile(checkpointer=MemorySaver(serde=JsonPlusSerializer(pickle_fallback=True)))
unpickled = pickling.compile()


class Spelled:
    """A serializer of the project's own, for one type."""

    plain = JsonPlusSerializer()

    def dumps_typed(self, value):
        if isinstance(value, array):
            return "array", bytes(value)
        return self.plain.dumps_typed(value)

    def loads_typed(self, data):
        return array("i", data[1]) if data[0] == "array" else self.plain.loads_typed(data)


spelled = pickling.compile(checkpointer=InMemorySaver(serde=Spelled()))

FIRST = threading.Event()
LATE = []


def leave_a_thread_behind(state, config):
    if state["messages"][-1].content == "first":

        def work():
            FIRST.wait(30)
            try:
                behind.update_state(config, {"kept": "late"})
            except Exception as error:  # noqa: BLE001
                LATE.append(type(error).__name__)

        threading.Thread(target=work).start()
        return {"said": "left"}
    FIRST.set()
    while not LATE:
        FIRST.wait(0.01)
        threading.Event().wait(0.01)
    return {"said": LATE}


behind = one(leave_a_thread_behind)
