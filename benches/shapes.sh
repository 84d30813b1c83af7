#!/usr/bin/env bash
# Measures what a change of a project costs, by the shape of the project: requirements.txt, uv.lock, Poetry, setup.py.
#
#   benches/shapes.sh [--smoke]      --smoke: one change of two shapes
#
# Each is deployed to a server of its own and then changed by one line, built here and by the server (`--build server`),
# side by side. Then a rollback to a release whose replicas are gone; `validate` of a project of 500 files, beside
# Python's reading of the same; and what rounds of deploys and destroys leave in the engine.
# RAPIDCLAW_BIN names a binary; else the release profile is built (--smoke: dev). Prints tables and JSON.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
. "$here/../scripts/lib.sh"
# shellcheck source=benches/server.sh
. "$here/server.sh"
me=bench

shapes=(requirements lock poetry setup) changes=5 rounds=20 profile=release
case ${1:-} in
"") ;;
--smoke) shapes=(requirements poetry) changes=1 rounds=2 profile=dev ;;
*)
    sed -n '2,9s/^# \{0,1\}//p' "$0"
    [[ $1 == -h || $1 == --help ]] || exit 2
    exit 0
    ;;
esac
leave_well
ensure_commands curl setsid setpriv -- curl util-linux
ensure_python
ensure_docker
ensure_postgres
ensure_base_image 3.12
ensure_binary "$profile"
own_folder
own_server
own_login

# make SHAPE FOLDER: a project of one graph.
make() {
    local folder=$2
    mkdir -p "$folder/shop"
    cat >"$folder/langgraph.json" <<JSON
{"dependencies": ["."], "graphs": {"agent": "./shop/agent.py:graph"}, "rapidclaw": {"name": "bench-shape-$1", "min_replicas": 1}}
JSON
    touch "$folder/shop/__init__.py"
    cat >"$folder/shop/agent.py" <<'PYTHON'
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph


def answer(state: MessagesState) -> dict:
    return {"messages": [AIMessage("hello")]}


graph = StateGraph(MessagesState).add_node(answer).add_edge(START, "answer").compile()
PYTHON
    local project='[project]\nname = "shop"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["langgraph>=1.0,<2"]\n'
    case $1 in
    requirements) echo "langgraph>=1.0,<2" >"$folder/requirements.txt" ;;
    lock)
        # shellcheck disable=SC2059
        printf "$project" >"$folder/pyproject.toml"
        "$uv" lock --quiet --directory "$folder"
        ;;
    poetry)
        printf '[tool.poetry]\nname = "shop"\nversion = "1"\ndescription = ""\nauthors = []\n[tool.poetry.dependencies]\npython = "^3.11"\nlanggraph = ">=1.0,<2"\n[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n' >"$folder/pyproject.toml"
        ;;
    setup)
        echo 'from setuptools import find_packages, setup; setup(name="shop", version="1", packages=find_packages(), install_requires=["langgraph>=1.0,<2"])' >"$folder/setup.py"
        ;;
    esac
}

if [ -z "${RAPIDCLAW_TEST_PYTHON:-}" ]; then
    ensure_venv "$target/test-python" "$root/tests/python/requirements.txt"
    RAPIDCLAW_TEST_PYTHON=$python
fi
uv=$(dirname "$RAPIDCLAW_TEST_PYTHON")/uv

# took COMMAND...: its seconds by the clock, once what came before is put away (old replicas end, images are tidied).
took() {
    local begin
    sleep 2
    begin=$(now)
    "$@" >/dev/null
    awk "BEGIN { printf \"%.2f\", $(now) - $begin }"
}
median() { printf '%s\n' "$@" | sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

rows=()
for shape in "${shapes[@]}"; do
    folder=$work/$shape
    make "$shape" "$folder"
    say "$shape: the first deploy"
    first=$(took "$rapidclaw" deploy --quiet --manifest "$folder/langgraph.json")
    here_times=() there_times=()
    for change in $(seq "$changes"); do
        echo "# changed here $change $RANDOM" >>"$folder/shop/agent.py"
        here_times+=("$(took "$rapidclaw" deploy --quiet --manifest "$folder/langgraph.json")")
        echo "# changed for the server $change $RANDOM" >>"$folder/shop/agent.py"
        there_times+=("$(took "$rapidclaw" deploy --quiet --build server --manifest "$folder/langgraph.json")")
    done
    rows+=("{\"shape\": \"$shape\", \"first_s\": $first, \"change_s\": $(median "${here_times[@]}"), \"change_by_server_s\": $(median "${there_times[@]}")}")
    say "${rows[-1]}"
done

say "a rollback whose standby is gone"
server=$("$rapidclaw" whoami --json | json server.id)
agent=bench-shape-${shapes[0]}
serving=$("$rapidclaw" status "$agent" --json | python3 -c 'import json, sys; told = json.load(sys.stdin); print((told.get("agents") or [told])[0]["version"])')
for container in $(docker ps -q --filter "label=rapidclaw.server=$server" --filter "label=rapidclaw.agent=$agent"); do
    version=$(docker inspect -f '{{index .Config.Labels "rapidclaw.version"}}' "$container")
    [ "$version" = "$serving" ] || docker rm -f "$container" >/dev/null
done
rollback=$(took "$rapidclaw" rollback --agent "$agent" --yes --quiet)

say "validate of 500 files"
python3 - "$work/many" <<'PYTHON'
import pathlib, sys
folder = pathlib.Path(sys.argv[1])
(folder / "pkg").mkdir(parents=True)
(folder / "langgraph.json").write_text('{"dependencies": ["."], "graphs": {"agent": "./agent.py:graph"}, "rapidclaw": {"name": "many", "database": "auto"}}')
(folder / "requirements.txt").write_text("langgraph>=1\n")
(folder / ".gitignore").write_text("*.pyc\ndata/\nbuild/\n")
(folder / "agent.py").write_text("".join(f"from pkg.m{i} import f{i}\n" for i in range(500)) + "graph = 1\n")
(folder / "pkg/__init__.py").write_text("")
body = "".join(f"def g{j}(state, config=None):\n    value = {{'key': 'some text {j}', 'other': [1, 2, 3]}}\n    return value['key']\n\n" for j in range(30))
for i in range(500):
    (folder / f"pkg/m{i}.py").write_text(f"import os\nfrom . import m{(i + 1) % 500}\n\n\ndef f{i}():\n    return open('data/x{i}.txt')\n\n\n{body}")
PYTHON
validate=$(python3 - "$rapidclaw" "$work/many" <<'PYTHON'
import ast, json, pathlib, statistics, subprocess, sys, time
def median(work):
    times = []
    for _ in range(11):
        begin = time.perf_counter()
        work()
        times.append((time.perf_counter() - begin) * 1000)
    return round(statistics.median(times), 1)
command = [sys.argv[1], "validate", "--quiet", "--manifest", f"{sys.argv[2]}/langgraph.json"]
ours = median(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
files = list(pathlib.Path(sys.argv[2]).rglob("*.py"))
read = median(lambda: [file.read_bytes() for file in files])
parsed = median(lambda: [ast.parse(file.read_bytes()) for file in files])
print(json.dumps({"validate_ms": ours, "python_reads_ms": read, "python_parses_ms": parsed}))
PYTHON
)

say "what $rounds rounds leave"
used() { docker system df --format '{{.Type}} {{.Size}}' | awk '$1 == "Images" { print $2 }'; }
images() { docker images -aq | sort -u | wc -l; }
for shape in "${shapes[@]}"; do "$rapidclaw" destroy "bench-shape-$shape" --yes --quiet >/dev/null; done
before="$(used) in $(images) images"
for round in $(seq "$rounds"); do
    shape=${shapes[$((round % ${#shapes[@]}))]}
    echo "# round $round" >>"$work/$shape/shop/agent.py"
    "$rapidclaw" deploy --quiet --manifest "$work/$shape/langgraph.json" >/dev/null
    "$rapidclaw" destroy "bench-shape-$shape" --yes --quiet >/dev/null
done
after="$(used) in $(images) images"

printf '| shape | first deploy s | a changed line, built here: median s | built by the server: median s |\n| --- | --- | --- | --- |\n'
for row in "${rows[@]}"; do
    python3 -c 'import json, sys; row = json.loads(sys.argv[1]); print("|", " | ".join(str(value) for value in row.values()), "|")' "$row"
done
echo "rollback without standby: ${rollback} s; $validate; images before $rounds rounds: $before, after: $after"
python3 -c 'import json, sys; print(json.dumps({"shapes": [json.loads(row) for row in sys.argv[5:]], "rollback_s": float(sys.argv[1]), "validate": json.loads(sys.argv[2]), "before": sys.argv[3], "after": sys.argv[4]}))' \
    "$rollback" "$validate" "$before" "$after" "${rows[@]}"
