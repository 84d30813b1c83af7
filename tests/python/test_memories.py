"""Objects that project code imported stay as they are; its sub-agents and serializers work as it wrote them."""

from __future__ import annotations

import uuid

import pytest
from gateway import PROJECTS, Gateway, Replica

GRAPHS = "variable on_the_loop two twice scratch shared itself pickled unpickled spelled behind".split()
HELLO = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def replica(folder):
    return Replica(folder, {name: f"{PROJECTS}/memories.py:{name}" for name in GRAPHS})


async def said(gateway, graph, thread_id, message="hello", **fields):
    start = {"messages": [{"role": "user", "content": message}]}
    end = await gateway.run(start, graph=graph, thread_id=thread_id, timeout=60, **fields)
    assert end["status"] == "success", end
    return end["values"]["said"]


def places(gateway, thread_id):
    return {namespace for owner, namespace, _ in gateway.store.checkpoints if owner == thread_id}


async def test_sub_agents_with_threads_of_their_own(replica):
    store, t = None, f"t-{uuid.uuid4()}"
    # The second replica knows nothing but what the gateway keeps.
    for heard in ("heard 1", "heard 3"):
        async with replica, Gateway(store).connected(replica.path) as gateway:
            store = gateway.store
            assert await said(gateway, "variable", t) == heard
            assert (await said(gateway, "on_the_loop", t))[0] == heard
            assert await said(gateway, "two", t) == [heard] * 3
            # A memory that the node makes is as short-lived as it is anywhere.
            assert await said(gateway, "scratch", t) == "heard 1"
            assert await said(gateway, "shared", t) == heard
            assert gateway.refused == []
            assert {owner for owner, _, _ in store.checkpoints} == {t}
    assert {"", f":research:{t}-research", f":research:{t}", f":team.writer:{t}", ":team.writer:all"} <= places(gateway, t)
    async with replica, Gateway(store).connected(replica.path) as gateway:
        assert await said(gateway, "twice", t) == ["heard 1", "heard 3"]
        # Another conversation has other sub-agents, whatever their threads are called.
        assert await said(gateway, "two", "another") == ["heard 1"] * 3
        last, messages, thread_id, history = await said(gateway, "on_the_loop", t)
        assert (last, messages, thread_id, history) == ("heard 5", 6, f"of {t}|:/é", 9)
        # The state alone in memory: a run without a thread.
        assert await said(gateway, "two", None) == ["heard 1"] * 3
        notes = gateway.describe["notes"]
    assert any(note.startswith("research has an in-memory checkpointer") for note in notes), notes


async def test_imported_objects_stay_as_they_are(replica):
    async with replica, Gateway().connected(replica.path) as gateway:
        for _ in range(2):
            assert await said(gateway, "itself", "t") == [["InMemorySaver", "InMemorySaver"], True, 0]
        assert places(gateway, "t") == {""}


async def test_the_graphs_own_serializer_is_used(replica):
    async with replica, Gateway().connected(replica.path) as gateway:
        for graph, kind in (("pickled", "pickle"), ("spelled", "array")):
            for _ in range(2):
                assert await said(gateway, graph, graph) == ["array", 1, 2]
            assert kind in {blob[0] for key, blob in gateway.store.blobs.items() if key[0] == graph}
        assert await said(gateway, "pickled", None) == ["array", 1, 2]
        end = await gateway.run(HELLO, graph="unpickled")
    assert (end["status"], end["error"]["type"], end["error"]["public"]) == ("error", "TypeError", True)
    for word in ("the state's kept cannot be saved", "array", '"checkpointer": "own"'):
        assert word in end["error"]["message"]


async def test_the_manifests_serializer_comes_before_the_graphs(folder):
    graphs = {name: f"{PROJECTS}/memories.py:{name}" for name in ("unpickled", "spelled")}
    serde = {"allowed_json_modules": [["memories", "State"]], "pickle_fallback": True}
    async with Replica(folder, graphs, serde=serde) as replica, Gateway().connected(replica.path) as gateway:
        for graph in graphs:
            assert await said(gateway, graph, graph) == ["array", 1, 2]
            assert "pickle" in {blob[0] for key, blob in gateway.store.blobs.items() if key[0] == graph}


async def test_what_a_run_leaves_behind_writes_in_no_later_run_of_its_thread(replica):
    async with replica, Gateway().connected(replica.path) as gateway:
        assert await said(gateway, "behind", "t", "first") == "left"
        assert await said(gateway, "behind", "t", "second") == ["RunEnded"]
