#!/bin/bash
# Runs molecule scenarios: scripts/molecule.sh [--defaults] [ROLE|SCENARIO]...
# All of them, those that are named, or with --defaults each role's default; one per processor at a time.
# MOLECULE_ACTION=converge (verify, login, ...) instead of the whole test; a single scenario is shown as it runs.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PWD/.venv/bin:$PATH MOLECULE_GLOB="molecule/*/molecule.yml"

run() { # scenario
    MOLECULE_EPHEMERAL_DIRECTORY=$PWD/build/molecule/$1.work \
        molecule --base-config molecule/config.yml "${MOLECULE_ACTION:-test}" --scenario-name "$1"
}

run_quietly() { # scenario; its output is shown when it fails
    local log=build/molecule/$1.log began=$SECONDS
    if run "$1" >"$log" 2>&1 </dev/null; then
        printf '%-34s passed %3d s\n' "$1" $((SECONDS - began))
    else
        printf '%-34s FAILED %3d s\n%s\n' "$1" $((SECONDS - began)) "$(tail -n 60 "$log")"
        return 1
    fi
}

pattern='*'
[ "${1:-}" != --defaults ] || { pattern='*default'; shift; }
scenarios=()
for role in "${@:-}"; do
    found=$(cd molecule && compgen -G "$role$pattern/molecule.yml" | cut -d / -f 1) || true
    [ -n "$found" ] || {
        echo "no molecule scenario $role; there are: $(cd molecule && ls -d -- */ | tr '/\n' '  ')" >&2
        exit 2
    }
    mapfile -t -O "${#scenarios[@]}" scenarios <<< "$found"
done

mkdir -p build/molecule
if [ ${#scenarios[@]} = 1 ]; then
    run "${scenarios[0]}"
    exit
fi
export -f run run_quietly
printf '%s\n' "${scenarios[@]}" | xargs -P "$(nproc)" -I {} bash -c 'run_quietly {}'
