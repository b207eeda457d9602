#!/bin/sh
# flagprov beside one paramiko connection per host (the floor), pyinfra, Mitogen and Ansible, on N lab hosts.
# Arguments go to measure.py. Results: benchmarks/out/rollout.json and rollout.png.
set -eu
here=$(dirname "$(readlink -f "$0")")
root=$(dirname "$(dirname "$here")")
python=${PYTHON:-$root/.venv/bin/python}
out=$root/benchmarks/out
mkdir -p "$out/peers"
environment() { # name, requirements
    [ "$(cat "$out/$1/.requirements" 2>/dev/null)" = "$(cat "$2")" ] && return
    [ -x "$out/$1/bin/python" ] || python3 -m venv "$out/$1"
    "$out/$1/bin/python" -m pip install -q -r "$2"
    cp "$2" "$out/$1/.requirements"
}
environment peers/ansible "$here/requirements-ansible.txt"
environment peers/pyinfra "$here/requirements-pyinfra.txt"
environment plots "$here/requirements.txt"
"$python" "$here/measure.py" "$@"
"$out/plots/bin/python" "$here/plot.py"
