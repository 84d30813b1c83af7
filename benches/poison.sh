#!/usr/bin/env bash
# Poisonous requests beside well-behaved clients: what those notice.
#
#   benches/poison.sh [--smoke]      --smoke: two poisons in twelve seconds, asserts answers and no times
#
# An agent of three replicas. Eight clients take turn after turn; beside them every 10 s for three minutes one request
# that ends its replica: it exits, breaks its memory, takes all memory, or loops for ever, in turn. Every turn of the
# clients must be answered, and none may wait longer than one replica's start and a second: the start is measured here,
# as `scale` from two replicas to three. Prints a table and JSON.
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
"") seconds=180 every=10 poisons=exit,segfault,memory,loop profile=release ;;
--smoke) smoke=yes seconds=12 every=6 poisons=exit,segfault profile=dev ;;
*)
    sed -n '2,11s/^# \{0,1\}//p' "$0"
    [[ $1 == -h || $1 == --help ]] || exit 2
    exit 0
    ;;
esac
leave_well
ensure_python
ensure_docker
ensure_postgres
ensure_base_image 3.13
ensure_binary "$profile"
own_folder
export RAPIDCLAW_BASE_IMAGE=${RAPIDCLAW_BASE_IMAGE:-rapidclaw-base:3.13}
own_server
own_login
out=$("$rapidclaw" deploy --manifest "$here/poison/langgraph.json" --quiet --json | tail -n 1)
url=$(json url <<<"$out") key=$(json key <<<"$out")

"$rapidclaw" scale poison 2 >&2
begin=$(now)
"$rapidclaw" scale poison 3 >&2
start=$(awk "BEGIN { printf \"%.2f\", $(now) - $begin }")
say "a replica starts in $start s; poison every $every s for $seconds s"
told=$(python3 "$here/poison.py" --base "$url" --key "$key" --seconds "$seconds" --every "$every" --poisons "$poisons")
python3 - "$start" "$told" "$smoke" <<'PYTHON'
import json, sys
start, told, smoke = float(sys.argv[1]), json.loads(sys.argv[2]), bool(sys.argv[3])
limit = start + 1
print(f"{'WHO':<22}{'TURNS':>7}{'FAILED':>8}{'P50':>8}{'P99':>8}{'LONGEST':>9}")
print(f"{'well-behaved, 8':<22}{told['turns']:>7}{len(told['failed']):>8}{told['p50_s']:>7}s{told['p99_s']:>7}s{told['longest_s']:>8}s")
for name, one in told["poisons"].items():
    print(f"{name:<22}{one['sent']:>7}{one['sent'] - one['answered']:>8}{'':>16}{one['longest_s']:>8}s")
print(f"the longest wait may be {limit:.2f} s: one replica's start, and a second")
wrong = [f"a well-behaved turn failed: {text}" for text in told["failed"][:3]]
if not smoke and told["longest_s"] > limit:
    wrong.append(f"a well-behaved turn waited {told['longest_s']} s")
print(json.dumps({"what": "poison", "start_s": start, **told}))
if wrong:
    sys.exit("\n".join(wrong))
PYTHON
