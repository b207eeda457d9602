#!/bin/bash
# What needs no test run: style, types, import rules, the Python that hosts must understand.
set -uo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH
failed=

# A tool that is content says nothing.
check() {
    local said
    said=$("$@" 2>&1) && return
    printf '%s\n' "--- $*" "$said"
    failed="$failed $1"
}

check ruff check --quiet .
check ruff format --check --quiet .
check mypy
check lint-imports --no-cache
check vermin --quiet --violations --target=3.8- --no-tips --backport dataclasses flagprov/host flagprov/engine
check yamllint --strict roles playbooks molecule
check ansible-lint --nocolor -q roles playbooks plugins
check ansible-lint --offline -qq roles playbooks
[ -z "$failed" ] || { echo "static checks failed:$failed" >&2; exit 1; }
