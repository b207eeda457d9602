#!/bin/sh
# Runs the molecule scenarios of all roles, or of those that are named: scripts/molecule.sh [ROLE|SCENARIO]...
# MOLECULE_ACTION=converge (verify, login, ...) instead of the whole test.
set -eu
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH
export PATH

export MOLECULE_GLOB="molecule/*/molecule.yml"
scenarios=
for role in "${@:-}"; do
    found=$(cd molecule && ls -d "$role"*/molecule.yml 2>/dev/null | cut -d / -f 1) || true
    [ -n "$found" ] || { echo "no molecule scenario $role; there are: $(cd molecule && ls -d -- */ | tr '/\n' '  ')" >&2; exit 2; }
    scenarios="$scenarios $found"
done

failed=
for scenario in $scenarios; do
    MOLECULE_EPHEMERAL_DIRECTORY=$PWD/build/molecule/$scenario.work \
        molecule --base-config molecule/config.yml "${MOLECULE_ACTION:-test}" --scenario-name "$scenario" || failed="$failed $scenario"
done
[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }
