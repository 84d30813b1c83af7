"""The process: its HTTP answers, its beginning and end, and what it does without a gateway."""

from __future__ import annotations

import asyncio
import json
import signal
import time

import pytest
from gateway import PROJECTS, SUBPROTOCOL, Gateway, Replica, http
from websockets.exceptions import ConnectionClosed, InvalidStatus

HELLO = {"messages": [{"role": "user", "content": "hello"}]}
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def graph(name: str) -> dict[str, str]:
    return {"agent": f"{PROJECTS}/graphs.py:{name}"}


async def test_http_endpoints_want_the_secret(replica, gateway):
    assert await http(replica.path, "/healthz", None) == (200, "ok\n")
    for target in ("/readyz", "/describe", "/metrics", "/connect", "/nothing"):
        assert (await http(replica.path, target, None))[0] == 401
        assert (await http(replica.path, target, "wrong"))[0] == 401
    assert (await http(replica.path, "/readyz"))[0] == 200
    assert json.loads((await http(replica.path, "/describe"))[1])["protocol"] == 2
    await gateway.run(HELLO)
    counted, deadline = 'rapidclaw_runner_runs_total{status="success"}', time.monotonic() + 5
    status, metrics = await http(replica.path, "/metrics")
    while counted not in metrics and time.monotonic() < deadline:  # counted when the `end` is on its way
        status, metrics = await http(replica.path, "/metrics")
    assert status == 200 and counted in metrics
    assert (await http(replica.path, "/nothing"))[0] == 404


async def test_connect_refuses_wrong_secrets_and_other_protocols(replica):
    with pytest.raises(InvalidStatus) as refused:
        async with Gateway().connected(replica.path, secret="wrong"):
            pass
    assert refused.value.response.status_code == 401
    offer = "Sec-WebSocket-Protocol: rapidclaw.runner.v9\r\n"
    status, body = await http(replica.path, "/connect", headers=UPGRADE + offer)
    assert status == 400 and SUBPROTOCOL in body and "rapidclaw.runner.v9" in body
    assert (await http(replica.path, "/connect", headers=UPGRADE))[0] == 400


async def test_a_graph_of_an_installed_package_is_named_by_its_module(folder):
    package = folder / "installed" / "rc_installed"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise_on_reload = object()\n")
    (package / "deep.py").write_text(
        "import rc_installed\nfrom langgraph.graph import START, MessagesState, StateGraph\n"
        "class Holder:\n"
        "    graph = StateGraph(MessagesState).add_node('n', lambda state: {'messages': ('ai', __name__)})"
        ".add_edge(START, 'n').compile()\n"
    )
    graphs = {"agent": "rc_installed.deep:Holder.graph"}
    (folder / "r1").mkdir()
    async with Replica(folder / "r1", graphs, environment={"PYTHONPATH": str(package.parent)}) as replica:
        async with Gateway().connected(replica.path) as gateway:
            end = await gateway.run(HELLO, answer="chat")
    assert end["result"] == "rc_installed.deep"


async def test_unknown_frames_close_the_connection(replica):
    async with Gateway().connected(replica.path) as gateway:
        await gateway.send("nonsense", run="x")
        with pytest.raises(ConnectionClosed):
            for _ in range(100):
                await gateway.ws.ping()
                await asyncio.sleep(0.05)
        assert gateway.ws.close_code == 1002
    async with Gateway().connected(replica.path) as gateway:
        assert (await gateway.run(HELLO))["status"] == "success"


async def test_runs_of_a_gateway_that_is_gone_pause_and_are_cancelled(replica, gateway):
    """The replica of these tests cancels orphans after a second."""
    before = replica.text()
    async with Gateway().connected(replica.path) as other:
        await other.start(HELLO, graph="looping", recursion_limit=100000)
        await asyncio.sleep(0.3)
    deadline = time.monotonic() + 8
    while "run cancelled, its gateway is gone" not in replica.text()[len(before) :]:
        assert time.monotonic() < deadline, replica.text()
        await asyncio.sleep(0.05)
    while True:
        await gateway.send("ping", n=3)
        if (await gateway.pongs.get())["runs"] == 0:
            break
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_a_silent_gateway_has_its_runs_cancelled(replica):
    async with Gateway().connected(replica.path) as other:
        run = await other.start(HELLO, graph="sleeping")
        other.pinger.cancel()
        assert (await run.end(10))["status"] == "cancelled"


async def test_sigterm_drains_and_exits_0(folder):
    async with Replica(folder, graph("two_steps"), supervised=True) as replica:
        async with Gateway().connected(replica.path) as gateway:
            run = await gateway.start(HELLO)
            await asyncio.sleep(0.2)
            replica.process.send_signal(signal.SIGTERM)
            end = await run.end()
            assert end["status"] in ("drained", "success")
            assert await replica.exit_code(10) == 0


async def test_sigterm_ends_runs_that_do_not_drain_after_the_grace(folder):
    environment = {"RAPIDCLAW_GRACE_SECONDS": "0.5"}
    async with Replica(folder, graph("async_blocking"), environment=environment) as replica:
        async with Gateway().connected(replica.path) as gateway:
            run = await gateway.start(HELLO)
            await asyncio.sleep(0.3)
            replica.process.send_signal(signal.SIGTERM)
            begun = time.monotonic()
            assert (await run.end())["status"] == "drained"
            assert await replica.exit_code(10) == 0
            assert time.monotonic() - begun < 5


async def test_sigterm_without_runs_is_quick(folder):
    async with Replica(folder, graph("memory"), supervised=True) as replica:
        async with Gateway().connected(replica.path):
            begun = time.monotonic()
            replica.process.send_signal(signal.SIGTERM)
            assert await replica.exit_code() == 0
            assert time.monotonic() - begun < 1


@pytest.mark.parametrize(
    ("spec", "last_line"),
    [
        (f"{PROJECTS}/broken_import.py:graph", "rapidclaw: graph agent: RuntimeError: two lines"),
        (f"{PROJECTS}/graphs.py:nothing", f"rapidclaw: graph agent: AttributeError: {PROJECTS}/graphs.py has no attribute nothing"),
        (f"{PROJECTS}/missing.py:graph", f"rapidclaw: graph agent: FileNotFoundError: no such file: {PROJECTS}/missing.py"),
        ("no_such_module:graph", "rapidclaw: graph agent: ModuleNotFoundError: No module named 'no_such_module'"),
        (f"{PROJECTS}/wants_database.py:graph", "rapidclaw: graph agent: KeyError: 'DATABASE_URL'"),
        (f"{PROJECTS}/graphs.py:not_a_graph", "rapidclaw: graph agent: NotAGraph: int is no graph"),
    ],
)  # fmt: skip
async def test_graphs_that_do_not_load_exit_3_and_say_which(folder, spec, last_line):
    replica = Replica(folder, {"agent": spec}, supervised=True)
    await replica.launch()
    assert await replica.exit_code() == 3
    lines = replica.text().splitlines()
    assert lines[-1].startswith(last_line)
    if "broken_import" in spec:
        first = lines.index("Traceback (most recent call last):")
        assert "broken_import.py" in lines[first + 1]
        assert 'raise RuntimeError("two' in replica.text()
    if "wants_database" in spec:
        assert '"database": true' in lines[-2]


async def test_settings_that_are_missing_exit_1(folder):
    replica = Replica(folder, graph("memory"))
    (folder / "s" / "replica.json").unlink()
    await replica.launch()
    assert await replica.exit_code() == 1
    assert "replica.json" in replica.text()


async def test_own_checkpointer_is_left_alone(folder):
    async with Replica(folder, {"agent": f"{PROJECTS}/graphs.py:nested"}, checkpointer="own") as replica:
        async with Gateway().connected(replica.path) as gateway:
            for heard in (1, 2):
                end = await gateway.run(HELLO, thread_id="t")
                assert end["status"] == "success"
                assert end["values"]["messages"][-1]["content"] == f"heard {heard}: hello"
            assert gateway.store.checkpoints == {}


async def test_env_reaches_the_project_and_the_secret_does_not(folder):
    (folder / "env_graph.py").write_text(
        "import os\nfrom typing import TypedDict\nfrom langgraph.graph import StateGraph, START\n"
        "SEEN = os.environ['MY_KEY'] + ' ' + str('the-secret-of-this' in ' '.join(os.environ.values()))\n"
        "class S(TypedDict):\n    said: str\n"
        "g = StateGraph(S)\ng.add_node('n', lambda s: {'said': SEEN})\ng.add_edge(START, 'n')\n"
    )
    async with Replica(folder, {"agent": f"{folder}/env_graph.py:g"}, env={"MY_KEY": "v"}) as replica:
        async with Gateway().connected(replica.path) as gateway:
            assert (await gateway.run({"said": ""}))["values"] == {"said": "v False"}


async def test_the_runner_ends_with_its_supervisor(folder):
    async with Replica(folder, graph("memory"), supervised=True) as replica:
        async with Gateway().connected(replica.path):
            replica.process.kill()
            await replica.exit_code()
            deadline = time.monotonic() + 5
            while replica.answers():
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
