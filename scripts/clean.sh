#!/bin/bash
# Takes away what the other scripts made. Debian packages that were installed stay: others may use them.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -d build ] && command -v docker >/dev/null; then
    PYTHONDONTWRITEBYTECODE=1 python3 -m flagprov.lab clean
fi
rm -rf build dist .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .ansible *.egg-info
find . -name __pycache__ -type d -prune -exec rm -rf {} +
