"""What a run may not do to the runs beside and after it: hold the loop, leave processes, fill the thread."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid

import pytest
from gateway import PROJECTS, Gateway, Replica

GRAPHS = {"agent": f"{PROJECTS}/blocking.py:graph"}
MB = 1 << 20


async def until(condition, seconds: float = 20):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    return found


async def pong(gateway):
    await gateway.send("ping", n=9)
    return await asyncio.wait_for(gateway.pongs.get(), 10)


async def test_a_held_loop_is_told_with_run_node_file_and_line(own_gateway, own_replica):
    assert (await pong(own_gateway)).get("stalled") is None
    t = str(uuid.uuid4())
    run = await own_gateway.start({"way": "sleep"}, thread_id=t)
    stalled, deadline = None, time.monotonic() + 10
    while stalled is None and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
        stalled = (await pong(own_gateway)).get("stalled")
    assert (stalled["run"], stalled["thread_id"], stalled["node"]) == (run.id, t, "hold")
    lines = (PROJECTS / "blocking.py").read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if "the line that is named" in text)
    assert stalled["where"] == f"{PROJECTS}/blocking.py:{line} in deeper"
    assert stalled["seconds"] >= 1
    logged = f"node hold at {PROJECTS}/blocking.py:{line} in deeper thread_id={t} run_id={run.id}"
    while logged not in own_replica.text() and time.monotonic() < deadline:
        await pong(own_gateway)
        await asyncio.sleep(0.2)
    assert logged in own_replica.text()
    assert (await run.end())["status"] == "success"
    assert (await pong(own_gateway)).get("stalled") is None


async def test_code_that_holds_the_interpreter_is_named_in_the_log(folder):
    async with Replica(folder, GRAPHS) as replica:
        async with Gateway().connected(replica.path) as gateway:
            await gateway.start({"way": "regex"})
            lines = (PROJECTS / "blocking.py").read_text().splitlines()
            line = next(number for number, text in enumerate(lines, 1) if "re.match" in text)
            await until(lambda: f'blocking.py", line {line} in hold' in replica.text(), 40)
            assert replica.process.returncode is None


async def test_processes_left_behind_are_named_and_ended_where_they_burn(own_gateway, own_replica):
    sleeper = await own_gateway.run({"way": "process"})
    burner = await own_gateway.run({"way": "burner"})
    pids = sleeper["values"]["said"], burner["values"]["said"]
    try:
        await until(lambda: all(f"(pid {pid})" in own_replica.text() for pid in pids))
        await until(lambda: f"(pid {pids[1]}) goes on computing" in own_replica.text())
        line = next(line for line in own_replica.text().splitlines() if f"(pid {pids[0]})" in line)
        assert f"run_id={sleeper['run']}" in line
        # What only waits stays: the next run may use it.
        assert os.path.exists(f"/proc/{pids[0]}")
        assert (await own_gateway.run({"way": "pid"}))["status"] == "success"
    finally:
        os.kill(pids[0], signal.SIGKILL)


@pytest.mark.parametrize("durability", ["async", "sync"])
async def test_a_state_too_large_is_refused_in_the_turn_that_writes_it(own_gateway, durability):
    t, fields = str(uuid.uuid4()), {"durability": durability, "state_bytes": 5 * MB}
    neighbour = await own_gateway.start({"way": "a", "size": 1000})
    assert (await own_gateway.run({"way": "a", "size": 3 * MB}, thread_id=t, answer="none", **fields))["status"] == "success"
    # Each value is small enough; together they are not.
    end = await own_gateway.run({"way": "b", "size": 3 * MB}, thread_id=t, answer="none", **fields)
    assert (end["status"], end["error"]["type"], end["error"]["public"]) == ("error", "StateTooLarge", True)
    assert str(5 * MB) in end["error"]["message"] and "limits.state_bytes" in end["error"]["message"]
    # The thread is as it was, and goes on.
    end = await own_gateway.run({"way": "b", "size": MB}, thread_id=t, answer="none", **fields)
    assert end["status"] == "success"
    end = await own_gateway.run({"way": "a", "size": 2 * MB}, thread_id=t, answer="none", **fields)
    assert end["status"] == "success"
    assert (await neighbour.end())["status"] == "success"


async def test_a_single_enormous_value_is_refused_with_its_size(own_gateway):
    end = await own_gateway.run({"way": "a", "size": 70 * MB}, answer="none")
    assert (end["error"]["type"], end["error"]["public"]) == ("StateTooLarge", True)
    assert str(32 * MB) in end["error"]["message"]
    assert (await own_gateway.run({"way": "pid"}))["status"] == "success"
