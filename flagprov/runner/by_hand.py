"""`start.sh`: what the launcher starts on a node, as shell that a person reads, and runs by hand; pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from flagprov.host.launcher_launch import preamble

if TYPE_CHECKING:
    from flagprov.host.launcher_ray import Ray

SCRIPT = "start.sh"
HEADER = """#!/bin/bash
# Rendered by flagprov: what the launcher starts for {who}. The launcher does not read this file.
# It is run in the container while the launcher is held there: docs/runner.md, "By hand".
run=${{FLAGPROV_RUN:-/run/flagprov}}
export FLAGPROV_CONFIG=${{FLAGPROV_CONFIG:-$(dirname "$(realpath "$0")")}}
export FLAGPROV_EXP_DIR=$run/exp PYTHONUNBUFFERED=1
"""
OPERATORS = """export FLAGPROV_RUN=$run FLAGPROV_ENGINE=$FLAGPROV_CONFIG/engine
export FLAGPROV_OPERATORS=$FLAGPROV_CONFIG/{file}
"""
RAY = 'export VLLM_CONFIG_ROOT="${VLLM_CONFIG_ROOT:-$FLAGPROV_EXP_DIR/first/vllm}"\n'
ALL_NODES = """until [ "$({asked} | grep -c ' node_')" -ge {nodes} ]; do
    echo 'flagprov: waiting for Ray on {nodes} nodes: run {script} on the others'
    sleep 5
done
"""


def start_script(launch: Mapping[str, Any]) -> str:
    """Of the document that launch.json is."""
    ray, hosts = _ray(launch), launch.get("peers", {}).get("hosts")
    who = str(launch["replica"])
    if hosts:
        who = f"rank {launch['rank']} of {who} on {hosts[launch['rank']]}"
    parts = [HEADER.format(who=" ".join(who.split()))]  # of one line, for it stands in a comment
    parts += [f"export {name}={shlex.quote(value)}\n" for name, value in launch["env"].items()]
    if launch.get("operators"):
        parts.append(OPERATORS.format(file=launch["operators"]))
    if ray:
        parts.append(RAY)
    return "".join([*parts, preamble(launch), *_last(launch, ray)])


def _ray(launch: Mapping[str, Any]) -> Ray | None:
    if not launch.get("ray"):
        return None
    from flagprov.host.launcher_ray import Ray

    return Ray(launch["ray"], "")


def _last(launch: Mapping[str, Any], ray: Ray | None) -> Iterator[str]:
    beside = bool(launch["rank"])
    if launch["kind"] == "flagscale":
        if beside:
            head = launch["peers"]["hosts"][0]
            text = f"flagprov: nothing to start here: FlagScale enters from {head}"
            yield f"echo {shlex.quote(text)}\n"
            return
        said = launch["flagscale"]
        yield "# It comes back at once; what it started logs into $FLAGPROV_EXP_DIR/serve_logs.\n"
        yield f'exec flagscale serve {shlex.quote(said["label"])} "$FLAGPROV_CONFIG"/{said["config"]}\n'
        return
    if launch["kind"] == "ray" and ray:
        start = ray.start(head=not beside)
        if beside:
            yield f"exec {shlex.join(start)}\n"
            return
        yield f"{shlex.join(word for word in start if word != '--block')} || exit\n"
        yield ALL_NODES.format(asked=shlex.join(ray.asked()), nodes=ray.nodes, script=SCRIPT)
    yield f'exec {shlex.join(launch["argv"])} "$@"\n'
