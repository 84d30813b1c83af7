"""The runner leaves no mark on the project's process: packages, loop, signals, children, environment."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from gateway import PROJECTS, Gateway, Replica

NAMES = "started modules the_loop children children_of_the_loop fork inherited".split()


@asynccontextmanager
async def marks(folder, *names, **replica):
    graphs = {name: f"{PROJECTS}/marks.py:{name}" for name in names or NAMES}
    async with Replica(folder, graphs, supervised=True, **replica) as replica:
        async with Gateway().connected(replica.path) as gateway:
            gateway.replica = replica
            yield gateway


async def said(gateway, graph, ask=""):
    end = await gateway.run({"ask": ask}, graph=graph, timeout=60)
    assert end["status"] == "success", gateway.replica.text()
    return end["values"]["said"]


async def until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{condition} is not so"
        await asyncio.sleep(0.02)
    return found


@pytest.fixture
def site(folder):
    """What the build lays into an image: the runner's own copies, in a folder of their own."""
    site = folder / "site"
    for name in ("websockets", "orjson", "ormsgpack"):
        shutil.copytree(Path(find_spec(name).origin).parent, site / name, ignore=shutil.ignore_patterns("__pycache__"))
    return site


async def test_packages_of_the_project_are_the_projects_own(folder, site):
    """A `websockets` with what LangGraph's SDK imports of it and nothing else, and two compiled packages, of
    which the process has two copies."""
    for path, text in {
        "__init__.py": "__version__ = '10.4'\n",
        "exceptions.py": "class ConnectionClosed(Exception): ...\nclass InvalidStatus(Exception): ...\n"
        "class ConnectionClosedError(ConnectionClosed): ...\nclass ConnectionClosedOK(ConnectionClosed): ...\n",
        "sync/client.py": "connect = None\n",
        "asyncio/client.py": "connect = None\n",
    }.items():
        file = folder / "pins" / "websockets" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    info = folder / "pins" / "websockets-10.4.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: websockets\nVersion: 10.4\n")
    (folder / "replica").mkdir()
    environment = {"RAPIDCLAW_SITE": str(site)}
    pins = {"PYTHONPATH": str(folder / "pins")}
    async with marks(folder / "replica", "modules", environment=environment, env=pins) as gateway:
        told = await said(gateway, "modules")
    assert told["imported"] == told["versions"]["websockets"] == "10.4"
    assert told["files"]["websockets"] == str(folder / "pins" / "websockets" / "__init__.py")
    assert told["files"]["ormsgpack"] == find_spec("ormsgpack").origin
    assert not any(str(site) in str(file) for file in told["files"].values())


async def test_variables_count_from_the_interpreters_start(folder):
    env = {"PYTHONHASHSEED": "7", "PYTHONPATH": "/rc-somewhere", "TZ": "Asia/Kathmandu", "PYTHONOPTIMIZE": "1"}
    wanted = subprocess.run(
        [sys.executable, "-c", "import time; print(hash('a'), time.tzname[0])"],
        env=os.environ | env, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    env |= {"RAPIDCLAW_PROJECT": "/nowhere", "A=B": "cannot be", "MULTI": "a\nb ü"}
    async with marks(folder, "started", env=env) as gateway:
        told = await said(gateway, "started")
    assert [str(told["hash"]), told["zone"]] == wanted
    assert "/rc-somewhere" in told["path"] and told["optimize"] == 1


async def test_loop_subprocesses_and_descriptors(folder):
    async with marks(folder, "the_loop", "inherited") as gateway:
        assert await said(gateway, "the_loop") == ["asyncio.unix_events", "child\n", True]
        listed, has_lifeline = await said(gateway, "inherited")
    # 0, 1, 2, and the one that lists the folder.
    assert (len(eval(listed)), has_lifeline) == (4, False)


async def test_a_policy_that_the_project_sets_counts(folder):
    (folder / "policy.py").write_text(
        "import asyncio, uvloop\nuvloop.install()\nfrom marks import one\n"
        "async def node(state):\n    return {'said': type(asyncio.get_running_loop()).__module__}\n"
        "graph = one(node)\n"
    )
    async with Replica(folder, {"agent": f"{folder}/policy.py:graph"}) as replica:
        async with Gateway().connected(replica.path) as gateway:
            gateway.replica = replica
            assert await said(gateway, "agent") == "uvloop"


@pytest.mark.parametrize("graph", ["children", "children_of_the_loop"])
async def test_children_of_multiprocessing_have_nothing_of_the_runner(folder, graph):
    async with marks(folder, graph) as gateway:
        for way in ("fork", "spawn", "forkserver"):
            number, has_default_handler, threads, sockets = await said(gateway, graph, way)
            assert (number, has_default_handler, threads) == (42, True, []), way
            # A forked child has the pair by which its loop wakes itself (asyncio's own).
            assert len(sockets) <= 2, (way, sockets)
        assert (await gateway.run({"ask": "spawn"}, graph=graph, timeout=60))["status"] == "success"


async def test_a_child_that_outlives_the_runner_holds_no_connection(folder):
    async with marks(folder, "fork") as gateway:
        child = await said(gateway, "fork")
        os.kill(child, signal.SIGSTOP)
        try:
            gateway.replica.process.kill()
            await asyncio.wait_for(gateway.ws.wait_closed(), 10)
        finally:
            os.kill(child, signal.SIGKILL)


async def test_sigterm_of_a_child_drains_nothing(folder):
    async with marks(folder, "fork", "started") as gateway:
        child = await said(gateway, "fork")
        os.kill(child, signal.SIGTERM)
        stat = Path(f"/proc/{child}/stat")
        await until(lambda: not stat.exists() or ") Z " in stat.read_text())
        await said(gateway, "started")


async def test_the_projects_handler_stays_and_the_replica_drains_all_the_same(folder):
    mark = folder / "mark"
    async with marks(folder, "started", env={"MARK_FILE": str(mark)}) as gateway:
        await said(gateway, "started")
        gateway.replica.process.send_signal(signal.SIGTERM)
        assert await gateway.replica.exit_code(10) == 0
    assert mark.read_text() == "the project's handler\n"
