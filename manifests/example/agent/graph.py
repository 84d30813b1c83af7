"""An agent that answers with the help of two tools and remembers its thread.

The model is whatever answers at OPENAI_BASE_URL: OpenAI, or any server that speaks its API. There
is no checkpointer here: rapidclaw brings the one that the manifest asks for.
"""

import os
from datetime import UTC, datetime

from langchain_core.messages import SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

SYSTEM = SystemMessage("You are a helpful assistant. Use the tools for questions about weather and time.")

FORECASTS = ("sunny", "cloudy", "rainy", "windy")


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    forecast = FORECASTS[sum(city.lower().encode()) % len(FORECASTS)]
    return f"It is {forecast} in {city}."


@tool
def get_time() -> str:
    """The time now, in UTC."""
    return datetime.now(UTC).strftime("It is %H:%M UTC.")


TOOLS = [get_weather, get_time]

model = ChatOpenAI(
    model=os.environ.get("OPENAI_MODEL", "gpt-4o-mini"),
    temperature=0,
    # Behind another base URL, LangChain asks for the usage of a stream only when told to.
    stream_usage=True,
).bind_tools(TOOLS)


async def answer(state: MessagesState) -> dict:
    return {"messages": [await model.ainvoke([SYSTEM, *state["messages"]])]}


builder = StateGraph(MessagesState)
builder.add_node("model", answer)
builder.add_node("tools", ToolNode(TOOLS))
builder.add_edge(START, "model")
builder.add_conditional_edges("model", tools_condition)
builder.add_edge("tools", "model")

graph = builder.compile()
