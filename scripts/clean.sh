#!/bin/bash
# Takes away what the other scripts made. Debian packages that were installed stay: others may use them.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -d build ] && command -v docker >/dev/null; then
    # The lab needs no more than Python's own library.
    python3 -B -c 'from flagprov import lab; lab.clean(print)'
fi
rm -rf build dist .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .ansible *.egg-info
find . -name __pycache__ -type d -prune -exec rm -rf {} +
