"""README.md's table of figures, of what the benchmarks said.

    python3 benches/figures.py FOLDER VERSION [--write README.md]

FOLDER holds the last line of each benchmark: `status.json`, `queue.json`, `push.json`, `run.json`, `doors.json`,
`poison.json`, `callback.json`, `validate.json` (may be missing). With `--write` the text between the two marks of the file is replaced.
"""

import json
import os
import platform
import sys
from datetime import date
from pathlib import Path

BEGIN, END = "<!-- made by benches/figures.sh -->", "<!-- end -->"

folder, version = Path(sys.argv[1]), sys.argv[2]
rows = [("", "rapidclaw", "beside it, in the same run", "aim")]


def told(name):
    path = folder / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


run, status, push, validate, queue = told("run"), told("status"), told("push"), told("validate"), told("queue")
doors, poison, callback = told("doors"), told("poison"), told("callback")


def of(what, **fields):
    return [row for row in run if row["what"] == what and all(row.get(key) == value for key, value in fields.items())]


def deploy(which):
    return of("deploy", which=which)[0]["seconds"]


rows.append(("`rapidclaw --version`, median", f"{of('version')[0]['median_ms']} ms", "-", "10 ms"))
if validate:
    ours = f"{validate['median_ms']:.1f} ms; longest {validate['longest_ms']:.1f} ms"
    theirs = f"`langgraph validate`: {validate['langgraph_median_ms']:.0f} ms"
    rows.append((f"`validate`, {validate['manifests']} real manifests, median", ours, theirs, "10 ms"))
many, ask = status["status, 50 agents"], status["whoami"]
what = "`status`, 50 agents with 20 releases and 1000 runs an hour each, median"
rows.append((what, f"{many['median_ms']} ms", f"`whoami`: {ask['median_ms']} ms", "50 ms"))
if queue:
    longest = max(row["waiting"] for row in queue["queue"])
    for threads, on in ((1, "on one thread"), (None, "each on its own thread")):

        def claim(waiting):
            return max(
                row["claim_ms"]
                for row in queue["queue"]
                if row["waiting"] == waiting and row["threads"] == (threads or waiting)
            )

        what = f"a claim of up to four of {longest:,} waiting runs {on}, median"
        rows.append((what, f"{claim(longest):.1f} ms", f"of 100: {claim(100):.1f} ms", "2 ×"))
    accepts = {row["turns"]: row["accept_ms"] for row in queue["accept"]}
    beside = f"on a new one: {accepts[0]:.1f} ms"
    rows.append(("an accept on a thread of 10,000 turns, median", f"{accepts[10000]:.1f} ms", beside, "as on a new one"))
first = f"first push of the image: {push['push']['first']:.1f} s"
rows.append(("push of a changed code layer to another engine, median", f"{push['push']['median']:.2f} s", first, "0.3 s"))
rows.append(("deploy, nothing changed", f"{deploy('no change')} s", "-", "1 s"))
first = f"first deploy: {deploy('first')} s"
rows.append(("deploy, one line changed, to serving, one replica", f"{deploy('one line changed')} s", first, "-"))
rows.append(("the same, three replicas", f"{deploy('one line changed, three replicas')} s", "-", "5 s"))
rows.append(("rollback, three replicas", f"{deploy('rollback, three replicas')} s", "-", "2 s"))
restart = of("server restart")[0]["measured"]
steady = [row["measured"] for row in of("load", replicas=3) if row["measured"]["clients"] == 8][0]
what = f"longest request over a `server restart`, 8 clients, {restart['runs_per_s']}/s"
rows.append((what, f"{restart['longest']:.0f} ms", f"p99 without: {steady['p99']:.0f} ms", "1 s"))
rest = of("server memory with one replica, at rest")[0]["mib"]
rows.append(("server at rest, with one agent", f"{rest} MiB", "-", "60 MB"))
aims = {1: "1.25 ×", 8: "2 ×", 32: "2.5 ×"}
for row in of("floor"):
    base = row["measured"]
    clients = base["clients"]
    for load in of("load", replicas=1):
        one = load["measured"]
        if one["clients"] == clients:
            share = one["runs_per_s"] / base["runs_per_s"]
            ours = f"{one['runs_per_s']}/s, p50 {one['p50']} ms ({share:.2f} ×)"
            floor = f"in-process `AsyncPostgresSaver`: {base['runs_per_s']}/s, p50 {base['p50']} ms"
            name = f"`/v1/chat`, one replica, {clients} client{'s' if clients > 1 else ''}"
            rows.append((name, ours, floor, aims.get(clients, "-")))

if doors:
    alone, crowd = doors[0], doors[-1]
    grown = max(row["mib"] for row in doors) - alone["mib"]
    what = f"a turn beside strangers without a key ({', '.join(row['what'] for row in doors[1:-1])} together), median"
    rows.append((what, f"{crowd['median_ms']} ms", f"without them: {alone['median_ms']} ms", "2 ×"))
    rows.append(("what they cost the server in memory, at most", f"{grown:.1f} MiB", f"{alone['mib']} MiB", "50 MB"))
if poison:
    sent = sum(one["sent"] for one in poison["poisons"].values())
    what = f"longest of {poison['turns']} turns of 8 clients beside {sent} requests that end their replica"
    beside = f"a replica's start: {poison['start_s']} s; failed: {len(poison['failed'])}"
    rows.append((what, f"{poison['longest_s']} s", beside, "a start + 1 s"))
if callback:
    what = f"processor time of a sync node that streams {callback['chunks']} chunks, its tokens counted"
    counted = callback["floor_ms"] + callback["added_ms"]
    rows.append((what, f"{counted:.1f} ms", f"not counted: {callback['floor_ms']} ms", "100 ms more"))

lines = ["| " + " | ".join(row) + " |" for row in rows]
lines.insert(1, "| --- | --- | --- | --- |")
head = (
    f"{version}, {date.today()}, {os.cpu_count()} cores ({platform.machine()}) that clients, Postgres and all else "
    "share; Postgres on disk with fsync on."
)
text = f"{BEGIN}\n{head}\n\n" + "\n".join(lines) + f"\n{END}"
print("\n" + text)
if "--write" in sys.argv:
    readme = Path(sys.argv[sys.argv.index("--write") + 1])
    before, rest = readme.read_text().split(BEGIN)
    readme.write_text(before + text + rest.split(END, 1)[1])
