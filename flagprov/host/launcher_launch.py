"""launch.json, and the one shell in which it starts the engine."""

from __future__ import annotations

import json
import os
import shlex
from typing import Any, Dict, Mapping, Sequence

SCHEMA_VERSION = 1
KINDS = ("flagscale", "nodes", "ray", "command")

# After the card's own lines, which may set either anew. VLLM_PLUGINS is an allow-list where it is set.
PLUGIN = """export PYTHONPATH="$FLAGPROV_ENGINE${PYTHONPATH:+:$PYTHONPATH}"
if [ -n "${VLLM_PLUGINS+set}" ]; then export VLLM_PLUGINS="$VLLM_PLUGINS,flagprov_operators"; fi"""


class Unusable(Exception):
    """launch.json cannot be used; the message says why."""


def read_launch(directory: str) -> Dict[str, Any]:
    """launch.json, checked as far as the launcher depends on it."""
    path = os.path.join(directory, "launch.json")
    try:
        with open(path, "rb") as file:
            launch = json.loads(file.read().decode("utf-8"))
    except (OSError, ValueError) as error:
        raise Unusable("%s cannot be read: %s" % (path, error)) from None
    if not isinstance(launch, dict) or launch.get("schema_version") != SCHEMA_VERSION:
        raise Unusable("%s is not of schema version %d" % (path, SCHEMA_VERSION))
    if launch.get("kind") not in KINDS:
        raise Unusable("%s: kind %r is unknown to this launcher" % (path, launch.get("kind")))
    return launch


def empty_shm(path: str = "/dev/shm") -> None:
    """What killed workers leave there; only where it is this container's own."""
    for name in os.listdir(path):
        try:
            os.unlink(os.path.join(path, name))
        except OSError:
            pass


def shell_script(launch: Mapping[str, Any], argv: Sequence[str]) -> str:
    """The one shell in which everything before the engine happens, ending as the engine."""
    return preamble(launch) + "exec " + " ".join(shlex.quote(word) for word in argv) + "\n"


def preamble(launch: Mapping[str, Any]) -> str:
    """The vendor's scripts, the card's lines, our plugin and our commands."""
    # Vendors' scripts read unset variables and let commands fail, so neither -e nor -u.
    lines = ["set +eu"]
    for path in launch.get("source", ()):
        quoted = shlex.quote(path)
        lines.append(
            "if [ -e %s ]; then . %s; else echo flagprov: no %s, skipped; fi" % (quoted, quoted, quoted)
        )
    for number, line in enumerate(launch.get("before_start", ()), 1):
        lines.append(line)
        lines.append(
            'flagprov_rc=$?; if [ "$flagprov_rc" -ne 0 ]; then'
            ' echo "flagprov: before_start line %d failed (exit code $flagprov_rc)"; exit 97; fi' % number
        )
    if launch.get("operators"):
        lines.append(PLUGIN)
    if launch.get("ray"):
        lines.append('export PATH="$FLAGPROV_EXP_DIR/first:$PATH"')
    # FlagScale calls `python`, which some images have as python3 only.
    lines.append('PATH="$PATH:$FLAGPROV_EXP_DIR/bin"; export PATH')
    return "\n".join(lines) + "\n"
