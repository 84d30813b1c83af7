"""The saver keeps LangGraph's contract, and LangGraph's own PostgresSaver reads what it wrote."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import langgraph.checkpoint.conformance  # noqa: F401 - what is tested against: no test without it
import psycopg
import pytest
from gateway import SECRET, Gateway
from postgres import binaries, postgres
from stores import MemoryStore, PostgresStore

HELLO = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def database():
    from langgraph.checkpoint.postgres import PostgresSaver

    assert binaries() is not None, "no Postgres binaries on this machine: scripts/test.sh gets them"
    with postgres() as uri:
        with PostgresSaver.from_conn_string(uri) as saver:
            saver.setup()
        yield uri


async def conformance(folder: Path, store) -> dict:
    (folder / "s").mkdir()
    (folder / "r").mkdir()
    (folder / "s" / "replica.json").write_text(json.dumps({"secret": SECRET}))
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).parent / "conformance_replica.py"),
        env={**os.environ, "RAPIDCLAW_RUN": str(folder)}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    path = folder / "r" / "runner.sock"
    while not path.exists():
        assert process.returncode is None
        await asyncio.sleep(0.05)
    from gateway import Run

    gateway = Gateway(store, any_thread=True)
    gateway.runs["conformance"] = Run()
    async with gateway.connected(str(path)):
        output, _ = await asyncio.wait_for(process.communicate(), 60)
    report = json.loads(output[output.index(b"{\n") :])
    assert process.returncode == 0, json.dumps(report, indent=1)
    return report


async def test_all_capabilities_in_memory(folder):
    report = await conformance(folder, MemoryStore())
    assert report["conformance_level"] == "FULL"


async def test_all_capabilities_in_postgres(folder, database):
    with psycopg.connect(database, autocommit=True) as connection:
        report = await conformance(folder, PostgresStore(connection))
    assert report["conformance_level"] == "FULL"
    assert sum(result["tests_passed"] for result in report["results"].values()) > 60


async def test_postgres_saver_reads_the_same_state_and_we_read_its(replica, database):
    from langgraph.checkpoint.postgres import PostgresSaver

    sys.path.insert(0, str(Path(__file__).parent / "projects"))
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src" / "runner" / "python"))
    import graphs

    with psycopg.connect(database, autocommit=True) as connection:
        async with Gateway(PostgresStore(connection)).connected(replica.path) as gateway:
            end = await gateway.run(HELLO, graph="memory", thread_id="shared", answer="chat")
            assert end["result"] == "heard 1: hello"
            end = await gateway.run({"plain": "é"}, graph="inline_odd", thread_id="odd")
            assert end["status"] == "success", end
            await gateway.run(HELLO, graph="asking", thread_id="asked")
            with PostgresSaver.from_conn_string(database) as saver:
                config = {"configurable": {"thread_id": "shared"}}
                graph = graphs.builder.compile(checkpointer=saver)
                state = graph.get_state(config)
                assert [m.content for m in state.values["messages"]] == ["hello", "heard 1: hello"]
                assert graph.invoke(HELLO, config)["messages"][-1].content == "heard 2: hello"
                odd = graphs._odd.compile(checkpointer=saver).get_state({"configurable": {"thread_id": "odd"}})
                assert odd.values["text"] == "a\x00b" and odd.values["number"] == float("inf")
                asked = graphs.chain(ask=graphs.ask).compile(checkpointer=saver)
                assert asked.get_state({"configurable": {"thread_id": "asked"}}).interrupts
            end = await gateway.run(HELLO, graph="memory", thread_id="shared", answer="chat")
            assert end["result"] == "heard 3: hello"
            end = await gateway.run(None, graph="asking", thread_id="asked", answer="chat", command={"resume": "ok"})
            assert end["result"] == "you said ok"
