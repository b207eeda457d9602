"""A host as it is before anything is decided."""

from __future__ import annotations

import os
import time

from flagprov.host import docker, machine, networks
from flagprov.host.facts import devices, system
from flagprov.host.files import read_json
from flagprov.host.wire import Blocked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STATE = "/var/lib/flagprov"
PREFIX = "io.flagprov."
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"


def survey(request: dict[str, Any]) -> dict[str, Any]:
    """With a release named, also a look at what was deployed of it last: mostly that is asked next.

    `rdma`: also the RDMA ports, which only replicas over several hosts need.
    """
    release = system.os_release(machine.read("/etc/os-release"))
    engine = _engine()
    found, errors = devices.devices()
    containers = _containers()
    return {
        "arch": os.uname().machine,
        "os": release.get("PRETTY_NAME", "unknown"),
        "kernel": os.uname().release,
        "cpus": os.cpu_count() or 1,
        "memory_mib": machine.memory_mib(),
        "docker_version": engine,
        "provisioned": machine.read(os.path.join(STATE, "provisioned")).strip() or None,
        "devices": found,
        "running": replicas(containers),
        "records": records(),
        "facts": {
            "foreign": _foreign(containers),
            "docker_root_free_mib": _free(),
            "boot_id": machine.read("/proc/sys/kernel/random/boot_id").strip(),
            "device_errors": errors,
            "available_mib": machine.available_mib(),
            "machine": devices.maker(),
            "numa": devices.numa(),
            "networks": networks.networks(),
            "host_key": " ".join(machine.read(HOST_KEY).split()[:2]),
            "cordoned": _cordoned(),
            "unproved": _unproved(),
            "rdma": _rdma() if request.get("rdma") else None,
        },
        "looked": _looked(request) if request.get("release") else None,
    }


def _looked(request: dict[str, Any]) -> dict[str, Any] | None:
    from flagprov.host.converge import look
    from flagprov.host.history import asked, latest

    try:
        resources = latest(str(request["release"]), list(request.get("set", ())))
        if not resources:
            return None
        return {"asked": asked(resources), "look": look({"resources": resources})}
    except (Blocked, KeyError, TypeError):  # written by another version of flagprov
        return None


def _unproved() -> dict[str, bool]:
    from flagprov.host.history import unproved

    return unproved()


def _cordoned() -> dict[str, Any] | None:
    """Who took this host out of changes, why and when."""
    path = os.path.join(STATE, "cordoned.json")
    mark = read_json(path)
    if not isinstance(mark, dict):
        return None
    since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(os.stat(path).st_mtime))
    return {"by": str(mark.get("by", "")), "reason": str(mark.get("reason", "")), "since": since}


def _rdma() -> dict[str, Any]:
    from flagprov.host.facts.rdma import rdma

    return rdma()


def _engine() -> str | None:
    try:
        return docker.version()
    except (Blocked, docker.DockerError):
        return None


def _free() -> int:
    status = os.statvfs("/var/lib/docker" if os.path.isdir("/var/lib/docker") else "/var")
    return (status.f_bavail * status.f_frsize) >> 20


def _containers() -> list[dict[str, Any]]:
    try:
        return docker.call("GET", "/containers/json?all=1") or []
    except (Blocked, docker.DockerError):
        return []


def _foreign(containers: list[dict[str, Any]]) -> list[str]:
    """Containers that run and are not ours."""
    running = [
        c for c in containers if c["State"] == "running" and PREFIX + "replica" not in (c["Labels"] or {})
    ]
    return sorted(str(container["Names"][0]).lstrip("/") for container in running)


def replicas(containers: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    """Our replicas here: from the labels of containers, and from the records of those that lost theirs.

    `beside`: a second container of the same replica, in its other slot.
    """
    found: dict[str, dict[str, Any]] = {}
    known = records()
    for name, record in known.items():
        found[name] = dict(record["replica"], state="absent")
    for container in _containers() if containers is None else containers:
        labels = {
            key[len(PREFIX) :]: value
            for key, value in (container["Labels"] or {}).items()
            if key.startswith(PREFIX)
        }
        if not {"release", "chip", "hosts", "devices", "port"} <= set(labels):
            continue
        name, slot = labels["replica"], labels.get("slot", "")
        entry = {
            "replica": name,
            "release": labels["release"],
            "chip": labels["chip"],
            "hosts": labels["hosts"].split(","),
            "devices": [int(index) for index in labels["devices"].split(",") if index],
            "port": int(labels["port"]),
            "state": container["State"],
        }
        if slot:
            entry["slot"] = slot
        there = found.get(name)
        if there is None or there.get("slot", "") == slot:
            found[name] = dict(entry, beside=there["beside"]) if there and "beside" in there else entry
        elif name in known or slot:  # its record says which of the two is the replica; without one, the first
            there["beside"] = entry
        else:
            found[name] = dict(entry, beside=there)
    return sorted(found.values(), key=lambda replica: str(replica["replica"]))


def records() -> dict[str, Any]:
    """What was deployed here, by replica."""
    root = os.path.join(STATE, "replicas")
    names = sorted(os.listdir(root)) if os.path.isdir(root) else []
    found = {name: read_json(os.path.join(root, name, "record.json")) for name in names}
    return {name: record for name, record in found.items() if record}
