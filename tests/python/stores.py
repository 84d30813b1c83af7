"""What a gateway does with a replica's frames: in memory, and in LangGraph's own Postgres tables.

Both keep exactly what PROTOCOL.md says a gateway keeps. They serve the tests only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


class MemoryStore:
    def __init__(self) -> None:
        self.checkpoints: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.blobs: dict[tuple[str, str, str, str], tuple[str, bytes | None]] = {}
        self.writes: dict[tuple[str, str, str, str, int], dict[str, Any]] = {}

    def put(self, f: dict[str, Any]) -> None:
        json.loads(f["checkpoint"])
        assert b"\\u0000" not in f["checkpoint"]
        self.checkpoints[f["thread_id"], f["ns"], f["checkpoint_id"]] = f
        for channel, version, kind, data in f["blobs"]:
            self.blobs.setdefault((f["thread_id"], f["ns"], channel, version), (kind, data))

    def put_writes(self, f: dict[str, Any]) -> None:
        for idx, channel, kind, data in f["writes"]:
            key = (f["thread_id"], f["ns"], f["checkpoint_id"], f["task_id"], idx)
            write = {"channel": channel, "type": kind, "data": data, "path": f["task_path"]}
            if f["overwrite"]:
                self.writes[key] = write
            else:
                self.writes.setdefault(key, write)

    def _tuple(self, f: dict[str, Any]) -> dict[str, Any]:
        thread, ns, cid = f["thread_id"], f["ns"], f["checkpoint_id"]
        blobs = []
        for channel, version in json.loads(f["checkpoint"])["channel_versions"].items():
            found = self.blobs.get((thread, ns, channel, str(version)))
            if found is not None:
                blobs.append([channel, *found])
        writes = [
            [key[3], w["channel"], w["type"], w["data"], w["path"], key[4]]
            for key, w in self.writes.items()
            if key[:3] == (thread, ns, cid)
        ]
        writes.sort(key=lambda w: (w[4], w[0], w[5]))
        fields = ("thread_id", "ns", "checkpoint_id", "parent_id", "checkpoint", "metadata")
        return {name: f[name] for name in fields} | {"blobs": blobs, "writes": writes}

    def read(self, f: dict[str, Any]) -> list[dict[str, Any]]:
        wanted = json.loads(f["filter"]) if f.get("filter") else {}
        found = []
        for row in self.checkpoints.values():
            metadata = json.loads(row["metadata"])
            if (
                f.get("thread_id") in (None, row["thread_id"])
                and f.get("ns") in (None, row["ns"])
                and f.get("checkpoint_id") in (None, row["checkpoint_id"])
                and (f.get("before") is None or row["checkpoint_id"] < f["before"])
                and all(metadata.get(key) == value for key, value in wanted.items())
            ):
                found.append(row)
        found.sort(key=lambda row: row["checkpoint_id"], reverse=True)
        return [self._tuple(row) for row in found[: f.get("limit")]]

    def _delete(self, keep: Any) -> None:
        for table in (self.checkpoints, self.blobs, self.writes):
            for key in [key for key in table if not keep(key)]:
                del table[key]

    def manage(self, op: str, args: dict[str, Any]) -> None:
        if op == "delete_thread":
            self._delete(lambda key: key[0] != args["thread_id"])
        elif op == "copy_thread":
            source, target = args["source_thread_id"], args["target_thread_id"]
            for table in (self.checkpoints, self.blobs, self.writes):
                for key, value in list(table.items()):
                    if key[0] == source:
                        copied = dict(value, thread_id=target) if table is self.checkpoints else value
                        table[(target, *key[1:])] = copied
        elif op == "delete_for_runs":
            gone = {
                key
                for key, row in self.checkpoints.items()
                if json.loads(row["metadata"]).get("run_id") in args["run_ids"]
            }
            self._delete(lambda key: len(key) == 4 or key[:3] not in gone)
        elif op == "prune":
            threads = set(args["thread_ids"])
            newest: dict[tuple[str, str], str] = {}
            for thread, ns, cid in self.checkpoints:
                newest[thread, ns] = max(cid, newest.get((thread, ns), ""))
            keep_all = args["strategy"] == "delete"

            def keep(key: tuple[Any, ...]) -> bool:
                if key[0] not in threads:
                    return True
                return not keep_all and (len(key) == 4 or newest.get(key[:2]) == key[2])

            self._delete(keep)
        else:
            raise ValueError(f"unknown op {op}")


class PostgresStore:
    """The same in the tables of `langgraph-checkpoint-postgres`, over one psycopg connection."""

    def __init__(self, connection: Any) -> None:
        self.db = connection

    def put(self, f: dict[str, Any]) -> None:
        with self.db.transaction():
            for channel, version, kind, data in f["blobs"]:
                self.db.execute(
                    "INSERT INTO checkpoint_blobs VALUES (%s,%s,%s,%s,%s,%s) ON CONFLICT DO NOTHING",
                    (f["thread_id"], f["ns"], channel, version, kind, data),
                )
            self.db.execute(
                "INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id,"
                " checkpoint, metadata) VALUES (%s,%s,%s,%s,%s::jsonb,%s::jsonb)"
                " ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id)"
                " DO UPDATE SET checkpoint = EXCLUDED.checkpoint, metadata = EXCLUDED.metadata",
                (f["thread_id"], f["ns"], f["checkpoint_id"], f["parent_id"],
                 f["checkpoint"].decode(), f["metadata"].decode()),
            )  # fmt: skip

    def put_writes(self, f: dict[str, Any]) -> None:
        conflict = (
            "DO UPDATE SET channel = EXCLUDED.channel, type = EXCLUDED.type, blob = EXCLUDED.blob"
            if f["overwrite"]
            else "DO NOTHING"
        )
        with self.db.transaction():
            for idx, channel, kind, data in f["writes"]:
                self.db.execute(
                    "INSERT INTO checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id,"
                    " task_path, idx, channel, type, blob) VALUES (%s,%s,%s,%s,%s,%s,%s,%s,%s)"
                    f" ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) {conflict}",
                    (f["thread_id"], f["ns"], f["checkpoint_id"], f["task_id"], f["task_path"], idx,
                     channel, kind, data),
                )  # fmt: skip

    def read(self, f: dict[str, Any]) -> list[dict[str, Any]]:
        wheres, values = [], []
        for column, test, value in (
            ("thread_id", "=", f.get("thread_id")),
            ("checkpoint_ns", "=", f.get("ns")),
            ("checkpoint_id", "=", f.get("checkpoint_id")),
            ("checkpoint_id", "<", f.get("before")),
        ):
            if value is not None:
                wheres.append(f"{column} {test} %s")
                values.append(value)
        if f.get("filter"):
            wheres.append("metadata @> %s::jsonb")
            values.append(f["filter"].decode())
        query = (
            "SELECT thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint::text,"
            " metadata::text FROM checkpoints"
            + (" WHERE " + " AND ".join(wheres) if wheres else "")
            + " ORDER BY checkpoint_id DESC"
            + (f" LIMIT {int(f['limit'])}" if f.get("limit") is not None else "")
        )
        return [self._tuple(*row) for row in self.db.execute(query, values).fetchall()]

    def _tuple(self, thread: str, ns: str, cid: str, parent: str, checkpoint: str, metadata: str) -> dict[str, Any]:
        blobs = []
        for channel, version in json.loads(checkpoint)["channel_versions"].items():
            row = self.db.execute(
                "SELECT channel, type, blob FROM checkpoint_blobs"
                " WHERE thread_id=%s AND checkpoint_ns=%s AND channel=%s AND version=%s",
                (thread, ns, channel, str(version)),
            ).fetchone()
            if row:
                blobs.append(list(row))
        writes = self.db.execute(
            "SELECT task_id, channel, type, blob, task_path, idx FROM checkpoint_writes"
            " WHERE thread_id=%s AND checkpoint_ns=%s AND checkpoint_id=%s ORDER BY task_path, task_id, idx",
            (thread, ns, cid),
        ).fetchall()
        return {
            "thread_id": thread, "ns": ns, "checkpoint_id": cid, "parent_id": parent,
            "checkpoint": checkpoint.encode(), "metadata": metadata.encode(),
            "blobs": blobs, "writes": [list(write) for write in writes],
        }  # fmt: skip

    def _tables(self) -> Iterator[str]:
        yield from ("checkpoints", "checkpoint_blobs", "checkpoint_writes")

    def manage(self, op: str, args: dict[str, Any]) -> None:
        with self.db.transaction():
            if op == "delete_thread":
                for table in self._tables():
                    self.db.execute(f"DELETE FROM {table} WHERE thread_id=%s", (args["thread_id"],))
            elif op == "copy_thread":
                columns = {
                    "checkpoints": "checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata",
                    "checkpoint_blobs": "checkpoint_ns, channel, version, type, blob",
                    "checkpoint_writes": "checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob, task_path",
                }
                for table, names in columns.items():
                    self.db.execute(
                        f"INSERT INTO {table} (thread_id, {names}) SELECT %s, {names} FROM {table}"
                        " WHERE thread_id=%s ON CONFLICT DO NOTHING",
                        (args["target_thread_id"], args["source_thread_id"]),
                    )
            elif op == "delete_for_runs":
                self.db.execute(
                    "DELETE FROM checkpoint_writes w USING checkpoints c WHERE c.thread_id=w.thread_id"
                    " AND c.checkpoint_ns=w.checkpoint_ns AND c.checkpoint_id=w.checkpoint_id"
                    " AND c.metadata->>'run_id' = ANY(%s)",
                    (args["run_ids"],),
                )
                self.db.execute("DELETE FROM checkpoints WHERE metadata->>'run_id' = ANY(%s)", (args["run_ids"],))
            elif op == "prune" and args["strategy"] == "delete":
                for table in self._tables():
                    self.db.execute(f"DELETE FROM {table} WHERE thread_id = ANY(%s)", (args["thread_ids"],))
            elif op == "prune":
                for table in ("checkpoint_writes", "checkpoints"):
                    self.db.execute(
                        f"DELETE FROM {table} t WHERE thread_id = ANY(%s) AND EXISTS (SELECT 1 FROM checkpoints n"
                        " WHERE n.thread_id=t.thread_id AND n.checkpoint_ns=t.checkpoint_ns"
                        " AND n.checkpoint_id > t.checkpoint_id)",
                        (args["thread_ids"],),
                    )
            else:
                raise ValueError(f"unknown op {op}")
