#!/bin/sh
# Fan-out beside scp, rsync and Ansible's copy, over links of 200 Mbit/s. Needs root, iproute2, sshd and rsync.
# Arguments go to measure.py. Results: benchmarks/out/distribution.json and distribution.png.
set -eu
here=$(dirname "$(readlink -f "$0")")
root=$(dirname "$(dirname "$here")")
python=${PYTHON:-$root/.venv/bin/python}
own=$root/benchmarks/out/venv
mkdir -p "$root/benchmarks/out"
"$python" "$here/measure.py" "$@"
[ -x "$own/bin/python" ] || python3 -m venv "$own"
"$own/bin/python" -c 'import matplotlib' 2>/dev/null || "$own/bin/python" -m pip install -q -r "$here/requirements.txt"
"$own/bin/python" "$here/plot.py"
