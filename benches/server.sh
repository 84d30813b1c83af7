#!/usr/bin/env bash
# Sourced by benchmarks that need a server of their own; made for scripts/lib.sh's functions.

# own_folder: $work is a new folder on a disk, gone at the end with the server in it; $rapidclaw keeps its login there.
own_folder() {
    local disk=${RAPIDCLAW_BENCH_DIR:-/var/tmp}
    case $(stat -f -c %T "$disk") in
    tmpfs | ramfs) fail "$disk is in memory; name a folder on a disk with RAPIDCLAW_BENCH_DIR" ;;
    esac
    unset RAPIDCLAW_SERVER RAPIDCLAW_TOKEN RAPIDCLAW_CONTEXT RAPIDCLAW_CA_FILE
    unset RAPIDCLAW_DATA_DIR RAPIDCLAW_RUN_DIR DATABASE_URL
    work=$(mktemp -d "$disk/rapidclaw-bench.XXXXXX")
    chmod 711 "$work"
    at_end rm -rf "$work"
    at_end end_server "$work/data"
    at_end explain "$work/data/server.log"
    export RAPIDCLAW_CONFIG_DIR=$work/config
}

# own_server: starts it there, on ports of its own.
own_server() {
    "$rapidclaw" server start --data-dir "$work/data" --listen 127.0.0.1:0 --agents-listen 127.0.0.1:0 >&2
}

# own_login: logs in to it.
own_login() {
    "$rapidclaw" login --local --data-dir "$work/data" >&2
    at_end end_server "$work/data" "$("$rapidclaw" whoami --json | json server.id)"
}
