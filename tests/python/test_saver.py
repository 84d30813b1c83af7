"""The saver alone, on a store in this process: what the suite and the runs do not reach."""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import pytest
from stores import MemoryStore

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src" / "runner" / "python"))

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.base import id as ids
from langgraph.types import Send

from rapidclaw_runner import current_run, jsonable, wire
from rapidclaw_runner.session import Rows
from rapidclaw_runner.runs import Run, RunEnded, Runs
from rapidclaw_runner.frameworks.langgraph.saver import ForeignThread, NoRun, RemoteSaver


class Local:
    """A session whose gateway is this process."""

    is_away = has_pinged = False

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.reads = 0
        self.limits = []
        self.most = None

    def is_congested(self, run):
        return False

    def send(self, kind, fields):
        if kind == "checkpoint":
            self.store.put(fields)
        elif kind == "writes":
            self.store.put_writes(fields)
        return True

    def request(self, kind, fields):
        future = Future()
        self.reads += kind == "read"
        rows = self.store.read(fields) if kind == "read" else []
        self.limits.append(fields.get("limit") or 0)
        future.set_result(Rows(rows[: self.most], len(rows) > (self.most or len(rows))))
        return future


def make(thread_id="t"):
    runs, connection = Runs(8), Local()
    run = Run(connection, {"run": "r", "attempt": 1, "thread_id": thread_id, "graph": "g"}, 0.0)
    runs.add(run)
    return RemoteSaver(), run, connection


def config(thread_id="t", **more):
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": "", **more}}


def checkpoint(number, version=4, **values):
    versions = {name: f"{number:032}.0" for name in values}
    return {
        "v": version, "id": f"1ef00000-0000-6000-8000-{number:012}", "ts": "2026-01-01T00:00:00+00:00",
        "channel_values": values, "channel_versions": versions, "versions_seen": {}, "updated_channels": None,
    }  # fmt: skip


def test_outside_any_run_there_is_a_clear_error():
    saver, _, _ = make()
    with pytest.raises(NoRun, match="only inside a run"):
        saver.get_tuple(config("nobody"))


def test_a_bound_saver_works_without_context_and_a_run_reaches_no_other_thread():
    saver, run, _ = make()
    found = []
    bound = saver.bound_to(run)
    worker = threading.Thread(target=lambda: found.append(bound.get_tuple(config())))
    worker.start()
    worker.join()
    assert found == [None]
    token = current_run.set(run)
    try:
        for call in (
            lambda: saver.get_tuple(config("other")),
            lambda: list(saver.list(None)),
            lambda: saver.delete_thread("other"),
            lambda: saver.copy_thread("t", "other"),
            lambda: saver.delete_for_runs(["x"]),
            lambda: saver.prune(["t", "other"]),
        ):
            with pytest.raises(ForeignThread):
                call()
    finally:
        current_run.reset(token)


def test_an_ended_run_writes_nothing():
    saver, run, connection = make()
    current_run.set(run)
    try:
        run.end("success")
        point = checkpoint(1, a=[1])
        with pytest.raises(RunEnded):
            saver.put(config(), point, {"source": "loop", "step": 0}, point["channel_versions"])
        assert connection.store.checkpoints == {}
    finally:
        current_run.set(None)


def test_sends_of_old_checkpoints_come_from_their_parent():
    saver, run, connection = make()
    current_run.set(run)
    try:
        first = checkpoint(1, version=3, a=["x"])
        stored = saver.put(config(), first, {"source": "loop", "step": 0}, first["channel_versions"])
        for path, task in (("~b", "task-1"), ("~a", "task-2")):
            saver.put_writes(stored, [("__pregel_tasks", Send("node", task))], task, path)
        second = checkpoint(2, version=3, a=["x", "y"])
        saver.put(stored, second, {"source": "loop", "step": 1}, second["channel_versions"])
        loaded = saver.get_tuple(config())
        sends = loaded.checkpoint["channel_values"]["__pregel_tasks"]
        assert [send.arg for send in sends] == ["task-2", "task-1"]
        assert loaded.checkpoint["channel_versions"]["__pregel_tasks"] == f"{2:032}.0"
        assert connection.reads == 2
    finally:
        current_run.set(None)


def test_lists_are_read_in_pages():
    saver, run, connection = make()
    current_run.set(run)
    try:
        for number in range(1, 151):
            point = checkpoint(number, a=number)
            saver.put(config(), point, {"source": "loop", "step": number}, point["channel_versions"])
        steps = [found.metadata["step"] for found in saver.list(config())]
        assert steps == list(range(150, 0, -1))
        assert len(list(saver.list(config(), limit=70))) == 70
        assert len(list(saver.list(config(), filter={"step": 7}))) == 1
        assert connection.reads == 3 + 2 + 1
    finally:
        current_run.set(None)


def test_a_list_over_all_namespaces_is_read_in_pages_too():
    """Ids that two namespaces share, pages that are cut to what a message holds, and sub-agents' own left out."""
    saver, run, connection = make()
    current_run.set(run)
    try:
        for number in range(1, 101):
            point = checkpoint(number, a=number)
            for namespace in ("", "sub", ":agent:name"):
                saver.put(config(checkpoint_ns=namespace), point, {"source": "loop", "step": number}, {})
        everything = {"configurable": {"thread_id": "t"}}
        found = [(f.metadata["step"], f.config["configurable"]["checkpoint_ns"]) for f in saver.list(everything)]
        assert sorted(found) == sorted((number, name) for number in range(1, 101) for name in ("", "sub"))
        assert [step for step, _ in found] == sorted((step for step, _ in found), reverse=True)
        assert len(list(saver.list(everything, limit=7))) == 7
        assert max(connection.limits) <= 64 and connection.reads < 10
        connection.most = 10
        for how in (everything, config()):
            ids = [f.config["configurable"]["checkpoint_id"] for f in saver.list(how)]
            assert len(set(ids)) == 100
    finally:
        current_run.set(None)


@pytest.mark.parametrize("fork", [False, True])
def test_the_history_of_changes_is_read_in_pages(fork):
    """As the base class has it, that reads each ancestor alone; also where another branch lies between."""
    if not hasattr(BaseCheckpointSaver, "get_delta_channel_history"):
        pytest.skip("langgraph-checkpoint before DeltaChannel")
    saver, run, connection = make()
    current_run.set(run)
    try:
        parent = config()
        for number in range(1, 151):
            values = {"seeded": ["seed"]} if number == 20 else {}
            point = checkpoint(number, **values)
            place = saver.put(parent, point, {"source": "loop", "step": number}, point["channel_versions"])
            saver.put_writes(place, [("seeded", f"s{number}"), ("bare", f"b{number}")], f"task-{number}")
            if not (fork and number % 3 == 0):
                parent = place
        ways = {}
        for way in (BaseCheckpointSaver.get_delta_channel_history, RemoteSaver.get_delta_channel_history):
            connection.reads = 0
            ways[way] = way(saver, config=config(), channels=["seeded", "bare"]), connection.reads
        (wanted, many), (got, few) = ways.values()
        assert got == wanted and got["seeded"]["seed"] == ["seed"] and "seed" not in got["bare"]
        assert few <= 4 < 90 < many
    finally:
        current_run.set(None)


def test_checkpoints_go_on_after_yesterdays_when_the_clock_was_set_back(monkeypatch):
    saver, run, _ = make()
    current_run.set(run)
    try:
        first = checkpoint(1, a="before") | {"id": str(ids.uuid6())}
        saver.put(config(), first, {"source": "loop", "step": 0}, first["channel_versions"])
        # Another process of the replica, and the clock a day earlier.
        earlier = time.time_ns() - 86_400 * 10**9
        monkeypatch.setattr(ids, "_last_v6_timestamp", None)
        monkeypatch.setattr(time, "time_ns", lambda: earlier)
        assert saver.get_tuple(config()).checkpoint["channel_values"] == {"a": "before"}
        second = checkpoint(2, a="after") | {"id": str(ids.uuid6())}
        assert second["id"] > first["id"]
        saver.put(config(), second, {"source": "loop", "step": 1}, second["channel_versions"])
        assert saver.get_tuple(config()).checkpoint["channel_values"] == {"a": "after"}
    finally:
        current_run.set(None)


def test_json_never_fails():
    circle: list = []
    circle.append(circle)
    for value in ("a\ud800", 1 << 80, {1: 2}, {"a": {3}}, float("nan"), b"\xff", object(), circle, ValueError("x")):
        json.loads(jsonable.dumps({"value": value}))
    assert jsonable.dumps_jsonb({"a\x00": ["b\x00", "\\u0000"]}) == b'{"a":["b","\\\\u0000"]}'


def test_large_frames_travel_in_pieces():
    message = wire.pack("event", {"data": b"x" * (3 << 20)})
    assert message[0] == 0x02
    with pytest.raises(wire.TooLarge):
        wire.pack("event", {"data": b"x" * (65 << 20)})
