"""A replica's two slots on a host: a new engine may start in the free one while the old one serves.

What is in the first slot has the replica's name, what is in the second a suffix. Which of them is the
replica, its record says; whatever is in the other one has given way, or was left by a run that was cut off.
"""

from __future__ import annotations

import os

from flagprov.host.files import read_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STATE = "/var/lib/flagprov"
CONTAINER = "flagprov-"
SECOND = ".b"  # no replica's name ends so: they end with a number
RECORD = "record.json"
CONFIGS = "configs"  # of a slot: its configurations, each named by its content
CURRENT = "current"  # among them: the link to the one that its launcher runs
HOST = "/run/flagprov-host"  # in a container: the folder `host` of its slot, where only the host writes


def folder(name: str) -> str:
    """Of a replica, or of what is in one of its slots."""
    return os.path.join(STATE, "replicas", name)


def unit_name(name: str) -> str:
    """Of what is in one of a replica's slots."""
    return "flagprov@%s.service" % name


def opposite(slot: str) -> str:
    return "" if slot else SECOND


def across(name: str) -> str:
    """What is in the other slot of the same replica is called so; of containers too."""
    return name[: -len(SECOND)] if name.endswith(SECOND) else name + SECOND


def in_place(replica: str) -> str:
    """The name of what is the replica now: as its record says, or what serves alone in its other slot."""
    record = read_json(os.path.join(folder(replica), RECORD)) or {}
    name = replica + str((record.get("replica") or {}).get("slot", ""))
    other = across(name)
    if occupied(other) and not _runs(name) and _runs(other):
        return other
    return name


def occupied(name: str) -> bool:
    """Written before a container is made, and the last to go."""
    return os.path.exists(os.path.join(folder(name), "mounts"))


def _runs(name: str) -> bool:
    from flagprov.host import docker

    found = docker.container(CONTAINER + name)
    return bool(found and found["State"]["Running"])


def with_others(resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The resources, and what is in the other slots of their replicas to go.

    Before the new one starts, for both may be too much; once it runs, after it has proved itself.
    """
    found = list(resources)
    for resource in resources:
        name, replica = resource["name"][len(CONTAINER) :], resource["replica"]
        if resource["kind"] != "container" or resource["spec"].get("absent"):
            continue
        other = replica + opposite(name[len(replica) :])
        if occupied(other):
            spec = {"name": other, "replica": replica, "for": name}
            spec["stop_timeout_s"] = resource["spec"].get("stop_timeout_s", 120)
            gone = dict(resource, kind="slot", name=other, spec=spec)
            at = len(found) if _runs(name) else found.index(resource)
            found.insert(at, gone)
    return found


def beside(resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Less what makes it the replica: its record, and that it comes back after a reboot."""
    found = []
    for resource in resources:
        spec = resource["spec"]
        if resource["kind"] == "unit":
            resource = dict(resource, spec=dict(spec, enabled=False))
        if not (resource["kind"] == "file" and os.path.basename(spec["path"]) == RECORD):
            found.append(resource)
    return found
