"""The other slot of a replica is empty: one engine of it, and no second one that comes back by itself."""

from __future__ import annotations

import os
import shutil

from flagprov.host import docker
from flagprov.host.resources import container, unit
from flagprov.host.shell import unit_state
from flagprov.host.slots import CONFIGS, CONTAINER, folder, in_place, unit_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def observe(spec: dict[str, Any]) -> dict[str, Any]:
    there = container.observe({"name": CONTAINER + spec["name"], "replica": spec["replica"], "absent": True})
    here = folder(spec["name"])
    second = spec["name"] != spec["replica"] and os.path.isdir(here)
    return {
        "there": there["exists"] or second or os.path.exists(os.path.join(here, "mounts")),
        "foreign": there["exists"] and not there["ours"],
        "replica": in_place(spec["replica"]) == spec["name"],
    }


def diff(spec: dict[str, Any], observed: dict[str, Any], changed: set[str]) -> list[tuple[str, str, str]]:
    if observed["foreign"]:
        name = CONTAINER + spec["name"]
        return [("block", "a container %s is not flagprov's" % name, "rename or remove it")]
    if not observed["there"]:
        return []
    if observed["replica"]:  # it serves, and has to be drained
        return [("remove", "%s takes its place" % spec["for"], "restart")]
    return [("remove", "%s serves in its place" % spec["for"], "nothing")]


def apply(spec: dict[str, Any], observed: dict[str, Any]) -> None:
    """The mark goes last: until then the next run finds what is left to do."""
    name = spec["name"]
    own = unit_name(name)
    if unit_state(own).get("LoadState") == "loaded":
        unit.apply({"unit": own, "active": False, "stop_timeout_s": spec["stop_timeout_s"]}, {})
    if docker.container(CONTAINER + name):
        docker.call("DELETE", "/containers/%s?force=1" % docker.quote(CONTAINER + name))
    here = folder(name)
    for place in ("run", "host", CONFIGS):  # also what a person holds it by
        shutil.rmtree(os.path.join(here, place), ignore_errors=True)
    for file in ("wait", "mounts"):
        if os.path.exists(os.path.join(here, file)):
            os.unlink(os.path.join(here, file))
    if name != spec["replica"]:  # the first slot's folder is the replica's, with its history
        shutil.rmtree(here, ignore_errors=True)
