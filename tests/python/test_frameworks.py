"""The seam for frameworks: the core gets along without LangGraph, and a plain Python turn is a second one."""

from __future__ import annotations

import ast
import asyncio
import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from gateway import PACKAGE, PROJECTS, Gateway, Replica

TURNS = "remembering telling answering silent failing odd optional factory".split()
GRAPHS = {name: f"{PROJECTS}/turns.py:{name}" for name in TURNS} | {"memory": f"{PROJECTS}/graphs.py:memory"}
LANGGRAPH = ("langgraph", "langchain", "langchain_core", "langgraph_sdk", "langsmith")

BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def imported(file: Path) -> set[str]:
    """The packages that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return found


def test_only_the_adapter_imports_langgraph():
    adapter = PACKAGE / "frameworks" / "langgraph"
    files = [file for file in PACKAGE.rglob("*.py") if not file.is_relative_to(adapter)]
    assert len(files) > 20
    assert {file.name: found for file in files if (found := imported(file) & set(LANGGRAPH))} == {}
    assert any(imported(file) & set(LANGGRAPH) for file in adapter.glob("*.py"))


def test_the_core_is_imported_where_langgraph_is_not_installed():
    names = [
        ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
        for file in PACKAGE.rglob("*.py")
        if not file.is_relative_to(PACKAGE / "frameworks" / "langgraph") and file.name not in ("__main__.py", "supervisor.py")
    ]
    code = BLOCKED.format(blocked=LANGGRAPH) + f"sys.path.insert(0, {str(PACKAGE.parent)!r})\n"
    code += "".join(f"import {name.removesuffix('.__init__')}\n" for name in sorted(names))
    code += f"print([name for name in sys.modules if name.partition('.')[0] in {LANGGRAPH!r}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def without_langgraph(folder: Path, graphs: dict[str, str]) -> Replica:
    """A replica in whose environment LangGraph cannot be imported: the project's module sees to that first."""
    (folder / "blocking.py").write_text(BLOCKED.format(blocked=LANGGRAPH) + "async def turn(thread, message, emit): ...\n")
    return Replica(folder, {"first": f"{folder}/blocking.py:turn"} | graphs)


async def test_a_project_of_plain_turns_needs_no_langgraph(folder):
    replica = without_langgraph(folder, {"telling": f"{PROJECTS}/turns.py:telling"})
    async with replica, Gateway().connected(replica.path) as gateway:
        assert (await gateway.run({}, graph="telling", answer="chat", state=NONE))["result"] == "one two"
        told = gateway.describe
    assert (told["framework"], told["versions"], told["drain"]) == ("python", {}, False)


async def test_a_graph_without_langgraph_says_what_is_missing(folder):
    replica = without_langgraph(folder, {"agent": "json:dumps"})
    await replica.launch()
    assert await replica.exit_code() == 3
    last = replica.text().strip().splitlines()[-1]
    assert last.startswith("rapidclaw: graph agent: NoTarget: this function is no turn") and "add langgraph" in last


@pytest.mark.parametrize("name", ["not_async", "yielding"])
async def test_a_function_that_is_nearly_a_turn_says_what_to_write(folder, name):
    replica = Replica(folder, {"agent": f"{PROJECTS}/turns.py:{name}"})
    # It ends before anybody could connect.
    await replica.launch()
    assert await replica.exit_code() == 3
    assert "write it as `async def`, with `return` instead of `yield`" in replica.text()


NONE = {"tuple": None, "document": None}


async def turn(gateway: Gateway, graph: str, text: str | None = None, document: bytes | None = None, **fields):
    fields = {"turn": json.dumps({"message": text, "input": {}}).encode()} | fields
    state = NONE | {"document": document}
    return await gateway.run(graph=graph, answer="chat", state=state, metadata={"user_id": "ann"}, **fields)


async def test_a_turn_reads_and_replaces_the_document_of_its_thread(own_gateway):
    first = await turn(own_gateway, "remembering", "a")
    assert (first["status"], first["result"], first["steps"]) == ("success", "ann said a", 1)
    assert json.loads(first["document"]) == {"said": ["a"]}
    second = await turn(own_gateway, "remembering", "b", first["document"], full=True)
    assert (second["result"], second["values"]) == ("ann said a, b", {"said": ["a", "b"]})
    # Nothing but its end was sent, what it used is not known, and what did not change is not sent.
    assert second["frames"].kinds() == ["end"] and second["unmetered"]
    kept = await turn(own_gateway, "silent", "c", second["document"])
    assert (kept["result"], kept.get("document")) == (None, None)


async def test_what_a_turn_emits_is_its_answer_where_it_returns_none(own_gateway):
    told = await turn(own_gateway, "telling", "x", stream_modes=["custom", "values"])
    assert (told["result"], told.get("document")) == ("one two", None)
    assert told["frames"].events("custom") == ["one ", {"progress": 0.5}, "two"]
    # What else it returns is told as JSON.
    fields = {"turn": json.dumps({"input": {"q": 1}, "anew": True}).encode(), "context": {"c": 2}}
    run = str(uuid.uuid4())
    answered = json.loads((await turn(own_gateway, "answering", run=run, thread_id="t", **fields))["result"])
    assert answered == {"input": {"q": 1}, "context": {"c": 2}, "key": f"t:{run}", "thread": "t"}
    assert (await turn(own_gateway, "optional", "x"))["result"] == "optional"


async def test_a_document_comes_back_as_it_was_written(own_gateway):
    first = await turn(own_gateway, "odd", "x")
    assert (await turn(own_gateway, "odd", "x", first["document"]))["result"] == "same"


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("value", "ValueError", "no such order"),
        ("exit", "SystemExit", "7"),
        ("keyboard", "KeyboardInterrupt", ""),
        ("set", "TypeError", "the thread's state cannot be saved as JSON: Object of type set is not JSON serializable"),
        ("nan", "TypeError", "the thread's state cannot be saved as JSON: Out of range float values"),
        ("large", "StateTooLarge", "the thread's state has 2002 bytes, and `limits.state_bytes` allows 1000"),
    ],
)
async def test_a_turn_that_fails_leaves_the_document_as_it_was(own_gateway, text, kind, message):
    failed = await turn(own_gateway, "failing", text, b'"before"', state_bytes=1000)
    assert (failed["status"], failed["error"]["type"], failed.get("document")) == ("error", kind, None)
    assert failed["error"]["message"].startswith(message), failed["error"]


async def test_time_outs_cancels_and_code_that_does_not_stop_are_as_for_graphs(own_gateway):
    timed_out, stubborn = await asyncio.gather(
        turn(own_gateway, "failing", "sleeping", timeout_ms=300), turn(own_gateway, "failing", "stubborn", timeout_ms=300)
    )
    assert [one["status"] for one in (timed_out, stubborn)] == ["timeout"] * 2
    assert [one.get("document") for one in (timed_out, stubborn)] == [None] * 2
    run = await own_gateway.start(graph="failing", turn=json.dumps({"message": "sleeping"}).encode(), state=NONE)
    await own_gateway.send("cancel", run=run.id, attempt=1, action="interrupt", reason="test")
    assert (await run.end())["status"] == "cancelled"


async def test_a_turn_that_blocks_the_loop_is_named(own_gateway):
    run = await own_gateway.start(graph="failing", turn=json.dumps({"message": "blocking"}).encode(), state=NONE)
    await asyncio.sleep(2)
    await own_gateway.send("ping", n=7)
    while (pong := await asyncio.wait_for(own_gateway.pongs.get(), 10))["n"] != 7:
        pass
    assert (pong["stalled"]["run"], pong["stalled"]["node"]) == (run.id, None)
    assert "turns.py:" in pong["stalled"]["where"] and " in failing" in pong["stalled"]["where"]
    assert (await run.end())["status"] == "success"


async def test_what_a_turn_cannot_do_is_refused(own_gateway):
    resumed = await turn(own_gateway, "silent", turn=json.dumps({"resume": [1]}).encode())
    assert resumed["error"]["code"] == "nothing-to-resume"
    # A server of before would lose the document.
    old = await own_gateway.run(graph="silent", state={"tuple": None}, turn=json.dumps({"message": "x"}).encode())
    assert (old["error"]["type"], old["error"]["public"]) == ("NoDocuments", True)
    strange = await turn(own_gateway, "silent", "x", stream_modes=["dreams"])
    assert strange["error"]["message"] == "stream mode dreams is not supported"
    # Without a thread there is no document, either way.
    assert (await turn(own_gateway, "remembering", "a", thread_id=None)).get("document") is None


async def test_turns_and_graphs_are_described_side_by_side(own_gateway):
    told = own_gateway.describe
    assert told["framework"] == "python+langgraph"
    said, graph = told["graphs"]["remembering"], told["graphs"]["memory"]
    assert (said["stored_as"], said["framework"]["name"], said["input"]) == ("document", "python", None)
    assert (graph["stored_as"], graph["framework"]["name"]) == ("checkpoints", "langgraph")
    assert graph["framework"]["version"] == told["versions"]["langgraph"] and graph["input"]["properties"]
    # An async factory that takes a config is a graph's.
    assert told["graphs"]["factory"]["stored_as"] == "checkpoints"
    assert (await own_gateway.run({"messages": [{"role": "user", "content": "hi"}]}, graph="memory"))["status"] == "success"


async def test_a_turn_that_ends_its_replica_has_no_end_and_so_no_document(folder):
    async with Replica(folder, {"failing": GRAPHS["failing"]}) as replica, Gateway().connected(replica.path) as gateway:
        run = await gateway.start(graph="failing", turn=json.dumps({"message": "killing"}).encode(), state=NONE)
        assert await replica.exit_code() == 9
        assert run.kinds() == []


async def test_a_replica_that_ends_gives_a_turn_back(folder):
    env = {"RAPIDCLAW_GRACE_SECONDS": "0.3"}
    async with Replica(folder, {"failing": GRAPHS["failing"]}, environment=env) as replica:
        async with Gateway().connected(replica.path) as gateway:
            run = await gateway.start(graph="failing", turn=json.dumps({"message": "sleeping"}).encode(), state=NONE)
            await asyncio.sleep(0.3)
            replica.process.terminate()
            assert (await run.end())["status"] == "drained"
