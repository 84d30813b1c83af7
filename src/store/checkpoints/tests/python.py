"""LangGraph's own saver on our tables: `setup`, `write` or `read` a thread, told as JSON on stdout."""

import json
import sys

import psycopg
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.postgres import PostgresSaver
from psycopg.rows import dict_row

THREAD = "thread ä"


def config(ns="", **more):
    return {"configurable": {"thread_id": THREAD, "checkpoint_ns": ns, **more}}


def write(saver):
    parent = config()
    version = None
    for step in range(3):
        version = saver.get_next_version(version, None)
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {
            "messages": [{"text": f"hällo {step}"}],
            "count": step,
            "note": "inline",
            "none": None,
        }
        checkpoint["channel_versions"] = {"messages": version, "count": version, "never": version}
        new = {"messages": version, "count": version, "never": version}
        metadata = {"source": "loop", "step": step, "parents": {}, "run_id": f"run-{step}"}
        parent = saver.put(parent, checkpoint, metadata, new)
    saver.put_writes(parent, [("messages", ["b"]), ("count", 5)], "task-b", "~b")
    saver.put_writes(parent, [("messages", ["Z"])], "task-z", "~Z")
    saver.put_writes(parent, [("__error__", "first")], "task-b", "~b")
    saver.put_writes(parent, [("__error__", "second")], "task-b", "~b")
    saver.put_writes(parent, [("messages", ["kept: the first"])], "task-z", "~Z")


def told(saver, found):
    values = found.checkpoint["channel_values"]
    return {
        "checkpoint_id": found.config["configurable"]["checkpoint_id"],
        "parent_id": found.parent_config and found.parent_config["configurable"]["checkpoint_id"],
        "checkpoint": {k: v for k, v in found.checkpoint.items() if k != "channel_values"},
        "metadata": found.metadata,
        "values": values,
        "typed": {k: (lambda t: [t[0], t[1].hex()])(saver.serde.dumps_typed(v)) for k, v in values.items()},
        "writes": [[t, c, v, (lambda t: [t[0], t[1].hex()])(saver.serde.dumps_typed(v))] for t, c, v in found.pending_writes],
    }


def main(url, schema, what):
    quoted = '"' + schema.replace('"', '""') + '"'
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
        connection.execute(f"SET search_path TO {quoted}")
        saver = PostgresSaver(connection)
        if what == "setup":
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted}")
            saver.setup()
            return
        # Nothing to do: every migration after the table of migrations itself would fail.
        saver.MIGRATIONS = saver.MIGRATIONS[:1] + ["SELECT 1 / 0"] * (len(saver.MIGRATIONS) - 1)
        saver.setup()
        if what == "write":
            write(saver)
        newest = saver.get_tuple(config())
        print(json.dumps({"newest": told(saver, newest), "all": [told(saver, one) for one in saver.list(config())]}))


main(*sys.argv[1:])
