"""One runner process serves all tests that do not end it."""

from __future__ import annotations

import asyncio
import inspect
import shutil
import tempfile
from pathlib import Path

import pytest
from gateway import PROJECTS, Gateway, Replica

GRAPHS = (
    "memory builder asking looping sync_blocking async_blocking sleeping stubborn_graph two_steps nested nested_call"
    " stateful_subgraph looking spying unmetered_graph metered_graph odd_graph inline_odd keyed keyed_subgraph"
    " failing zero azero with_config managed by_runtime by_both generator functional contextual thinking"
).split()


def all_graphs() -> dict[str, str]:
    named = {name: f"{PROJECTS}/graphs.py:{name}" for name in GRAPHS}
    return named | {"agent": f"{PROJECTS}/toy.py:graph", "by_module": "graphs:memory"}


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs async tests on one loop, without a plug-in."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    pyfuncitem.config._loop.run_until_complete(asyncio.wait_for(pyfuncitem.obj(**arguments), 90))
    return True


def pytest_configure(config: pytest.Config) -> None:
    config._loop = asyncio.new_event_loop()


@pytest.fixture
def folder():
    # A socket's path has at most 108 bytes: pytest's own folders are too deep.
    path = Path(tempfile.mkdtemp(prefix="rc"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def replica(request):
    loop = request.config._loop
    folder = Path(tempfile.mkdtemp(prefix="rc"))
    replica = Replica(folder, all_graphs(), environment={"RAPIDCLAW_ORPHAN_SECONDS": "1"})
    loop.run_until_complete(replica.__aenter__())
    yield replica
    loop.run_until_complete(replica.__aexit__())
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def own_replica(request):
    """A runner of this module's own, with the graphs that its `GRAPHS` names."""
    loop = request.config._loop
    folder = Path(tempfile.mkdtemp(prefix="rc"))
    settings = getattr(request.module, "REPLICA", {})
    replica = Replica(folder, request.module.GRAPHS, **settings)
    loop.run_until_complete(replica.__aenter__())
    yield replica
    loop.run_until_complete(replica.__aexit__())
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def own_gateway(request, own_replica):
    loop = request.config._loop
    context = Gateway().connected(own_replica.path)
    gateway = loop.run_until_complete(context.__aenter__())
    yield gateway
    loop.run_until_complete(context.__aexit__(None, None, None))


@pytest.fixture
def gateway(request, replica):
    loop = request.config._loop
    context = Gateway().connected(replica.path)
    try:
        gateway = loop.run_until_complete(context.__aenter__())
    except BaseException:
        print(replica.text())
        raise
    yield gateway
    loop.run_until_complete(context.__aexit__(None, None, None))
