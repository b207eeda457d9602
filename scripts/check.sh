#!/bin/bash
# What needs no test run: style, types, import rules, the Python that hosts must understand.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH
ruff check .
ruff format --check --quiet .
mypy
lint-imports --no-cache >/tmp/flagprov-imports.$$ || { cat /tmp/flagprov-imports.$$; rm -f /tmp/flagprov-imports.$$; exit 1; }
rm -f /tmp/flagprov-imports.$$
vermin --quiet --violations --target=3.8- --no-tips --backport dataclasses flagprov/host flagprov/engine
yamllint --strict roles playbooks molecule
