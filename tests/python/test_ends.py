"""Whatever project code does, its run ends once, alone, and says why."""

from __future__ import annotations

import asyncio
import json
import time
import uuid

import pytest
from gateway import PROJECTS, Gateway, Replica

GRAPHS = {"agent": f"{PROJECTS}/endings.py:graph"}
GRAPHS |= {name: f"{PROJECTS}/endings.py:{name}" for name in ("unschemed", "infinite")}
SECRET_VALUE = "sk-very-secret-value"
REPLICA = {"env": {"MY_KEY": SECRET_VALUE, "MY_MODEL": "is wrong", "MY_URL": "http://127.0.0.1:4180"}, "concurrency": 100}

FAILURES = {
    # way: type, message (None: not looked at), whether the caller may see it
    "exit": ("SystemExit", "3", True),
    "exit_words": ("SystemExit", "no data", False),
    "exit_sync": ("SystemExit", "3", True),
    "exit_thread": ("SystemExit", "3", True),
    "exit_group": ("SystemExit", "3", True),
    "exit_task": ("SystemExit", "3", True),
    "quit": ("SystemExit", "0", True),
    "keyboard": ("KeyboardInterrupt", "", False),
    "keyboard_sync": ("KeyboardInterrupt", "", False),
    "keyboard_thread": ("KeyboardInterrupt", "", False),
    "base": ("Stop", "enough", False),
    "base_sync": ("Stop", "enough", False),
    "base_group": ("BaseExceptionGroup", "unhandled errors in a TaskGroup (1 sub-exception); Stop: enough", False),
    "generator_exit": ("GeneratorExit", "", False),
    "generator_exit_sync": ("GeneratorExit", "", False),
    "cancelled": (None, None, None),
    "cancelled_sync": (None, None, None),
    "drained": ("GraphDrained", "Graph drained: enough", True),
    "recursion": ("RecursionError", None, True),
    "memory": ("MemoryError", "", False),
    "unprintable": ("Unprintable", "<Unprintable: its __str__ raised AttributeError>", False),
    "no_text": ("NoText", "<NoText: its __str__ raised TypeError>", False),
    "exiting_text": ("Exiting", "<Exiting: its __str__ raised SystemExit>", False),
    "endless_text": ("Endless", None, False),
    "error_group": ("ExceptionGroup", None, False),
    "deep_group": ("ExceptionGroup", None, False),
    "odd_async": (None, "name", False),
    "secret": ("ValueError", "the key *** is wrong", True),
    "nested_300": ("TypeError", None, True),
    "interrupt_unshowable": ("TypeError", None, True),
    "interrupt_nested": ("TypeError", None, True),
    "interrupt_circle": ("TypeError", None, True),
    "interrupt_surrogate": ("TypeError", None, True),
    "interrupt_lying": ("TypeError", None, True),
    "interrupt_undumpable": ("TypeError", None, True),
    "interrupt_int": ("TypeError", None, True),
}


async def test_each_failure_ends_its_own_run_with_its_type(own_gateway, own_replica):
    neighbours = [await own_gateway.start({"way": "sleep"}) for _ in range(3)]
    runs = {way: await own_gateway.start({"way": way}, answer="chat", full=True) for way in FAILURES}
    for way, (kind, message, public) in FAILURES.items():
        end = await runs[way].end()
        error = end["error"]
        assert end["status"] == "error", way
        assert kind is None or error["type"] == kind, (way, error)
        assert message is None or error["message"] == message, (way, error)
        assert public is None or error["public"] is public, (way, error)
        assert len(error["message"]) < 20_000 and len(error["type"]) < 300, way
        assert end["interrupts"] is None if "interrupts" in end else True, way
    assert {(await run.end())["status"] for run in neighbours} == {"success"}
    assert own_replica.process.returncode is None
    assert SECRET_VALUE not in own_replica.text()
    assert "ValueError: the key *** is wrong" in own_replica.text()


@pytest.mark.parametrize("way", ["exit_abandoned", "exit_callback", "stop_loop"])
async def test_the_loop_goes_on_where_the_run_does(own_gateway, way):
    end = await own_gateway.run({"way": way})
    assert end["status"] == "success", end
    assert end["values"]["log"][0] in ("went on", "done", "SystemExit")


async def test_values_that_frames_cannot_hold_still_end_the_run(own_gateway):
    end = await own_gateway.run({"way": "id_surrogate"}, answer="chat", full=True)
    assert end["status"] == "success" and end["usage"][0]["id"] == "id?"
    end = await own_gateway.run({"way": "usage_huge"})
    assert end["status"] == "error" and end["usage"][0]["input"] == 1 << 40
    end = await own_gateway.run({"way": "usage_odd"})
    assert end["status"] == "success" and end["usage"] == [] and end["unmetered"]
    end = await own_gateway.run({"way": "nested_120"})
    assert end["status"] == "success" and json.dumps(end["values"]["value"]).count("[") == 120


@pytest.mark.parametrize(("way", "each"), [("add", 1 << 63), ("subtract", -(1 << 63))])
async def test_integers_that_grow_beyond_64_bits_stay_integers(own_gateway, way, each):
    t = str(uuid.uuid4())
    for turn in (1, 2, 3):
        end = await own_gateway.run({"way": way}, thread_id=t)
        assert end["values"]["log"][-1] == f"int {turn * each}"


async def test_an_end_too_large_is_told_as_an_error(own_gateway):
    end = await own_gateway.run({"way": "large"}, answer="values", thread_id=None)
    assert end["status"] == "error" and end["error"]["public"], end["error"]
    assert "at most" in end["error"]["message"]


async def test_many_failures_take_no_place_for_ever(own_gateway):
    ways = ("exit", "unprintable", "base_sync", "keyboard_thread") * 10
    ends = await asyncio.gather(*(own_gateway.run({"way": way}) for way in ways))
    assert {end["status"] for end in ends} == {"error"}
    deadline = time.monotonic() + 5
    while True:
        await own_gateway.send("ping", n=3)
        if (await asyncio.wait_for(own_gateway.pongs.get(), 5))["runs"] == 0:
            return
        assert time.monotonic() < deadline


async def test_a_loop_that_cannot_go_on_ends_the_process_and_nobodys_run(folder):
    async with Replica(folder, GRAPHS) as replica:
        async with Gateway().connected(replica.path) as gateway:
            neighbour = await gateway.start({"way": "sleep"})
            culprit = await gateway.start({"way": "break_loop"})
            assert await replica.exit_code() == 1
            # Without an end both are requeued, as after a kill.
            assert "end" not in neighbour.kinds() + culprit.kinds()
            assert "the graph loop ended" in replica.text()


@pytest.mark.parametrize("graph", ["unschemed", "infinite"])
async def test_graphs_without_a_proper_schema_are_described_and_run(own_gateway, graph):
    described = own_gateway.describe["graphs"][graph]
    if graph == "unschemed":
        assert described["input"] is None
        assert any("graph unschemed: its input schema could not be made" in note for note in own_gateway.describe["notes"])
    else:
        assert described["state"]["properties"]["score"]["default"] is None
    end = await own_gateway.run({"messages": [{"role": "user", "content": "hi"}]}, graph=graph, answer="chat")
    assert (end["status"], end["result"]) == ("success", "fine"), end["error"]
