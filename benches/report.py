"""The table of `run.sh`'s results, and the results as JSON."""

import json
import sys

rows = [json.loads(line) for line in open(sys.argv[1])]


def of(what, **fields):
    return [row for row in rows if row["what"] == what and all(row.get(k) == v for k, v in fields.items())]


floor = {row["measured"]["clients"]: row["measured"] for row in of("floor")}
print(f"\n{sys.argv[2]}\n")
print("| clients | what | runs/s | p50 ms | p95 ms | against the floor |")
print("| --- | --- | --- | --- | --- | --- |")
for clients, base in floor.items():
    print(f"| {clients} | in-process, AsyncPostgresSaver | {base['runs_per_s']} | {base['p50']} | {base['p95']} | 1.00 |")
    for replicas in (1, 3):
        for row in of("load", replicas=replicas):
            one = row["measured"]
            if one["clients"] == clients:
                share = one["runs_per_s"] / base["runs_per_s"]
                name = f"/v1/chat, {replicas} replica{'s' if replicas > 1 else ''}"
                print(f"| {clients} | {name} | {one['runs_per_s']} | {one['p50']} | {one['p95']} | {share:.2f} |")
print("\n| deploy | seconds | by phase |\n| --- | --- | --- |")
for row in of("deploy"):
    phases = " ".join(f"{name} {seconds}" for name, seconds in row["phases"].items()) or "-"
    print(f"| {row['which']} | {row['seconds']} | {phases} |")
for row in of("server restart"):
    print(f"\nLongest of the requests over a `server restart`: {row['measured']['longest']} ms")
print("\n| what | figure |\n| --- | --- |")
for row in rows:
    if row["what"] == "version":
        print(f"| `rapidclaw --version`, median | {row['median_ms']} ms |")
    elif row["what"].startswith("server memory"):
        print(f"| {row['what']} | {row['mib']} MiB |")
    elif row["what"] == "server start":
        print(f"| server start, with a new Postgres | {row['seconds']:.1f} s |")
print()
print(json.dumps(rows))
