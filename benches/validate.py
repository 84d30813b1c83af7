"""`rapidclaw validate` over the manifests of a folder, beside `langgraph validate` in the same run.

    python3 benches/validate.py [--report] [--first N] BINARY FOLDER [LANGGRAPH]

FOLDER holds manifests (`*.json`), LANGGRAPH is the `langgraph` command of langgraph-cli. Each manifest is checked
alone, as its project is not there: five times by us (the median counts), once by LangGraph. Prints a table and
a line of JSON; fails where one takes us 10 ms or more, unless `--report` is given too (a busy machine). `--first`:
no more manifests than so many.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT_MS = 10.0
REPEATS = 5


def milliseconds(command: list[str], **options: object) -> float:
    begun = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, **options)
    return (time.perf_counter() - begun) * 1000


def row(name: str, times: list[float]) -> str:
    ordered = sorted(times)
    p95 = ordered[int(len(ordered) * 0.95)]
    return f"| {name} | {statistics.median(times):.1f} | {p95:.1f} | {ordered[-1]:.1f} |"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--first", type=int)
    parser.add_argument("binary")
    parser.add_argument("folder", type=Path)
    parser.add_argument("langgraph", nargs="?")
    arguments = parser.parse_args()
    binary, folder, langgraph = arguments.binary, arguments.folder, arguments.langgraph
    manifests = sorted(folder.glob("*.json"))[: arguments.first]
    ours, theirs = {}, {}
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "LANGGRAPH_CLI_NO_ANALYTICS": "1"}
    for manifest in manifests:
        with tempfile.TemporaryDirectory() as alone:
            copy = Path(alone) / "langgraph.json"
            copy.write_bytes(manifest.read_bytes())
            command = [binary, "validate", "--manifest-only", "--manifest", str(copy)]
            times = [milliseconds(command, env=environment) for _ in range(REPEATS)]
            ours[manifest.name] = statistics.median(times)
            if langgraph:
                theirs[manifest.name] = milliseconds([langgraph, "validate", "-c", str(copy)], env=environment)
    print(f"\n{len(manifests)} manifests\n\n| ms for one manifest | median | p95 | longest |\n| --- | --- | --- | --- |")
    print(row("`rapidclaw validate`", list(ours.values())))
    if theirs:
        print(row("`langgraph validate`", list(theirs.values())))
    longest = max(ours, key=ours.__getitem__)
    told = {"what": "validate", "manifests": len(manifests), "median_ms": round(statistics.median(ours.values()), 2)}
    told |= {"longest_ms": round(ours[longest], 2), "longest": longest}
    if theirs:
        told["langgraph_median_ms"] = round(statistics.median(theirs.values()), 1)
    print("\n" + json.dumps(told))
    return 1 if ours[longest] >= LIMIT_MS and not arguments.report else 0


sys.exit(main())
