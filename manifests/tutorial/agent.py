"""A support desk as tutorials build it: a pool on DATABASE_URL, opened when the module is imported.

`"database": true` gives the agent a Postgres database of its own and sets DATABASE_URL; here it holds the
desk's tickets. The graph is compiled with a checkpointer of its own: rapidclaw puts its own in that place, so
that threads survive any replica (`"checkpointer": "own"` would leave this one).
"""

import os
import re
from typing import Annotated, TypedDict

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from psycopg_pool import ConnectionPool

DATABASE_URL = os.environ["DATABASE_URL"]

pool = ConnectionPool(
    DATABASE_URL,
    min_size=1,
    max_size=4,
    kwargs={"autocommit": True, "prepare_threshold": 0},
    check=ConnectionPool.check_connection,
    open=True,
)
with pool.connection() as connection:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS tickets (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant text, about text)"
    )
checkpointer = PostgresSaver(pool)


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    tenant_id: str
    status: str
    tokens_budget: int


def plan(state: State) -> dict:
    """Decides what the last message wants. A model would do it; words in the text do here."""
    text = str(state["messages"][-1].content).lower()
    return {"status": "filing" if "broken" in text else "listing" if "tickets" in text else "done"}


def file_ticket(state: State) -> dict:
    about = re.sub(r"\s+", " ", str(state["messages"][-1].content)).strip()
    with pool.connection() as connection:
        row = connection.execute(
            "INSERT INTO tickets (tenant, about) VALUES (%s, %s) RETURNING id", (state["tenant_id"], about)
        ).fetchone()
    return {"messages": [AIMessage(f"Ticket {row[0]} is filed: {about}")], "status": "done"}


def list_tickets(state: State) -> dict:
    with pool.connection() as connection:
        rows = connection.execute(
            "SELECT id, about FROM tickets WHERE tenant = %s ORDER BY id", (state["tenant_id"],)
        ).fetchall()
    listed = "; ".join(f"{number}: {about}" for number, about in rows) or "none"
    return {"messages": [AIMessage(f"Your tickets: {listed}")], "status": "done"}


def greet(state: State) -> dict:
    return {"messages": [AIMessage("Tell me what is broken, or ask for your tickets.")]}


builder = StateGraph(State)
builder.add_node("plan", plan)
builder.add_node("file_ticket", file_ticket)
builder.add_node("list_tickets", list_tickets)
builder.add_node("greet", greet)
builder.add_edge(START, "plan")
builder.add_conditional_edges(
    "plan", lambda state: state["status"], {"filing": "file_ticket", "listing": "list_tickets", "done": "greet"}
)
for node in ("file_ticket", "list_tickets", "greet"):
    builder.add_edge(node, END)

graph = builder.compile(checkpointer=checkpointer)
