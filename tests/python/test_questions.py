"""What a turn is, by the state of its thread: new input, or the answer to open interrupts."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
import uuid
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from gateway import PROJECTS, Gateway, Replica

NAMES = (
    "apart together below_apart below_together side_by_side both_and_slow approval own"
    " breakpoint_before breakpoint_after"
).split()
GRAPHS = {name: f"{PROJECTS}/questions.py:{name}" for name in NAMES} | {"memory": f"{PROJECTS}/graphs.py:memory"}


def turn(message=None, **more):
    told = dict(more)
    if message is not None:
        told |= {"message": message, "input": {"messages": [{"role": "user", "content": message}]}}
    return {"turn": json.dumps(told).encode(), "answer": "chat"}


class Agent:
    """Runners that share one store, as replicas of one agent do; or one that all tests share."""

    def __init__(self, folder, graph, shared=None, **replica):
        self.gate, self.flaw = folder / "gate", folder / "flaw"
        self.folder, self.graph, self.replica = folder, graph, replica
        self.thread = f"thread-{uuid.uuid4()}"
        self.gateway = shared.gateway if shared else Gateway()
        self.stack = AsyncExitStack()

    async def begin(self):
        """A replica in the place of the one before."""
        folder = self.folder / uuid.uuid4().hex[:4]
        environment = {"QUESTIONS_GATE": str(self.gate), "QUESTIONS_FLAW": str(self.flaw)}
        self.process = await self.stack.enter_async_context(
            Replica(folder, GRAPHS, environment=environment, **self.replica)
        )
        self.gateway = Gateway(self.gateway.store)
        await self.stack.enter_async_context(self.gateway.connected(self.process.path))

    async def __aenter__(self):
        await self.begin()
        return self

    async def __aexit__(self, *error):
        await self.stack.__aexit__(*error)

    async def start(self, *said, **fields):
        more = {key: fields.pop(key) for key in ("resume", "anew", "not_chat", "first") if key in fields}
        fields = {"graph": self.graph, "thread_id": self.thread, "metadata": {"graph_id": self.graph}} | fields
        return await self.gateway.start(**turn(*said, **more), **fields)

    async def say(self, *said, **fields):
        return await (await self.start(*said, **fields)).end()

    async def ask(self, *said, **fields):
        """The questions that a turn ends with."""
        end = await self.say(*said, **fields)
        assert end["status"] == "interrupted", end
        return json.loads(end["interrupts"])

    async def lost(self, run, when):
        """Kills the replica once the run's frames are as wanted; the next one takes its place."""
        deadline = time.monotonic() + 20
        while not when(run.frames):
            assert time.monotonic() < deadline, run.frames
            await asyncio.sleep(0.01)
        self.process.process.kill()
        await self.begin()


@pytest.fixture(scope="module")
def shared(request):
    loop = request.config._loop
    folder = Path(tempfile.mkdtemp(prefix="rc"))
    agent = Agent(folder, "")
    loop.run_until_complete(agent.begin())
    yield agent
    loop.run_until_complete(agent.stack.aclose())
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def talk(shared):
    """A new thread of a graph, on the replica that the tests share; the gate is open, nothing is flawed."""
    shared.gate.touch()
    shared.flaw.unlink(missing_ok=True)
    return lambda graph: Agent(shared.folder, graph, shared)


def interrupts_again(frames):
    return any(kind == "writes" and any(w[1] == "__interrupt__" for w in f["writes"]) for kind, f in frames)


def finished_a_step_below(frames):
    return any(kind == "checkpoint" and f["ns"] for kind, f in frames)


def noted(frames):
    return any(kind == "writes" and f["writes"][0][1] == "__rapidclaw_answers__" for kind, f in frames)


@pytest.mark.parametrize("graph", ["apart", "together", "below_apart", "below_together"])
async def test_each_answer_is_for_the_question_that_was_asked(talk, graph):
    agent = talk(graph)
    assert [q["value"] for q in await agent.ask("go")] == ["one?"]
    assert [q["value"] for q in await agent.ask("yes")] == ["two?"]
    assert (await agent.say("no"))["result"] == "one=yes two=no"


@pytest.mark.parametrize("graph", ["apart", "together", "below_apart", "below_together"])
async def test_a_lost_attempts_answer_is_not_used_for_the_next_question(folder, graph):
    async with Agent(folder, graph) as agent:
        await agent.ask("go")
        # Given an attempt that has answered the first question and is lost before the next,
        run = await agent.start("yes")
        await agent.lost(run, finished_a_step_below if graph == "below_apart" else noted)
        agent.gate.touch()
        # then the next attempt comes to the second question, and asks it.
        assert [q["value"] for q in await agent.ask("yes", run=run.id, attempt=2)] == ["two?"]
        assert (await agent.say("no"))["result"] == "one=yes two=no"


@pytest.mark.parametrize("graph", ["both_and_slow", "below_together"])
async def test_an_attempt_that_was_lost_after_it_asked_again_is_not_answered_twice(folder, graph):
    async with Agent(folder, graph) as agent:
        # Given a node that asks two questions, and a run that has answered the first and asked the second
        agent.gate.touch()
        assert [q["value"] for q in await agent.ask("go")] == ["one?"]
        run = await agent.start("yes")
        await agent.lost(run, interrupts_again)
        # when its end is lost, then the next attempt asks the second question, and does not answer it,
        assert [q["value"] for q in await agent.ask("yes", run=run.id, attempt=2)] == ["two?"]
        assert (await agent.say("no"))["result"] == "one=yes two=no"


async def test_a_failed_answer_leaves_the_question_open(talk):
    agent = talk("approval")
    await agent.ask("delete")
    agent.flaw.touch()
    for _ in range(2):
        assert (await agent.say("yes"))["error"]["type"] == "ValueError"
    agent.flaw.unlink()
    assert (await agent.say("please"))["result"] == "deleted=please"


@pytest.mark.parametrize("graph", ["together", "below_together"])
async def test_a_failed_answer_is_not_used_for_the_next_question(talk, graph):
    agent = talk(graph)
    await agent.ask("go")
    agent.flaw.touch()
    assert (await agent.say("yes"))["status"] == "error"
    agent.flaw.unlink()
    assert [q["value"] for q in await agent.ask("yes, again")] == ["two?"]
    assert (await agent.say("no"))["result"] == "one=yes, again two=no"


async def test_time_that_runs_out_leaves_the_question_open(talk):
    agent = talk("together")
    await agent.ask("go")
    agent.gate.unlink()
    assert (await agent.say("yes", timeout_ms=500))["status"] == "timeout"
    agent.gate.touch()
    assert [q["value"] for q in await agent.ask("sure")] == ["two?"]
    assert (await agent.say("no"))["result"] == "one=sure two=no"


async def test_several_questions_want_their_ids(talk):
    agent = talk("side_by_side")
    ids = {q["value"]["question"]: q["id"] for q in await agent.ask("go")}
    for said, more in ((("yes",), {}), ((), {"resume": ["yes"]}), ((), {"resume": [{"a": 1}]})):
        error = (await agent.say(*said, **more))["error"]
        assert (error["code"], sorted(error["interrupts"])) == ("several-interrupts", sorted(ids.values()))
    error = (await agent.say(resume=[{"0" * 32: "yes"}]))["error"]
    assert error["code"] == "no-such-interrupt"

    # One of them, then the other: then there is one, and a message is enough.
    (left,) = await agent.ask(resume=[{ids["right?"]: {"deep": [None]}}])
    assert left["id"] == ids["left?"]
    assert (await agent.say("yes"))["result"] == "left=yes right={'deep': [None]}"


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}, {"decisions": [{"type": "approve"}]}])
async def test_an_answer_is_any_json(talk, value):
    agent = talk("approval")
    await agent.ask("delete")
    assert (await agent.say(resume=[value]))["result"] == f"deleted={value}"
    error = (await agent.say(resume=[value]))["error"]
    assert error["code"] == "nothing-to-resume"
    # With a message beside it, that begins a turn where nothing waits.
    assert await agent.ask("delete", resume=[value])


async def test_own_input_begins_anew_and_another_graph_is_not_answered(talk):
    agent = talk("approval")
    await agent.ask("delete")
    assert (await agent.say("hello", graph="memory"))["result"] == "heard 2: delete"
    await agent.ask("delete")
    assert await agent.ask("delete again", anew=True)
    assert (await agent.say("hello", not_chat="no messages", thread_id="new"))["error"]["code"] == "graph-not-chat"


@pytest.mark.parametrize("graph", ["breakpoint_before", "breakpoint_after"])
async def test_a_second_attempt_does_not_pass_a_breakpoint(talk, graph):
    agent = talk(graph)
    run = await agent.start("go")
    assert (await run.end())["status"] == "interrupted"
    # The same attempt's end was lost with its replica: the next one stands where it stood.
    for attempt in (2, 3):
        end = await agent.say("go", run=run.id, attempt=attempt)
        assert (end["status"], json.loads(end["interrupts"])) == ("interrupted", [])
    # The next turn passes it, whichever attempt.
    assert (await agent.say("on"))["result"] == "begun guarded"


async def test_a_graphs_own_checkpointer_decides_too(folder):
    async with Agent(folder, "own", checkpointer="own") as agent:
        first = {"log": ["first"]}
        await agent.ask("delete", first=first)
        assert (await agent.say("yes", first=first))["result"] == "first deleted=yes"
        # No first values on a thread that has state; an attempt that goes on says nothing twice.
        (question,) = await agent.ask("delete", first=first)
        assert (await agent.say(resume=[{question["id"]: "no"}], first=first))["result"] == "first deleted=yes deleted=no"
        assert agent.gateway.store.checkpoints == {}
