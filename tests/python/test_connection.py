"""Version 2 of the contract: a connection that breaks costs nothing, and nobody sends without end."""

from __future__ import annotations

import asyncio
import time

import pytest
from gateway import PROJECTS, Gateway, Replica
from sessions import SessionGateway

HELLO = {"messages": [{"role": "user", "content": "hello"}]}


def say(text: str) -> dict:
    return {"messages": [{"role": "user", "content": text}]}


@pytest.fixture(scope="module")
def frames(request):
    """A replica with the graphs of `frames.py`, which gives runs up after 2 s without their gateway."""
    import shutil
    import tempfile
    from pathlib import Path

    loop = request.config._loop
    folder = Path(tempfile.mkdtemp(prefix="rc"))
    graphs = {name: f"{PROJECTS}/frames.py:{name}" for name in ("stepping", "keeping", "odd")}
    graphs["looping"] = f"{PROJECTS}/graphs.py:looping"
    replica = Replica(folder, graphs, environment={"RAPIDCLAW_ORPHAN_SECONDS": "2"})
    loop.run_until_complete(replica.__aenter__())
    yield replica
    loop.run_until_complete(replica.__aexit__())
    shutil.rmtree(folder, ignore_errors=True)


async def test_a_session_begins_with_a_hello_each_way_and_answers_runs(frames):
    async with SessionGateway().connected(frames.path) as gateway:
        assert not gateway.hello["resumed"] and len(gateway.hello["session"]) == 32
        assert set(gateway.hello["capabilities"]) >= {"resume", "credit", "chunks", "refused"}
        end = await gateway.run(HELLO, graph="stepping", answer="chat")
    assert end["result"] == "40 steps"


async def test_each_frame_comes_once_however_often_the_socket_breaks(frames):
    gateway = SessionGateway()
    async with gateway.connected(frames.path):
        runs = [await gateway.start(HELLO, graph="stepping", answer="chat") for _ in range(4)]
        gateway.cut()
    cuts = 0
    while not all(run.ended.done() for run in runs):
        async with gateway.connected(frames.path):
            assert gateway.hello["resumed"]
            goal = gateway.received + 7
            await gateway.seen(lambda: gateway.received >= goal or all(run.ended.done() for run in runs))
            gateway.cut()
            cuts += 1
    assert cuts > 5
    for run in runs:
        end = await run.end()
        assert (end["status"], end["result"]) == ("success", "40 steps")
        checkpoints = [f["checkpoint_id"] for kind, f in run.frames if kind == "checkpoint"]
        assert len(checkpoints) == len(set(checkpoints)) == 43


async def test_a_session_whose_runs_were_given_up_does_not_go_on(frames):
    gateway = SessionGateway()
    before = len(frames.text())
    async with gateway.connected(frames.path):
        await gateway.start(HELLO, graph="looping", recursion_limit=100000)
        await gateway.seen(lambda: "checkpoint" in gateway.kinds)
        gateway.cut()
    deadline = time.monotonic() + 20
    while "run cancelled, its gateway is gone" not in frames.text()[before:]:
        assert time.monotonic() < deadline, frames.text()
        await asyncio.sleep(0.05)
    former = gateway.session
    async with gateway.connected(frames.path, wait=False):
        assert not gateway.hello["resumed"] and gateway.session != former


async def test_a_session_that_nobody_knows_does_not_go_on(frames):
    gateway = SessionGateway()
    gateway.session = "0" * 32
    async with gateway.connected(frames.path, wait=False):
        assert not gateway.hello["resumed"]


async def test_without_credit_a_run_waits_and_the_connection_does_not(frames):
    # Given a gateway that grants little, and a run that sends much more.
    gateway = SessionGateway(window=0)
    gateway.credit = 1_000_000
    async with gateway.connected(frames.path):
        run = await gateway.start(say("30"), graph="keeping", answer="chat")
        await gateway.seen(lambda: gateway.received_bytes >= gateway.credit)
        # Pings are answered, and frames from here arrive.
        await gateway.send("ping", n=7)
        assert (await asyncio.wait_for(gateway.pongs.get(), 10))["runs"] == 1
        assert not run.ended.done()
        # With credit, the rest comes.
        gateway.window = 16 << 20
        await gateway.grant(gateway.received_bytes + gateway.window)
        end = await run.end(60)
        assert (end["status"], end["result"]) == ("success", "0 e3b0c442")


async def test_large_values_come_in_chunks_with_other_runs_frames_between_them(frames):
    gateway = SessionGateway(window=0)
    gateway.credit = 4 << 20
    async with gateway.connected(frames.path):
        large = await gateway.start(say("30"), graph="keeping", answer="chat")
        await gateway.seen(lambda: "chunk" in gateway.kinds)
        small = await gateway.start(HELLO, graph="stepping", answer="chat")
        # Granted bit by bit, so that the small run's frames find the large one's on their way.
        while not small.ended.done():
            await gateway.seen(lambda: gateway.received_bytes >= gateway.credit or small.ended.done())
            await gateway.grant(gateway.received_bytes + (1 << 19))
        assert not large.ended.done()
        gateway.window = 16 << 20
        await gateway.grant(gateway.received_bytes + gateway.window)
        assert (await large.end(60))["result"] == "0 e3b0c442"
    between = gateway.kinds[gateway.kinds.index("chunk") :]
    assert between.index("end") < len(between) - between[::-1].index("chunk")


async def test_unknown_kinds_and_wrong_fields_are_refused_by_name_and_survived(frames):
    async with SessionGateway().connected(frames.path) as gateway:
        run = await gateway.start(HELLO, graph="stepping", answer="chat")
        await gateway.send("nonsense", run="r", attempt=3, id=5)
        refused = await asyncio.wait_for(gateway.answers.get(), 10)
        assert {name: refused[name] for name in ("kind", "run", "attempt", "id")} == {
            "kind": "nonsense", "run": "r", "attempt": 3, "id": 5,
        }  # fmt: skip
        assert "unknown kind" in refused["reason"]
        await gateway.send("start", run="no graph and no thread", attempt="many")
        refused = await asyncio.wait_for(gateway.answers.get(), 10)
        assert (refused["kind"], refused["run"]) == ("start", "no graph and no thread")
        assert (await run.end())["status"] == "success"


async def test_what_a_gateway_refuses_fails_whoever_waits_for_its_answer(frames):
    async with SessionGateway().connected(frames.path) as gateway:
        end = await gateway.run(HELLO, graph="odd", answer="chat")
        assert end["result"] == "Refused: unknown kind hindsight"
        assert "later" in end["frames"].kinds()


async def test_a_gateway_of_version_1_is_served_beside_one_of_version_2(frames):
    async with Gateway().connected(frames.path) as old, SessionGateway().connected(frames.path) as new:
        ends = await asyncio.gather(*(one.run(HELLO, graph="stepping", answer="chat") for one in (old, new)))
    assert [end["result"] for end in ends] == ["40 steps", "40 steps"]


async def test_a_runner_of_version_1_refuses_version_2_naming_both(folder):
    graphs = {"agent": f"{PROJECTS}/frames.py:stepping"}
    async with Replica(folder, graphs, environment={"RAPIDCLAW_CONTRACT": "1"}) as replica:
        with pytest.raises(Exception, match="400") as refused:
            async with SessionGateway().connected(replica.path):
                pass
        body = refused.value.response.body.decode()
        assert "rapidclaw.runner.v1" in body and "rapidclaw.runner.v2" in body
        async with Gateway().connected(replica.path) as gateway:
            assert (await gateway.run(HELLO, answer="chat"))["result"] == "40 steps"
