#!/usr/bin/env bash
# Runs all benchmarks with one binary, one after the other, and makes README.md's table of figures of them.
#
#   benches/figures.sh [--smoke]      --smoke: short runs, and README.md stays as it is
#
# Takes about a quarter of an hour on two cores, which should have nothing else to do. RAPIDCLAW_CORPUS names the folder of
# other people's manifests (without it `validate` is left out); RAPIDCLAW_BIN a binary, else the release profile is
# built (--smoke: dev).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
. "$here/../scripts/lib.sh"
me=bench

smoke=() first=() profile=release write=(--write "$root/README.md")
case ${1:-} in
"") ;;
--smoke) smoke=(--smoke) first=(--first 10) profile=dev write=() ;;
*)
    sed -n '2,8s/^# \{0,1\}//p' "$0"
    [[ $1 == -h || $1 == --help ]] || exit 2
    exit 0
    ;;
esac
leave_well
ensure_python
ensure_docker
ensure_binary "$profile"
export RAPIDCLAW_BIN=$rapidclaw
results=$(mktemp -d)
at_end rm -rf "$results"

for bench in status queue push run doors poison; do
    "$here/$bench.sh" "${smoke[@]}" | tee "$results/$bench.out"
    tail -n 1 "$results/$bench.out" >"$results/$bench.json"
done
if [ -z "${RAPIDCLAW_TEST_PYTHON:-}" ]; then
    ensure_venv "$target/test-python" "$root/tests/python/requirements.txt"
fi
"${RAPIDCLAW_TEST_PYTHON:-$python}" "$here/callback.py" | tee "$results/callback.json"
corpus=${RAPIDCLAW_CORPUS:-$root/../shared/corpus}
if [ -d "$corpus/real" ]; then
    ensure_venv "$target/bench-python" "$here/requirements.txt"
    "$python" "$here/validate.py" --report "${first[@]}" "$rapidclaw" "$corpus/real" \
        "$(dirname "$python")/langgraph" | tee "$results/validate.out"
    tail -n 1 "$results/validate.out" >"$results/validate.json"
else
    say "LEFT OUT: validate (RAPIDCLAW_CORPUS names no folder with real/)"
fi
python3 "$here/figures.py" "$results" "$("$rapidclaw" --version)" "${write[@]}"
