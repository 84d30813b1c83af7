#!/usr/bin/env bash
# Measures a deployed graph beside the same graph in-process, on this machine, in one run.
#
#   benches/run.sh [--smoke]      --smoke: a second each, asserts only that all answers are right
#
# The toy graph (toygraph.py: three nodes, no model) is deployed with rapidclaw on its own managed
# Postgres, with one replica and with three; load.py calls /v1/chat with 1, 8 and 32 clients. A change, a
# rollback and a `server restart` are timed. Then floor.py runs the graph with LangGraph's
# AsyncPostgresSaver in one process: in the same image, with no limit on processors, on a Postgres of the
# same programs and settings. Both databases are on disk with fsync on. RAPIDCLAW_BENCH_DIR says where
# (default /var/tmp). Prints a table and JSON.
# RAPIDCLAW_BIN names a binary; else the release profile is built (--smoke: dev).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
. "$here/../scripts/lib.sh"
# shellcheck source=benches/server.sh
. "$here/server.sh"
me=bench

smoke=
case ${1:-} in
"") ;;
--smoke) smoke=yes ;;
-h | --help)
    sed -n '2,13s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
*)
    say "unknown argument: $1"
    exit 2
    ;;
esac
if [ -n "$smoke" ]; then
    clients=1,8 seconds=1 repeat=1 profile=dev starts=5
else
    clients=1,8,32 seconds=4 repeat=3 profile=release starts=50
fi
leave_well

ensure_commands curl setsid setpriv -- curl util-linux
ensure_python
ensure_docker
ensure_postgres
ensure_base_image 3.12
ensure_binary "$profile"

own_folder
results=$work/results.jsonl
record() { echo "$1" >>"$results"; }

say "rapidclaw --version, $starts times"
record "$(python3 - "$rapidclaw" "$starts" <<'PYTHON'
import json, statistics, subprocess, sys, time
times = []
for _ in range(int(sys.argv[2])):
    begin = time.perf_counter()
    subprocess.run([sys.argv[1], "--version"], check=True, stdout=subprocess.DEVNULL)
    times.append((time.perf_counter() - begin) * 1000)
print(json.dumps({"what": "version", "median_ms": round(statistics.median(times), 2)}))
PYTHON
)"

begin=$(now)
own_server
record "{\"what\": \"server start\", \"seconds\": $(awk "BEGIN { print $(now) - $begin }")}"
own_login
pid=$(json pid <"$work/data/server.json")
memory() {
    record "{\"what\": \"server memory $1\", \"mib\": $(awk '/^VmRSS/ { printf "%.1f", $2 / 1024 }' "/proc/$pid/status")}"
}
memory "without agents"

mkdir "$work/toy"
cp "$here"/toy/* "$here/toygraph.py" "$work/toy/"
# timed NAME COMMAND [ARGUMENTS]: `rapidclaw COMMAND`; seconds by the clock and by phase.
timed() {
    local begin took name=$1
    shift
    begin=$(now)
    # A stream, whose last line is the result.
    out=$("$rapidclaw" "$@" --quiet --json | tail -n 1)
    took=$(awk "BEGIN { print $(now) - $begin }")
    record "$(python3 -c '
import json, sys
told = json.load(sys.stdin)
phases = {one["phase"]: round(one["seconds"], 2) for one in told["phases"]}
print(json.dumps({"what": "deploy", "which": sys.argv[1], "seconds": round(float(sys.argv[2]), 2), "phases": phases}))' \
        "$name" "$took" <<<"$out")"
}
# deploy NAME [ARGUMENTS]
deploy() {
    timed "$1" deploy --manifest "$work/toy/langgraph.json" "${@:2}"
    url=$(json url <<<"$out")
    key=${key:-$(json key <<<"$out")}
}
key=
say "deploys"
if [ -n "$smoke" ]; then deploy first; else deploy first --no-cache; fi
deploy "no change"
echo "# changed" >>"$work/toy/toygraph.py"
deploy "one line changed"
memory "with one replica, at rest"

# The image of the agent, for load.py and floor.py: nothing is installed on this machine.
image=$("$rapidclaw" status --json | json agents.0.image)
inside=(docker run --rm -v "$here:/bench:ro" -w /tmp --entrypoint /opt/venv/bin/python)
# call CLIENTS SECONDS REPEAT: load.py's lines are in load.out.
call() {
    "${inside[@]}" --network host "$image" -B /bench/load.py --base "$url" --mode chat --clients "$1" \
        --seconds "$2" --repeat "$3" --key "$key" >"$work/load.out"
}
# called WHAT REPLICAS: records what was called.
called() {
    local line
    while read -r line; do
        [ "$(json errors <<<"$line")" = 0 ] || fail "there were errors: $line"
        record "{\"what\": \"$1\", \"replicas\": $2, \"measured\": $line}"
    done <"$work/load.out"
}
# load REPLICAS
load() {
    say "load on $1 replica(s): clients $clients, $seconds s, $repeat times"
    call "$clients" "$seconds" "$repeat"
    called load "$1"
}
load 1
sed -i 's/"min_replicas": 1/"min_replicas": 3/; s/"max_replicas": 1/"max_replicas": 3/' "$work/toy/langgraph.json"
deploy "three replicas"
load 3
memory "after the load"
echo "# changed again" >>"$work/toy/toygraph.py"
deploy "one line changed, three replicas"
timed "rollback, three replicas" rollback --agent toy

# Before, while and after one binary replaces the other.
say "server restart under 8 clients"
call 8 6 1 &
calls=$!
sleep 3
"$rapidclaw" server restart --data-dir "$work/data" >&2
wait "$calls"
called "server restart" 3
"$rapidclaw" server stop --data-dir "$work/data" >&2

# A Postgres of the same programs and settings, of floor.py's own.
say "the floor: the same graph in one process"
bin=
for found in /usr/lib/postgresql/*/bin; do bin=$found; done
[ -n "$bin" ] || bin=$(dirname "$(command -v initdb)")
as_postgres() {
    if [ "$(id -u)" = 0 ]; then
        (cd / && setpriv --reuid=postgres --regid=postgres --clear-groups "$@")
    else
        "$@"
    fi
}
floor_postgres() { as_postgres "$bin/pg_ctl" -s -w -D "$work/floor/data" -l "$work/floor/log" "$@"; }
mkdir -m 755 "$work/floor"
[ "$(id -u)" != 0 ] || chown postgres:postgres "$work/floor"
as_postgres "$bin/initdb" -D "$work/floor/data" -U bench -A trust -E UTF8 --locale=C --lc-ctype=C.UTF-8 \
    --data-checksums >"$work/initdb.log" 2>&1 || fail "initdb failed: $(tail -n 3 "$work/initdb.log")"
{
    cat "$work/data/postgres/data/postgresql.conf"
    echo "unix_socket_directories = '$work/floor'"
    echo "unix_socket_permissions = 0777"
    echo "logging_collector = off"
} | as_postgres tee "$work/floor/data/postgresql.conf" >/dev/null
stop_floor() { ! floor_postgres status >/dev/null || floor_postgres stop -m fast; }
at_end stop_floor
floor_postgres start
as_postgres "$bin/psql" -q -h "$work/floor" -U bench -d postgres -c 'CREATE DATABASE bench' >&2
durable=$(as_postgres "$bin/psql" -At -h "$work/floor" -U bench -d bench -c 'SHOW fsync')
[ "$durable" = on ] || fail "fsync is $durable"
"${inside[@]}" --network none -v "$work/floor:/pg" "$image" -B /bench/floor.py --saver pg \
    --clients "$clients" --seconds "$seconds" --repeat "$repeat" \
    --uri "postgresql://bench@/bench?host=/pg" >"$work/floor.out"
while read -r line; do
    record "{\"what\": \"floor\", \"measured\": $line}"
done <"$work/floor.out"
floor_postgres stop -m fast

python3 "$here/report.py" "$results" "$("$rapidclaw" --version), profile ${RAPIDCLAW_BIN:-$profile}"
