#!/usr/bin/env bash
# Measures what a claim, an end and an accept cost, by how many runs wait and how long the thread is.
#
#   benches/queue.sh [--smoke]      --smoke: short queues, few repetitions
#
# With statistics of an empty table and with fresh ones, on one thread and on many (queue.rs), on a Postgres that
# needs no Docker. Prints tables and JSON. What the queue costs should be the same in all rows.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
. "$here/../scripts/lib.sh"
me=bench

smoke=() profile=release
case ${1:-} in
"") ;;
# The profile of the tests: their build serves it.
--smoke) smoke=(--smoke) profile=dev ;;
*)
    sed -n '2,7s/^# \{0,1\}//p' "$0"
    [[ $1 == -h || $1 == --help ]] || exit 2
    exit 0
    ;;
esac
leave_well
ensure_postgres
cd "$root"
cargo bench --quiet --locked --profile "$profile" --bench queue -- "${smoke[@]}"
