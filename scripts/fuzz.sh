#!/usr/bin/env bash
# Runs the fuzz targets, each as many seconds as is said (10), where this machine has a nightly toolchain.
#
#   scripts/fuzz.sh [SECONDS [TARGET...]]
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
case ${1:-} in
-h | --help)
    sed -n '2,4s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
esac
seconds=${1:-10}
shift || true
[ -n "$(command -v cargo)" ] || PATH=$HOME/.cargo/bin:$PATH
if ! cargo +nightly --version >/dev/null 2>&1; then
    say "left out: no nightly toolchain (rustup toolchain install nightly)"
    exit 0
fi
command -v cargo-fuzz >/dev/null || quietly cargo install --locked cargo-fuzz
cd "$root"
# No sanitizer: there is no unsafe code of ours to watch, and without one it is fast.
if [ $# -eq 0 ]; then
    mapfile -t targets < <(cargo +nightly fuzz list)
else
    targets=("$@")
fi
# By default cargo-fuzz compiles in one unit: twice the time for inputs that are a little faster.
how=(--sanitizer none --codegen-units 16)
quietly nice cargo +nightly fuzz build "${how[@]}"
for target_name in "${targets[@]}"; do
    # New finds of the fuzzer go beside the seeds and are not ours to keep.
    found=$(mktemp -d)
    said=$(nice cargo +nightly fuzz run "${how[@]}" "$target_name" "$found" "fuzz/corpus/$target_name" -- \
        "-max_total_time=$seconds" -timeout=5 -rss_limit_mb=2048 -print_final_stats=1 2>&1) || {
        printf '%s\n' "$said" | tail -n 40
        fail "the fuzz target $target_name found something: fuzz/artifacts/$target_name"
    }
    rm -rf "$found"
    say "$target_name: $(printf '%s\n' "$said" | sed -n 's/.*number_of_executed_units: *//p') inputs in $seconds s"
done
