# What the scripts share. It is sourced: it defines functions and changes nothing by itself.
# shellcheck shell=bash disable=SC2034 # variables are for those who source it

# The repository's folder.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Where Cargo puts what it builds.
target=${CARGO_TARGET_DIR:-$root/target}
# This script's name, before each line that it says.
me=$(basename "$0" .sh)
# The process of a Docker Engine that we started; empty when one was there.
dockerd_pid=

say() { printf '%s: %s\n' "$me" "$*" >&2; }
fail() {
    say "error: $*"
    exit 1
}

# at_end COMMAND ARGUMENTS: is done when the script ends, however it does; what was asked for last comes first.
ends=()
at_end() { ends+=("$(printf '%q ' "$@")"); }
leave() {
    local code=$? i
    trap - EXIT
    trap '' INT TERM
    for ((i = ${#ends[@]} - 1; i >= 0; i--)); do
        eval "${ends[i]}" || true
    done
    stop_docker
    exit "$code"
}
# From now on that is done, and an engine that was started is stopped.
leave_well() {
    trap leave EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}
# For the end of a script that failed: the last lines of a server's log.
explain() {
    # shellcheck disable=SC2154 # the exit code, of `leave`
    [ "$code" != 0 ] && [ -s "$1" ] || return 0
    say "the server's last lines:"
    tail -n 15 "$1" >&2
}

# Runs a command as root.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "this needs root, and there is no sudo: $*"
    fi
}

# Runs a command quietly: says each minute where it is, and shows its last lines when it fails.
quietly() {
    local log code=0 told
    log=$(mktemp)
    (
        trap 'kill "$!" 2>/dev/null; exit 0' TERM
        while kill -0 "$$" 2>/dev/null; do
            sleep 60 &
            wait "$!"
            say "still at it: $(tail -n 1 "$log")"
        done
    ) &
    told=$!
    "$@" >"$log" 2>&1 </dev/null || code=$?
    kill "$told" 2>/dev/null || true
    wait "$told" 2>/dev/null || true
    [ "$code" = 0 ] || tail -n 30 "$log" >&2
    rm -f "$log"
    return "$code"
}

# Installs Debian packages; the lists are fetched only when a package is not found without.
apt_install() {
    command -v apt-get >/dev/null || fail "install these yourself (this machine has no apt-get): $*"
    say "installing $*"
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends)
    as_root "${install[@]}" "$@" >/dev/null 2>&1 </dev/null && return
    quietly as_root apt-get update || fail "apt-get update failed"
    quietly as_root "${install[@]}" "$@" || fail "apt-get could not install: $*"
}

# Sees that there are the commands named first; else installs the packages behind the `--`.
ensure_commands() {
    local missing=
    while [ "$1" != -- ]; do
        command -v "$1" >/dev/null || missing=$1
        shift
    done
    shift
    [ -z "$missing" ] || apt_install "$@"
}

ensure_cargo() {
    [ -n "$(command -v cargo)" ] || [ ! -x "$HOME/.cargo/bin/cargo" ] || PATH=$HOME/.cargo/bin:$PATH
    command -v cargo >/dev/null ||
        fail "there is no cargo; install Rust 1.95 or newer: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c rustfmt -c clippy && . \$HOME/.cargo/env"
    # Some crates are partly C.
    ensure_commands cc -- gcc libc6-dev
}

# Debian's registry for tests: the program without the service that its package starts on port 5000.
ensure_docker_registry() {
    command -v docker-registry >/dev/null && return
    [ ! -d /run/systemd/system ] || quietly as_root systemctl mask docker-registry || true
    apt_install docker-registry
}

ensure_python() { ensure_commands python3 -- python3; }

# A Docker Engine that answers. Starts one where none does, and remembers it in `dockerd_pid`.
ensure_docker() {
    ensure_commands docker -- docker.io
    # Debian 13 has the client in a package of its own.
    ensure_commands docker -- docker-cli
    docker version >/dev/null 2>&1 && return
    [ -z "${DOCKER_HOST:-}" ] || fail "no Docker Engine answers at DOCKER_HOST=$DOCKER_HOST; unset it, or start that engine"
    if [ -S /var/run/docker.sock ] && [ ! -w /var/run/docker.sock ]; then
        fail "you may not use Docker Engine: sudo usermod -aG docker $(id -un), then log in again"
    fi
    if [ -d /run/systemd/system ]; then
        say "starting Docker Engine (systemctl start docker)"
        quietly as_root systemctl start docker || fail "systemctl start docker failed"
        docker version >/dev/null 2>&1 || fail "Docker Engine runs and does not answer you: sudo usermod -aG docker $(id -un), then log in again"
        return
    fi
    [ "$(id -u)" = 0 ] || fail "no Docker Engine answers; start one: sudo dockerd"
    command -v dockerd >/dev/null || apt_install docker.io
    # What a killed engine leaves keeps the next one from starting.
    local file pid
    for file in /var/run/docker.pid /var/run/docker/containerd/containerd.pid; do
        pid=$(cat "$file" 2>/dev/null) || continue
        case $(cat "/proc/$pid/comm" 2>/dev/null) in
        dockerd | containerd) fail "Docker Engine (process $pid) runs and does not answer: look at its log" ;;
        *) rm -f "$file" ;;
        esac
    done
    say "starting Docker Engine (dockerd, its log is /tmp/rapidclaw-dockerd.log)"
    setsid dockerd >/tmp/rapidclaw-dockerd.log 2>&1 </dev/null &
    dockerd_pid=$!
    for _ in $(seq 150); do
        docker version >/dev/null 2>&1 && return
        kill -0 "$dockerd_pid" 2>/dev/null || break
        sleep 0.2
    done
    tail -n 10 /tmp/rapidclaw-dockerd.log >&2
    stop_docker
    fail "Docker Engine did not start"
}

# Ends the engine that `ensure_docker` started, if it did.
stop_docker() {
    [ -n "$dockerd_pid" ] || return 0
    end_process "$dockerd_pid" 30
    dockerd_pid=
}

# Asks a process to end, waits for so many seconds, then kills it.
end_process() {
    kill "$1" 2>/dev/null || return 0
    for _ in $(seq $(($2 * 10))); do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -9 "$1" 2>/dev/null || true
}

# Postgres' programs, without a cluster of Debian's own, and a user that it can run as.
ensure_postgres() {
    local found=
    for found in /usr/lib/postgresql/*/bin/initdb; do
        [ -x "$found" ] && break
        found=
    done
    if [ -z "$found" ] && ! command -v initdb >/dev/null; then
        # Where the package's own settings are not there yet nobody misses the cluster it would make.
        if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
            as_root mkdir -p /etc/postgresql-common
            echo 'create_main_cluster = false' | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
        fi
        apt_install postgresql
    fi
    if [ "$(id -u)" = 0 ] && ! id postgres >/dev/null 2>&1; then
        useradd --system postgres || fail "Postgres refuses root, and there is no user postgres: useradd --system postgres"
    fi
}

# Puts into RAPIDCLAW_BASE_IMAGE what agents for this Python are built on: nothing where the official
# image can be had, else the one that scripts/base-image.sh makes.
ensure_base_image() {
    local official=python:$1-slim
    if [ -n "${RAPIDCLAW_BASE_IMAGE:-}" ]; then
        docker image inspect "$RAPIDCLAW_BASE_IMAGE" >/dev/null 2>&1 && return
        docker pull -q "$RAPIDCLAW_BASE_IMAGE" >/dev/null 2>&1 && return
        # Ours can be made where it is not there.
        [[ $RAPIDCLAW_BASE_IMAGE == rapidclaw-base:* ]] || fail "the base image $RAPIDCLAW_BASE_IMAGE cannot be had (RAPIDCLAW_BASE_IMAGE)"
    elif docker image inspect "$official" >/dev/null 2>&1; then
        return
    elif timeout 300 docker pull -q "$official" >/dev/null 2>&1; then
        return
    else
        say "$official cannot be pulled: using a base image from Debian's packages"
    fi
    # Installed here and not by the script, so that a failure of apt says more.
    ensure_commands mmdebstrap -- mmdebstrap
    ensure_local_base_image
}

# The image of scripts/base-image.sh, in RAPIDCLAW_BASE_IMAGE.
ensure_local_base_image() {
    local log
    log=$(mktemp)
    RAPIDCLAW_BASE_IMAGE=$("$root/scripts/base-image.sh" 2>"$log") || {
        tail -n 30 "$log" >&2
        rm -f "$log"
        fail "scripts/base-image.sh failed"
    }
    rm -f "$log"
    export RAPIDCLAW_BASE_IMAGE
}

# Builds the binary with the Cargo profile given, and puts its path into `rapidclaw`. One that is up to
# date is not built again. RAPIDCLAW_BIN names another.
ensure_binary() {
    rapidclaw=${RAPIDCLAW_BIN:-}
    if [ -n "$rapidclaw" ]; then
        [ -x "$rapidclaw" ] || fail "RAPIDCLAW_BIN=$rapidclaw is no program"
        rapidclaw=$(readlink -f "$rapidclaw")
        return
    fi
    ensure_cargo
    local folder=$1
    [ "$1" != dev ] || folder=debug
    rapidclaw=$target/$folder/rapidclaw
    [ -x "$rapidclaw" ] || say "building rapidclaw; the first time this takes some minutes"
    if [ -t 2 ]; then
        cargo build --locked --profile "$1" --manifest-path "$root/Cargo.toml" || fail "cargo build failed"
    else
        quietly cargo build --locked --profile "$1" --manifest-path "$root/Cargo.toml" || fail "cargo build failed"
    fi
}

# A Python environment with the packages that a requirements file names, kept until the file changes:
# ensure_venv FOLDER REQUIREMENTS. `python` is its interpreter.
ensure_venv() {
    ensure_python
    python=$1/bin/python
    local stamp
    stamp=$(sha256sum <"$2")
    [ "$(cat "$1/stamp" 2>/dev/null)" != "$stamp" ] || [ ! -x "$python" ] || return 0
    say "making the Python environment $1"
    rm -rf "$1"
    mkdir -p "$(dirname "$1")"
    if command -v uv >/dev/null; then
        # uv trusts the system's certificates only when it is told to.
        UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 quietly uv venv -q --python "$(command -v python3)" "$1" || fail "uv venv failed"
        UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 quietly uv pip install -q --python "$python" -r "$2" || fail "uv could not install $2"
    else
        python3 -c 'import ensurepip' 2>/dev/null || apt_install python3-venv
        quietly python3 -m venv "$1" || fail "python3 -m venv failed"
        quietly "$python" -m pip install -q --disable-pip-version-check -r "$2" || fail "pip could not install $2"
    fi
    echo "$stamp" >"$1/stamp"
}

# Whether something listens on a port of this machine.
port_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# `127.0.0.1:PORT` where nobody has the port, else one that the system chooses.
address_near() { if port_taken "$1"; then echo 127.0.0.1:0; else echo "127.0.0.1:$1"; fi; }

# A field of a JSON document on stdin: json result, json server.id. Nothing where it is not there.
json() {
    python3 -c '
import json, sys
value = json.load(sys.stdin)
for key in sys.argv[1].split("."):
    value = value[int(key)] if isinstance(value, list) else (value or {}).get(key)
print("" if value is None else value)' "$1"
}

# Starts the stand-in for a model provider on a free port: start_stub LOG. It wants the key in STUB_KEY.
# `stub_pid` and `stub_url` say where it is.
start_stub() {
    python3 "$root/scripts/model_stub.py" --port 0 --key-env STUB_KEY --log "$1" >"$1.out" 2>&1 </dev/null &
    stub_pid=$!
    for _ in $(seq 100); do
        stub_url=$(sed -n 's/^listening on //p' "$1.out")
        [ -z "$stub_url" ] || return 0
        sleep 0.1
    done
    cat "$1.out" >&2
    fail "the model stub did not start"
}

# Ends a server and what it may have left: end_server DATA_DIR [SERVER_ID].
end_server() {
    [ -d "$1" ] || return 0
    timeout 100 "$rapidclaw" server stop --data-dir "$1" >/dev/null 2>&1 || say "the server did not stop in order: $1/server.log"
    # A server that crashed has left its Postgres and its replicas.
    local postgres
    postgres=$(head -n 1 "$1/postgres/data/postmaster.pid" 2>/dev/null) || postgres=
    if [ -n "$postgres" ] && [ "$(readlink "/proc/$postgres/cwd")" = "$(readlink -f "$1/postgres/data")" ]; then
        as_root kill -INT "$postgres" || true
    fi
    [ -n "${2:-}" ] || return 0
    local left
    left=$(docker ps -aq --filter "label=rapidclaw.server=$2" 2>/dev/null) || left=
    # shellcheck disable=SC2086
    [ -z "$left" ] || docker rm -f $left >/dev/null 2>&1 || true
}

# Seconds since the shell started, with tenths.
now() { printf '%s' "${EPOCHREALTIME/,/.}"; }

# phase NAME: from now on time goes to NAME. `phases` prints the table.
phase_names=()
phase_seconds=()
phase_name=
phase() {
    local at
    at=$(now)
    if [ -n "$phase_name" ]; then
        phase_names+=("$phase_name")
        phase_seconds+=("$(awk "BEGIN { print $at - $phase_since }")")
    fi
    phase_name=${1:-}
    phase_since=$at
}
phases() {
    phase ""
    local i
    echo
    echo "seconds by phase"
    for i in "${!phase_names[@]}"; do
        printf '  %-22s %7.1f\n' "${phase_names[$i]}" "${phase_seconds[$i]}"
    done
    printf '  %-22s %7.1f\n' total "$(printf '%s\n' "${phase_seconds[@]}" | awk '{ sum += $1 } END { print sum }')"
}
