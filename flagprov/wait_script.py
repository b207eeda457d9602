"""The script that a replica's unit runs before its container: everything it needs is there, or it waits."""

from __future__ import annotations

import re
import shlex

from flagprov.access import chip_mounts, own_nodes
from flagprov.models.desired import unit_name
from flagprov.runner.user import container_user
from flagprov.serving import Serving, replica_path, site_path

PATIENCE_S = 600

SCRIPT = """#!/bin/sh
# Written by flagprov. Runs before the container of {replica} is started: backs off after a crash, then
# waits for mounts and device nodes, so that docker never makes empty directories in place of missing ones.
set -u
restarts=$(systemctl show -p NRestarts --value {unit})
case "$restarts" in
    ''|0|*[!0-9]*) ;;
    1) sleep 1 ;;
    2) sleep 5 ;;
    *) sleep 30 ;;
esac
waited=0
wait_for() {{
    until "$@" 2>/dev/null; do
        if [ "$waited" -ge {patience} ]; then
            echo "flagprov: gave up after {patience} s waiting for: $*" >&2
            exit 1
        fi
        [ $((waited % 30)) -ne 0 ] || echo "flagprov: waiting for: $*" >&2
        sleep 1
        waited=$((waited + 1))
    done
}}
{tools}while read -r point; do
    wait_for mountpoint -q "$point"
done < {mounts}
{paths}{own}"""

# Here, where the container of before is gone.
OWN = """# The launcher's user writes there; what another one left it could not take away.
if [ "$(stat -c %u {run} 2>/dev/null)" != {user} ]; then
    rm -rf {run}
    install -d -m 0755 -o {user} {run}
fi
"""

# A GPU's device node has the number that the kernel gave it; nvidia-smi counts along the bus.
GPU = """gpu() {
    minor=$(ls -d /proc/driver/nvidia/gpus/* 2>/dev/null | sed -n "$(($1 + 1))p" |
        xargs -r -I {} sed -n 's/^Device Minor:[[:space:]]*//p' {}/information)
    test -e "/dev/nvidia${minor:-$1}"
}
"""


def wait_script(serving: Serving) -> str:
    """Shell text; every path is quoted."""
    instance = serving.replica.instance
    container = serving.variant.container
    mounts = (
        *container.mounts,
        *chip_mounts(serving.chip, serving.variant, several_nodes=bool(serving.replica.nodes)),
    )
    needed = [site_path(mount.source, serving) for mount in mounts if not mount.optional]
    needed += [device.source for device in container.devices if not device.optional]
    needed += own_nodes(serving.chip, serving.replica.devices)
    tests = [_test(path) for path in dict.fromkeys(needed)]
    return SCRIPT.format(
        replica=instance,
        unit=shlex.quote(unit_name(instance)),
        patience=PATIENCE_S,
        mounts=shlex.quote(f"{replica_path(instance)}/mounts"),
        tools=GPU if any(test.startswith("gpu ") for test in tests) else "",
        paths="".join(f"wait_for {test}\n" for test in tests),
        own=OWN.format(
            run=shlex.quote(f"{replica_path(instance)}/run"),
            user=container_user(serving.variant, serving.facts),
        ),
    )


def _test(path: str) -> str:
    gpu = re.fullmatch("/dev/nvidia([0-9]+)", path)
    return f"gpu {gpu[1]}" if gpu else f"test -e {shlex.quote(path)}"
