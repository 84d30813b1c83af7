#!/usr/bin/env bash
# Measures the push of a changed line: deploys to a server whose replicas run on a second Docker Engine.
#
#   benches/push.sh [--smoke]      --smoke: few repetitions
#
# Prints the seconds of each phase as a table and JSON. The second engine is started by this script (root), in
# a folder of its own. RAPIDCLAW_BIN names a binary; else the release profile is built (--smoke: dev).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
. "$here/../scripts/lib.sh"
# shellcheck source=benches/server.sh
. "$here/server.sh"
me=bench

times=20 profile=release
case ${1:-} in
"") ;;
--smoke) times=3 profile=dev ;;
*)
    sed -n '2,7s/^# \{0,1\}//p' "$0"
    [[ $1 == -h || $1 == --help ]] || exit 2
    exit 0
    ;;
esac
leave_well

[ "$(id -u)" = 0 ] || fail "a second Docker Engine is started: run this as root"
ensure_commands setsid unshare -- util-linux
ensure_python
ensure_docker
ensure_postgres
ensure_base_image 3.13
ensure_binary "$profile"
own_folder
# The id of an engine comes from a key in /etc/docker.
# shellcheck disable=SC2016
unshare -m -n sh -c 'mount -t tmpfs tmpfs /etc/docker && exec dockerd "$@"' dockerd --data-root "$work/docker" \
    --exec-root "$work/exec" --pidfile "$work/pid" -H "unix://$work/docker.sock" --bridge none --iptables=false \
    --ip-forward=false --containerd-namespace rcb --containerd-plugins-namespace rcb-plugins \
    >"$work/docker.log" 2>&1 </dev/null &
engine=$!
at_end end_process "$engine" 20
for _ in $(seq 100); do
    docker -H "unix://$work/docker.sock" version >/dev/null 2>&1 && break
    sleep 0.2
done
DOCKER_HOST=unix://$work/docker.sock own_server
own_login
cp -r "$root/benches/toy" "$work/toy"
cp "$root/benches/toygraph.py" "$work/toy/"
python3 - "$rapidclaw" "$times" "$work/toy" <<'PYTHON'
import json, pathlib, statistics, subprocess, sys
binary, times, project = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
def deploy():
    done = subprocess.run([binary, "deploy", "--json"], cwd=project, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return {one["phase"]: one["seconds"] for one in json.loads(done.stdout.splitlines()[-1])["phases"]}
code = next(project.glob("*.py"))
text = code.read_text()
first, taken = deploy(), []
for number in range(times):
    code.write_text(f"{text}\n# {number}\n")
    taken.append(deploy())
print("| phase | first deploy s | a changed line: median s | p95 s |\n| --- | --- | --- | --- |")
figures = {}
for phase in first:
    values = sorted(one.get(phase, 0) for one in taken)
    figures[phase] = {"first": round(first[phase], 3), "median": round(statistics.median(values), 3), "p95": round(values[int(len(values) * 0.95)], 3)}
    print(f"| {phase} | {figures[phase]['first']} | {figures[phase]['median']} | {figures[phase]['p95']} |")
print(json.dumps(figures))
PYTHON
