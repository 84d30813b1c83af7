#!/usr/bin/env bash
# Measures `status` on fifty agents with twenty releases and a thousand runs of the last hour each.
#
#   benches/status.sh [--smoke]      --smoke: few repetitions
#
# The whole command is timed, beside a command that asks the server for next to nothing (`whoami`) and one
# that asks nobody (`--version`). Prints a table and JSON. RAPIDCLAW_BIN names a binary; else the release
# profile is built (--smoke: dev).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
. "$here/../scripts/lib.sh"
# shellcheck source=benches/server.sh
. "$here/server.sh"
me=bench

times=50 profile=release
case ${1:-} in
"") ;;
--smoke) times=5 profile=dev ;;
*)
    sed -n '2,8s/^# \{0,1\}//p' "$0"
    [[ $1 == -h || $1 == --help ]] || exit 2
    exit 0
    ;;
esac
leave_well

ensure_commands setsid -- util-linux
ensure_python
ensure_docker
ensure_postgres
ensure_binary "$profile"
own_folder
own_server
own_login
psql=
for psql in /usr/lib/postgresql/*/bin/psql; do :; done
[ -x "$psql" ] || psql=$(command -v psql)
"$psql" -q -v ON_ERROR_STOP=1 -h "$work/data/postgres/socket" -U rapidclaw -d rapidclaw -f "$here/seed.sql" >&2
python3 - "$rapidclaw" "$times" <<'PYTHON'
import json, statistics, subprocess, sys, time
binary, times = sys.argv[1], int(sys.argv[2])
lines = subprocess.run([binary, "status"], check=True, capture_output=True, text=True).stdout.splitlines()
if len(lines) != 50 or any(" v20 " not in line or not line.endswith("$0.00140/turn") for line in lines):
    sys.exit("status is not what was put there:\n" + "\n".join(lines[:5]))
commands = {"status, 50 agents": ["status"], "status, one agent": ["status", "bench-7", "--json"], "whoami": ["whoami"], "--version": ["--version"]}
taken = {name: [] for name in commands}
for _ in range(times):
    for name, arguments in commands.items():
        begin = time.perf_counter()
        subprocess.run([binary, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        taken[name].append((time.perf_counter() - begin) * 1000)
print("| command | median ms | p95 ms |\n| --- | --- | --- |")
figures = {}
for name, values in taken.items():
    values.sort()
    figures[name] = {"median_ms": round(statistics.median(values), 1), "p95_ms": round(values[int(len(values) * 0.95)], 1)}
    print(f"| {name} | {figures[name]['median_ms']} | {figures[name]['p95_ms']} |")
print(json.dumps(figures))
PYTHON
