#!/bin/bash
# The test suite: scripts/test.sh [all] [GROUP]...
# Groups run in this order; one that takes longer than its budget is shown as slow, one that takes more than
# twice as long (with all: six times) is stopped and counts as failed.
# name | minutes | runs in `make test`? | needs the lab? | command
set -uo pipefail
cd "$(dirname "$0")/.."
CHIPS=nvidia-h100,ascend-a3,ascend-a2
GROUPS_TABLE="
static       |  3 | yes | no  | scripts/check.sh
unit         |  5 | yes | no  | python -m pytest tests/unit
lab          |  8 | yes | no  | python -m flagprov lab up --hosts 2 --chips $CHIPS
integration  |  6 | yes | yes | integration
main         | 12 | yes | yes | e2e main_job bad_hosts comes_back installed
releases     |  8 | yes | yes | e2e chips
ansible      |  8 | yes | yes | e2e plain_ansible reprovision least
multinode    | 10 | yes | yes | e2e multinode ray flaggems
faults       |  6 | yes | yes | e2e faults
rollouts     | 10 | yes | yes | e2e rollout gateway replace
distribution |  6 | yes | yes | e2e images built_images
roles        | 12 | yes | no  | scripts/molecule.sh --defaults
arm64        | 40 | no  | no  | python -m flagprov lab up --hosts 2 --chips $CHIPS,graviton4 && e2e chips
scenarios    | 60 | no  | no  | scripts/molecule.sh
"
for file in tests/e2e/test_*.py; do
    name=$(basename "$file" .py)
    [[ $GROUPS_TABLE =~ [\ ]${name#test_}([\ ]|$'\n') ]] || { echo "no group has $file" >&2; exit 1; }
done
e2e() {
    local files=("${@/#/tests/e2e/test_}")
    python -m pytest "${files[@]/%/.py}" -m "$marked"
}
integration() { python -m pytest tests/integration -m "$marked"; }
export -f e2e integration
export PATH=$PWD/.venv/bin:$PATH PYTHONUNBUFFERED=1

all=no patience=2
export marked="not thorough"
[ "${1:-}" != all ] || { all=yes patience=6 marked=; shift; }
wanted=" $* "

# A lab that was up before stays up.
kept=no used=no
[ ! -e inventory/lab.ini ] || kept=yes

results= child=
leave() {
    trap - EXIT INT TERM
    # timeout hands the signal on to all that it started.
    [ -z "$child" ] || { kill -TERM "$child" 2>/dev/null && wait "$child"; }
    local scenario
    for scenario in build/molecule/*/; do
        [ -d "$scenario" ] && [ "$used" = yes ] || continue
        python molecule/instances.py destroy "[{\"name\": \"$(basename "$scenario")\"}]" >/dev/null
    done
    if [ "$kept" = no ] && [ "$used" = yes ]; then
        python -m flagprov lab down >/dev/null || results="$results|lab down;failed;0;1"
    fi
    printf '\n%-13s %-8s %9s %9s\n' group result time budget
    local failed=0 row
    while IFS=';' read -r name result seconds budget; do
        [ -n "$name" ] || continue
        printf '%-13s %-8s %6d:%02d %6d:00\n' "$name" "$result" $((seconds / 60)) $((seconds % 60)) "$budget"
        [[ $result = passed || $result = slow ]] || failed=1
    done < <(tr '|' '\n' <<< "$results")
    exit "$((failed | ${1:-0}))"
}
trap 'leave 1' INT TERM
trap 'leave 0' EXIT

lab=there
[ "$kept" = yes ] || lab=missing
trim() { local text=${1#"${1%%[![:space:]]*}"}; printf '%s' "${text%"${text##*[![:space:]]}"}"; }

while IFS='|' read -r name minutes listed needs command <&3; do
    name=$(trim "$name") minutes=$(trim "$minutes") listed=$(trim "$listed") needs=$(trim "$needs")
    [ -n "$name" ] || continue
    if [ "$wanted" != "  " ]; then
        [[ $wanted = *" $name "* ]] || continue
    elif [ "$listed" = no ] && [ "$all" = no ]; then
        continue
    fi
    if [ "$needs" = yes ] && [ "$lab" = failed ]; then
        results="$results|$name;not run;0;$minutes"
        continue
    fi
    if [ "$needs" = yes ] && [ "$lab" = missing ]; then
        used=yes
        echo "--- lab, which $name needs"
        python -m flagprov lab up --hosts 2 --chips "$CHIPS" </dev/null || { results="$results|$name;failed;0;$minutes"; lab=failed; continue; }
        lab=there
    fi
    case $name in static | unit) ;; *) used=yes ;; esac
    printf '\n--- %s (budget %d min)\n' "$name" "$minutes"
    began=$SECONDS
    timeout --kill-after=30 "$((patience * minutes))m" bash -c "$command" </dev/null &
    child=$!
    wait "$child"
    code=$?
    child=
    took=$((SECONDS - began))
    case $code in
        0) [ "$took" -le $((60 * minutes)) ] && result=passed || result=slow ;;
        124 | 137) result=late ;;
        *) result=failed ;;
    esac
    results="$results|$name;$result;$took;$minutes"
    [ "$name" != lab ] || { [ "$code" = 0 ] && lab=there || lab=failed; }
done 3<<< "$GROUPS_TABLE"
