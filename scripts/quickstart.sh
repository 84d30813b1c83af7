#!/usr/bin/env bash
# From a fresh machine to an agent that answers, with nothing but this repository, and back again.
#
#   scripts/quickstart.sh [--keep]      --keep leaves all running and says how to stop it
#
# Gets what is missing (Docker Engine, Postgres' programs, Python, a base image) from Debian's packages,
# builds rapidclaw, starts a server on folders and ports of its own, deploys manifests/example against a
# stand-in for a model provider, talks to it, checks what `rapidclaw status` says of it, deploys a change,
# takes it back, and ends what it started. The user's own login, server and data are not touched. Made
# for Debian and Ubuntu; elsewhere install Docker Engine, Postgres and Python first.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

keep=
case ${1:-} in
"") ;;
--keep) keep=yes ;;
-h | --help)
    sed -n '2,11s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
*)
    say "unknown argument: $1"
    exit 2
    ;;
esac

# The user's own settings are for the user's own server.
unset RAPIDCLAW_SERVER RAPIDCLAW_TOKEN RAPIDCLAW_DATA_DIR RAPIDCLAW_CONFIG_DIR RAPIDCLAW_RUN_DIR DATABASE_URL

leave_well

# What the reader would type.
shown() { printf '\n$ %s\n' "$*"; }

phase "docker"
ensure_commands curl setsid -- curl util-linux
ensure_python
ensure_docker
phase "postgres"
ensure_postgres
phase "base image"
ensure_base_image 3.12
phase "build rapidclaw"
ensure_binary dev

phase "server"
work=$(mktemp -d /tmp/rapidclaw-quickstart.XXXXXX)
# Postgres' user has to pass through it.
chmod 711 "$work"
data=$work/data
at_end rm -rf "$work"
at_end end_server "$data"
export RAPIDCLAW_CONFIG_DIR=$work/config
STUB_KEY=sk-quickstart-$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')
export STUB_KEY
start_stub "$work/stub.log"
at_end end_process "$stub_pid" 5
shown "rapidclaw server start --provider openai=$stub_url/v1"
"$rapidclaw" server start --data-dir "$data" --listen "$(address_near 4120)" --agents-listen "$(address_near 4121)" \
    --provider "openai=$stub_url/v1"

phase "login"
shown "rapidclaw login --local"
"$rapidclaw" login --local --data-dir "$data"
server_id=$("$rapidclaw" whoami --json | json server.id)
at_end end_server "$data" "$server_id"
at_end explain "$data/server.log"

phase "deploy"
# A copy: its .env is no part of the repository.
cp -r "$root/manifests/example" "$work/example"
(umask 077 && echo "OPENAI_API_KEY=$STUB_KEY" >"$work/example/.env")
shown "rapidclaw deploy --manifest langgraph.json"
"$rapidclaw" deploy --manifest "$work/example/langgraph.json" | tee "$work/deploy.out"
url=$(sed -n 's/^url: //p' "$work/deploy.out")
key=$(sed -n 's/^key: //p' "$work/deploy.out")
if [ -z "$url" ] || [ -z "$key" ]; then fail "deploy printed no url and key"; fi

phase "three turns"
thread=quickstart-$(basename "$work")
# turn MESSAGE: the answer in `result`, the replica that gave it in `replica`.
turn() {
    local status
    status=$(curl -sS -o "$work/answer.json" -D "$work/answer.head" -w '%{http_code}' "$url/v1/chat" \
        -H "x-api-key: $key" -H 'content-type: application/json' \
        -d "{\"thread_id\": \"$thread\", \"user_id\": \"quickstart\", \"message\": \"$1\"}")
    [ "$status" = 200 ] || fail "the agent answered $status: $(cat "$work/answer.json")"
    result=$(json result <"$work/answer.json")
    replica=$(tr -d '\r' <"$work/answer.head" | sed -n 's/^rapidclaw-replica: //Ip')
    printf '  you:   %s\n  agent: %s   (replica %s)\n' "$1" "$result" "${replica: -12}"
}
shown "curl $url/v1/chat -H \"x-api-key: \$KEY\" -d '{\"thread_id\": …, \"user_id\": …, \"message\": …}'"
turn "Hello, my name is Ada. Please keep that in mind while your replicas come and go."
first=$replica
turn "What is my name?"
[[ $result == *Ada* ]] || fail "the agent forgot the thread: $result"
[ "$replica" != "$first" ] || fail "the same replica answered twice: memory across replicas is not shown"
turn "What is the weather in Paris?"
[[ $result =~ ^It\ is\ (sunny|cloudy|rainy|windy)\ in\ Paris ]] || fail "the tool's answer is missing: $result"

phase "status"
shown "rapidclaw status | cat"
line=$("$rapidclaw" status | cat)
echo "$line"
[[ $line =~ ^agent\ v1\ running\ 3\ replicas\ p95=([0-9]+(\.[0-9]+)?m?s)\ \$([0-9]+\.[0-9]{5})/turn$ ]] ||
    fail "that is not the line that was promised, with figures"
"$rapidclaw" status --json >"$work/status.json"
# The stand-in says what it was asked; the price of gpt-4o-mini is 0.15 and 0.60 US dollars per million tokens.
python3 - "$work" "${BASH_REMATCH[3]}" <<'PYTHON' || fail "the cost is not tokens times price"
import json, sys
work, shown = sys.argv[1:]
usage = [call["usage"] for call in map(json.loads, open(f"{work}/stub.log")) if call["usage"]]
spent = sum(one["prompt_tokens"] for one in usage), sum(one["completion_tokens"] for one in usage)
turns = 3
cost = (spent[0] * 0.15 + spent[1] * 0.60) / 1e6 / turns
told = json.load(open(f"{work}/status.json"))["agents"][0]["cost_per_turn"]
print(f"  {len(usage)} model calls, {spent[0]} tokens in, {spent[1]} out, {turns} turns: ${cost:.7f}/turn by the provider's count")
sys.exit(not (f"{cost:.5f}" == shown and abs(cost - told) < 1e-9))
PYTHON

phase "change, roll back"
sed -i 's/It is {forecast} in {city}\./In {city} it is {forecast}./' "$work/example/agent/graph.py"
shown "rapidclaw deploy --manifest langgraph.json      # one line changed"
"$rapidclaw" deploy --quiet --manifest "$work/example/langgraph.json"
turn "What is the weather in Paris?"
[[ $result == "In Paris it is "* ]] || fail "v2 does not answer with the change: $result"
shown "rapidclaw rollback"
(cd "$work/example" && "$rapidclaw" rollback)
turn "What is the weather in Paris?"
[[ $result == "It is "*" in Paris." ]] || fail "v3 does not answer as v1 did: $result"
line=$("$rapidclaw" status | cat)
echo "$line"
[[ $line == "agent v3 running "* ]] || fail "v3 does not serve: $line"

if [ -n "$keep" ]; then
    phases
    trap - EXIT
    cat <<END

all is left running; to use it:
  export PATH=$(dirname "$rapidclaw"):\$PATH RAPIDCLAW_CONFIG_DIR=$work/config RAPIDCLAW_DATA_DIR=$data${RAPIDCLAW_BASE_IMAGE:+ RAPIDCLAW_BASE_IMAGE=$RAPIDCLAW_BASE_IMAGE}
  cd $work/example
  rapidclaw status
to stop it and remove what it made:
  $rapidclaw server stop --data-dir $data; kill $stub_pid; rm -rf $work${dockerd_pid:+; kill $dockerd_pid}
END
    exit 0
fi

phase "stop"
shown "rapidclaw server stop"
"$rapidclaw" server stop --data-dir "$data"
phases
