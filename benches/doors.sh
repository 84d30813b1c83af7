#!/usr/bin/env bash
# Measures what strangers cost those with a key: turns of a deployed graph, and the server's memory, while
# 2,000 connections are idle, 200 send a head a byte a second, and 100 bodies of 16 MiB come without a key.
#
#   benches/doors.sh [--smoke]      --smoke: a tenth of the strangers, few turns, no time is asserted
#
# The toy graph (toygraph.py) is deployed with one replica; one client with a key makes turns, alone and then
# beside the strangers of each kind and of all. Half of the strangers call each port. The server's memory is
# looked at all the while; what counts is the most. Prints a table and JSON, and fails where the memory grows
# by 50 MB or a turn takes more than twice its time. RAPIDCLAW_BIN names a binary; else the release profile is
# built (--smoke: dev).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
. "$here/../scripts/lib.sh"
# shellcheck source=benches/server.sh
. "$here/server.sh"
me=bench

idle=2000 slow=200 bodies=100 turns=200 profile=release
case ${1:-} in
"") ;;
--smoke) idle=200 slow=20 bodies=10 turns=25 profile=dev ;;
*)
    sed -n '2,12s/^# \{0,1\}//p' "$0"
    [[ $1 == -h || $1 == --help ]] || exit 2
    exit 0
    ;;
esac
leave_well

ensure_commands setsid setpriv -- util-linux
ensure_python
ensure_docker
ensure_postgres
ensure_base_image 3.12
ensure_binary "$profile"
own_folder
own_server
own_login
mkdir "$work/toy"
cp "$here"/toy/* "$here/toygraph.py" "$work/toy/"
out=$("$rapidclaw" deploy --manifest "$work/toy/langgraph.json" --quiet --json | tail -n 1)
ulimit -n "$(ulimit -Hn)"
url=$(json url <<<"$out") key=$(json key <<<"$out") \
    python3 "$here/strangers.py" "$work/data/server.json" "$idle" "$slow" "$bodies" "$turns"
