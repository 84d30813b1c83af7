#!/usr/bin/env bash
# All tests, with real Docker Engine, real Postgres and real LangGraph. Gets what is missing, as
# scripts/quickstart.sh does, and ends what it started. Prints the times of build and tests at its end.
#
#   scripts/test.sh [--quick | --all] [ARGUMENTS OF cargo nextest run]      scripts/test.sh -E 'test(rollout)'
#
# --quick runs what needs neither Docker Engine nor minutes: the runner's and unit tests, the gateway with real runners
# and a real Postgres, the registry. --all also runs what takes minutes of downloads and what CI leaves out: twelve projects
# instead of six, and twenty that are made by chance.
# RAPIDCLAW_TEST_PYTHON names a Python with tests/python/requirements.txt installed, where one shall not
# be made below target/. RAPIDCLAW_CORPUS names a folder of other people's manifests.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

quick=
case ${1:-} in
-h | --help)
    sed -n '2,11s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
--quick)
    quick=yes
    shift
    ;;
--all)
    shift
    set -- --run-ignored all "$@"
    ;;
esac

# The tests keep one Postgres for all of them, and leave it running for the next run.
tests_postgres=/tmp/rapidclaw-test-pg-$(id -u)/postgres/data
postgres_pid() {
    local pid
    pid=$(head -n 1 "$tests_postgres/postmaster.pid" 2>/dev/null) || return 0
    [ "$(readlink "/proc/$pid/cwd")" != "$tests_postgres" ] || echo "$pid"
}
had_postgres=$(postgres_pid)
leave_well
stop_postgres() {
    local pid
    pid=$(postgres_pid)
    [ -z "$pid" ] || [ -n "$had_postgres" ] || kill -INT "$pid" 2>/dev/null
}
at_end stop_postgres

phase "what is missing"
ensure_cargo
ensure_commands curl openssl setsid git -- curl openssl util-linux git
ensure_python
ensure_postgres
if [ -z "$quick" ]; then
    # The keyring of a desktop, for the tests of logins.
    ensure_commands dbus-run-session gnome-keyring-daemon -- dbus-daemon gnome-keyring
    ensure_commands skopeo -- skopeo
    # Docker Engines of the tests' own, in networks of their own.
    ensure_commands ip nsenter unshare -- iproute2 util-linux
    # A clock that can be set.
    ensure_commands faketime -- faketime
    ensure_docker_registry
    ensure_docker
    # The tests build on an image with this machine's certificates, whether or not the official one can be had.
    ensure_commands mmdebstrap -- mmdebstrap
    ensure_local_base_image
fi
# No login and no server of the user's is looked at.
unset RAPIDCLAW_SERVER RAPIDCLAW_TOKEN RAPIDCLAW_CONTEXT RAPIDCLAW_CA_FILE RAPIDCLAW_DATA_DIR RAPIDCLAW_CONFIG_DIR RAPIDCLAW_RUN_DIR DATABASE_URL
if [ -n "${RAPIDCLAW_TEST_PYTHON:-}" ]; then
    python=$RAPIDCLAW_TEST_PYTHON
else
    ensure_venv "$target/test-python" "$root/tests/python/requirements.txt"
fi
export RAPIDCLAW_TEST_PYTHON=$python
if [ -z "${RAPIDCLAW_CORPUS:-}" ] && [ -d "$root/../shared/corpus" ]; then
    RAPIDCLAW_CORPUS=$(cd "$root/../shared/corpus" && pwd)
    export RAPIDCLAW_CORPUS
fi

command -v cargo-nextest >/dev/null || quietly cargo install --locked cargo-nextest ||
    fail "cargo-nextest could not be installed: https://nexte.st/docs/installation"

cd "$root"
# The dev profile: one compilation serves the quickstart, the tests and the binary that they drive, with all assertions.
phase "build"
cargo nextest run --locked --no-run
# The runner's tests wait for processes, one after the other: they go beside the others, and are shown behind them.
phase "tests"
code=0
log=$(mktemp)
at_end rm -f "$log"
"$python" -m pytest -q -rs -p no:cacheprovider tests/python >"$log" 2>&1 </dev/null &
runners=$!
at_end end_process "$runners" 5
cargo nextest run --locked --no-fail-fast ${quick:+--profile quick} "$@" || code=$?
wait "$runners" || code=$?
cat "$log"
phases
[ "$code" = 0 ] || fail "tests failed"
say "all tests passed"
