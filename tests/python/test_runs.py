"""Runs as a gateway sees them."""

from __future__ import annotations

import asyncio
import json
import time
import uuid

from gateway import Gateway

HELLO = {"messages": [{"role": "user", "content": "hello"}]}


def thread() -> str:
    return f"thread-{uuid.uuid4()}"


async def test_toy_run_answers_with_values_usage_and_steps(gateway):
    end = await gateway.run(HELLO, stream_modes=["updates", "values"])

    assert end["status"] == "success"
    assert end["values"]["model_calls"] == 2
    assert end["steps"] == 3
    assert [u["input"] for u in end["usage"]] == [12, 12]
    assert not end["unmetered"]
    assert len(end["frames"].events("updates")) == 3
    assert end["frames"].kinds()[-1] == "end"


async def test_chat_answer_is_the_last_ai_text(gateway):
    end = await gateway.run(HELLO, answer="chat")
    assert end["result"] == "It is sunny in Paris."
    assert end.get("messages") is None and end["values"] is None

    end = await gateway.run(HELLO, answer="chat", full=True)
    assert [m["type"] for m in json.loads(end["messages"])] == ["human", "ai", "tool", "ai"]
    assert end["values"]["tool_calls"] == 1


async def test_second_turn_remembers_by_read_and_by_given_state(gateway):
    t = thread()
    await gateway.run(HELLO, graph="memory", thread_id=t, state={"tuple": None})
    end = await gateway.run(HELLO, graph="memory", thread_id=t, answer="chat")
    assert end["result"] == "heard 2: hello"
    assert "read" in end["frames"].kinds()

    newest = gateway.store.read({"thread_id": t, "ns": "", "limit": 1})[0]
    end = await gateway.run(HELLO, graph="memory", thread_id=t, answer="chat", state={"tuple": newest})
    assert end["result"] == "heard 3: hello"
    assert "read" not in end["frames"].kinds()


async def test_a_run_can_start_from_an_older_checkpoint(gateway):
    t = thread()
    await gateway.run(HELLO, graph="memory", thread_id=t)
    first_turn = gateway.store.read({"thread_id": t, "ns": "", "limit": 1})[0]["checkpoint_id"]
    await gateway.run(HELLO, graph="memory", thread_id=t)
    end = await gateway.run(HELLO, graph="memory", thread_id=t, answer="chat", checkpoint_id=first_turn)
    assert end["result"] == "heard 2: hello"


async def test_interrupt_and_resume(gateway):
    t = thread()
    end = await gateway.run(HELLO, graph="asking", thread_id=t, answer="chat")
    assert end["status"] == "interrupted"
    assert end["result"] is None
    (interrupt,) = json.loads(end["interrupts"])
    assert interrupt["value"] == {"question": "go on?"}

    end = await gateway.run(None, graph="asking", thread_id=t, answer="chat", command={"resume": "yes"})
    assert (end["status"], end["result"]) == ("success", "you said yes")


async def test_recursion_limit_is_an_error_of_its_own_type(gateway):
    end = await gateway.run(HELLO, graph="looping", recursion_limit=4)
    assert end["status"] == "error"
    assert end["error"]["type"] == "GraphRecursionError"
    assert end["error"]["public"]
    assert len(end["values"]["log"]) == 4


async def test_timeouts_end_runs_whatever_their_code_does(gateway):
    for graph, at_most in (("sleeping", 2), ("sync_blocking", 2), ("stubborn_graph", 5)):
        begun = time.monotonic()
        end = await gateway.run(HELLO, graph=graph, timeout_ms=500)
        assert end["status"] == "timeout", graph
        assert end["error"]["type"] == "TimeoutError"
        assert time.monotonic() - begun < at_most, graph


async def test_a_node_that_blocks_the_loop_stops_neither_pings_nor_time_outs(gateway, replica):
    run = await gateway.start(HELLO, graph="async_blocking", timeout_ms=500)
    await asyncio.sleep(0.3)
    begun = time.monotonic()
    await gateway.send("ping", n=7)
    pong = await asyncio.wait_for(gateway.pongs.get(), 5)
    assert time.monotonic() - begun < 0.5
    assert pong == {"n": 7, "runs": 1}
    end = await run.end()
    assert end["status"] == "timeout"
    assert time.monotonic() - begun < 4
    # The blocked loop comes back and serves on; what it says about the ended run is dropped.
    assert (await gateway.run(HELLO))["status"] == "success"
    assert run.kinds()[-1] == "end"


async def test_sync_nodes_run_beside_each_other(gateway):
    begun = time.monotonic()
    runs = [await gateway.start(HELLO, graph="sync_blocking", timeout_ms=1500) for _ in range(8)]
    assert (await gateway.run(HELLO))["status"] == "success"
    assert time.monotonic() - begun < 1.5
    assert {(await run.end())["status"] for run in runs} == {"timeout"}


async def test_cancel(gateway):
    run = await gateway.start(HELLO, graph="sleeping")
    await asyncio.sleep(0.3)
    await gateway.send("cancel", run=run.id, attempt=2, action="interrupt", reason="another attempt's")
    await gateway.send("cancel", run=run.id, attempt=1, action="interrupt", reason="asked")
    assert (await run.end(3))["status"] == "cancelled"


async def test_drain_stops_at_the_next_step_and_the_run_goes_on(gateway):
    t = thread()
    run = await gateway.start(HELLO, graph="two_steps", thread_id=t)
    await asyncio.sleep(0.2)
    await gateway.send("drain", run=None, reason="rollout")
    end = await run.end()
    if gateway.describe["drain"]:
        assert end["status"] == "drained"
        assert json.loads(end["values"])["log"] == ["first"]
        end = await gateway.run(None, graph="two_steps", thread_id=t)
        assert end["status"] == "success"
        assert end["values"]["log"] == ["first", "second"]
    else:
        assert end["status"] == "success"


async def test_a_second_gateway_has_runs_of_its_own(gateway, replica):
    run = await gateway.start(HELLO, graph="sleeping", timeout_ms=1500)
    async with Gateway().connected(replica.path) as other:
        await other.send("drain", run=None, reason="mine only")
        assert (await other.run(HELLO))["status"] == "success"
    assert (await run.end())["status"] == "timeout"


async def test_durability_sync_waits_for_each_checkpoint(gateway):
    end = await gateway.run(HELLO, durability="sync")
    checkpoints = [f for kind, f in end["frames"].frames if kind == "checkpoint"]
    assert end["status"] == "success" and checkpoints and all(f["id"] for f in checkpoints)
    end = await gateway.run(HELLO, durability="exit")
    assert end["frames"].kinds().count("checkpoint") == 1


async def test_stateless_runs_keep_nothing(gateway):
    end = await gateway.run(HELLO, thread_id=None)
    assert end["status"] == "success"
    assert set(end["frames"].kinds()) == {"end"}


async def test_subgraphs_with_savers_of_their_own_use_ours(gateway):
    t = thread()
    end = await gateway.run(HELLO, graph="nested", thread_id=t)
    assert end["status"] == "success" and end["values"]["log"] == ["after"]
    namespaces = {ns.partition(":")[0] for owner, ns, _ in gateway.store.checkpoints if owner == t}
    assert namespaces == {"", "sub"}

    end = await gateway.run(HELLO, graph="nested_call", thread_id=thread(), answer="chat")
    assert end["result"] == "heard 1: hello"
    notes = gateway.describe["notes"]
    assert "graph nested was compiled with a checkpointer of its own; ours is used" in notes
    assert any("inner has an in-memory checkpointer" in note for note in notes)


async def test_subgraphs_may_remember_between_turns(gateway):
    t = thread()
    await gateway.run(HELLO, graph="stateful_subgraph", thread_id=t)
    end = await gateway.run(HELLO, graph="stateful_subgraph", thread_id=t)
    assert end["status"] == "success"
    assert {ns for owner, ns, _ in gateway.store.checkpoints if owner == t} == {"", "sub"}


async def test_state_can_be_read_inside_nodes_on_threads_and_on_the_loop(gateway):
    end = await gateway.run(HELLO, graph="looking")
    assert end["status"] == "success", end
    assert end["values"]["log"][1] == "history True" and end["values"]["log"][3] == "history True"


async def test_a_run_reaches_no_other_thread(gateway):
    t = thread()
    end = await gateway.run(HELLO, graph="spying", thread_id=t)
    assert end["values"]["log"] == [f"a run reaches only its own thread {t}, not thread somebody-else"]
    await gateway.run(HELLO, graph="memory", thread_id=t, configurable={"thread_id": "x", "checkpoint_ns": "y"})
    assert {owner for owner, _, _ in gateway.store.checkpoints} == {t}
    assert gateway.refused == []


async def test_usage_counts_each_new_message_once(gateway):
    t = thread()
    for _ in range(2):
        end = await gateway.run(HELLO, graph="metered_graph", thread_id=t)
        (usage,) = end["usage"]
        assert (usage["model"], usage["provider"]) == ("m-1", "p")
        assert (usage["input"], usage["output"], usage["cache_read"]) == (7, 3, 2)
        assert not end["unmetered"]
    end = await gateway.run(HELLO, graph="unmetered_graph")
    assert end["usage"] == [] and end["unmetered"]


async def test_model_calls_count_whose_messages_stay_out_of_the_state(gateway):
    end = await gateway.run(HELLO, graph="thinking")
    assert end["status"] == "success"
    assert [usage["input"] for usage in end["usage"]] == [5, 5], end["usage"]


async def test_values_that_jsonb_cannot_hold(gateway):
    t = thread()
    end = await gateway.run({"plain": "é"}, graph="inline_odd", thread_id=t)
    assert end["values"]["plain"] == "'a\\x00b' inf"
    end = await gateway.run({"odd": "make"}, graph="odd_graph", thread_id=thread())
    assert end["status"] == "success"
    assert end["values"]["odd"] is None


async def test_errors_name_type_and_run(gateway, replica):
    t = thread()
    end = await gateway.run(HELLO, graph="failing", thread_id=t)
    assert end["status"] == "error"
    assert end["error"]["type"] == "ValueError" and end["error"]["public"]
    line = next(line for line in replica.text().splitlines() if t in line)
    assert f"thread_id={t} run_id={end['run']}" in line and "ValueError" in line
    assert 'raise ValueError("no good' in replica.text()

    end = await gateway.run(HELLO, graph="nowhere")
    assert end["error"]["type"] == "ValueError"


async def test_step_keys_are_the_same_again(gateway):
    t = thread()
    end = await gateway.run(HELLO, graph="keyed", thread_id=t)
    assert end["values"]["log"] == [f"{t}:1", f"{t}:1", f"{t}:2", f"{t}:2"]
    end = await gateway.run(HELLO, graph="keyed_subgraph", thread_id=t2) if (t2 := thread()) else None
    (key,) = set(end["values"]["log"])
    assert key.startswith(f"{t2}:1:sub:")


async def test_builders_modules_and_factories(gateway):
    for graph in ("builder", "by_module", "zero", "azero"):
        end = await gateway.run(HELLO, graph=graph, answer="chat")
        assert end["result"] == "heard 1: hello", graph
    end = await gateway.run(HELLO, graph="with_config", configurable={"who": "Ada"})
    assert end["values"]["log"] == ["hello Ada"]
    end = await gateway.run(HELLO, graph="managed")
    assert end["values"]["log"] == ["open"]
    end = await gateway.run(HELLO, graph="by_runtime", context={"name": "Ada"})
    assert end["values"]["log"] == ["run for Ada", "threads.create_run"]
    end = await gateway.run(HELLO, graph="by_both", configurable={"who": "Ada"})
    assert end["values"]["log"] == ["Ada", "threads.create_run"]
    end = await gateway.run(HELLO, graph="generator")
    assert end["values"]["log"] == ["generated"]
    end = await gateway.run(HELLO, graph="contextual", context={"name": "Ada"})
    assert end["values"]["log"] == ["Ada"]


async def test_functional_graphs_keep_their_previous_value(gateway):
    t = thread()
    assert (await gateway.run(2, graph="functional", thread_id=t))["values"] == 4
    assert (await gateway.run(3, graph="functional", thread_id=t))["values"] == 10


async def test_subgraph_events_only_where_asked(gateway):
    end = await gateway.run(HELLO, graph="nested", stream_modes=["updates"])
    assert {tuple(f["ns"]) for k, f in end["frames"].frames if k == "event"} == {()}
    end = await gateway.run(HELLO, graph="nested", stream_modes=["updates"], subgraphs=True)
    assert any(f["ns"] for k, f in end["frames"].frames if k == "event")


async def test_a_newer_attempt_fences_the_older(gateway, replica):
    older = await gateway.start(HELLO, graph="sleeping", attempt=1)
    await asyncio.sleep(0.2)
    async with Gateway().connected(replica.path) as other:
        newer = await other.run(HELLO, graph="memory", run=older.id, attempt=2, thread_id=older.thread_id)
    assert (newer["status"], newer["attempt"]) == ("success", 2)
    end = await older.end()
    assert (end["status"], end["attempt"]) == ("cancelled", 1)


async def test_describe(gateway):
    graph = gateway.describe["graphs"]["agent"]
    assert gateway.describe["protocol"] == 2
    assert graph["nodes"] == ["model", "tools"]
    assert graph["channels"]["messages"] == {"type": "BinaryOperatorAggregate", "reducer": "add_messages"}
    assert set(graph["state"]["properties"]) == {"messages", "model_calls", "tool_calls"}
    assert gateway.describe["graphs"]["contextual"]["context"]["properties"]["name"] == {"title": "Name", "type": "string"}
    assert not [note for note in gateway.describe["notes"] if "schema" in note]
