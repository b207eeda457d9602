#!/bin/bash
# The test suite: scripts/test.sh [all] [GROUP]...
# Groups run in this order; one that takes longer than its budget is shown as slow, one that takes more than
# twice as long is stopped and counts as failed.
# name | minutes | runs in `make test`? | needs the lab? | command
set -uo pipefail
cd "$(dirname "$0")/.."
GROUPS_TABLE='
static      |  3 | yes | no  | scripts/check.sh
unit        |  5 | yes | no  | python -m pytest tests/unit
lab         |  7 | yes | no  | python -m flagprov lab up --hosts 2
integration | 10 | yes | yes | python -m pytest tests/integration
e2e         | 18 | yes | yes | python -m pytest tests/e2e
roles       | 15 | yes | no  | scripts/molecule.sh
'
export PATH=$PWD/.venv/bin:$PATH PYTHONUNBUFFERED=1

all=no
[ "${1:-}" != all ] || { all=yes; shift; }
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
        python molecule/instances.py destroy "$(basename "$scenario")" >/dev/null
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
        python -m flagprov lab up --hosts 2 </dev/null || { results="$results|$name;failed;0;$minutes"; lab=failed; continue; }
        lab=there
    fi
    case $name in static | unit) ;; *) used=yes ;; esac
    printf '\n--- %s (budget %d min)\n' "$name" "$minutes"
    began=$SECONDS
    timeout --kill-after=30 "$((2 * minutes))m" bash -c "$command" </dev/null &
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
