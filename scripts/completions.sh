#!/usr/bin/env bash
# Writes completions/ anew from the command line as it is; tests/it/cli/completions.rs fails where they differ.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
ensure_binary dev
mkdir -p "$root/completions"
cd "$root/completions"
# Each under the name that its shell looks for.
"$rapidclaw" completions bash >rapidclaw.bash
"$rapidclaw" completions zsh >_rapidclaw
"$rapidclaw" completions fish >rapidclaw.fish
"$rapidclaw" completions powershell >_rapidclaw.ps1
"$rapidclaw" completions elvish >rapidclaw.elv
say "completions/ is as the command line is"
