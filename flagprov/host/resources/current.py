"""Which of its configurations a slot's launcher runs: a link, which the launcher follows by itself.

A new configuration, or one that was put right, costs a restart of the engine in its container.
"""

from __future__ import annotations

import os
import time

from flagprov.host import docker, launched
from flagprov.host.resources import unit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TAKEN_S = 5.0  # a launcher looks twice a second; one that is frozen or paused does not
READ_S = 0.05  # between two looks at what it says
ASK_S = 1.0  # docker is asked less often


def observe(spec: dict[str, Any]) -> dict[str, Any]:
    try:
        target = os.path.join(os.path.dirname(spec["path"]), os.readlink(spec["path"]))
    except OSError:
        target = ""
    return {"config": target, "link": os.path.islink(spec["path"]) or not os.path.lexists(spec["path"])}


def diff(spec: dict[str, Any], observed: dict[str, Any], changed: set[str]) -> list[tuple[str, str, str]]:
    if not observed["link"]:
        return [("block", "%s is not a link" % spec["path"], "move it away")]
    if observed["config"] != spec["config"]:
        why = "it runs another configuration" if observed["config"] else "no configuration was chosen yet"
        return [("switch", why, "restart")]
    if spec["config"] in changed:
        return [("switch", "its configuration was put right", "restart")]
    return []


def apply(spec: dict[str, Any], observed: dict[str, Any]) -> None:
    beside = spec["path"] + ".new"
    if os.path.lexists(beside):
        os.unlink(beside)
    os.symlink(os.path.basename(spec["config"]), beside)
    os.rename(beside, spec["path"])
    _awaited(spec)


def _awaited(spec: dict[str, Any]) -> None:
    """Until the launcher has begun to follow. Where none can, its unit is restarted: a back-off is cut short.

    So is one that is held: what a person started in its container is none of the launcher's. A unit that is
    not to run yet is left to its own resource.
    """
    asked = time.monotonic()
    deadline = asked + TAKEN_S
    held = os.path.exists(os.path.join(os.path.dirname(spec["path"]), "..", "host", "hold"))
    found = docker.container(spec["container"])
    while found and found["State"]["Running"] and not held:
        said = launched.said(spec["container"], found)
        if said.get("follows") or said.get("phase") == "stopping":
            return unit.begins(spec["unit"])
        if found["State"].get("Paused") or said.get("phase") == "ended" or time.monotonic() > deadline:
            return unit.restart(spec["unit"])
        time.sleep(READ_S)
        if time.monotonic() - asked > ASK_S:
            found, asked = docker.container(spec["container"]), time.monotonic()
    if unit.observe(spec)["active"] in unit.RUNNING:
        unit.restart(spec["unit"])
    return None
